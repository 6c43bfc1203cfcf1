"""From Python, without the command line: a model, an image tensor, a picture.

python from_python.py                         # an untrained model on rendered scenes, to see the types
python from_python.py runs/quickstart/...     # a trained one
"""

from __future__ import annotations

import argparse

import torch

import objectscape
from objectscape import Scene
from objectscape.data.synthetic.tetrominoes import Tetrominoes
from objectscape.models.instance_coloring import ColoringAutoencoder


def main(run: str | None = None, out: str = "objects.png") -> None:
    """Decompose four scenes and draw what came out."""
    model = objectscape.load(run) if run else ColoringAutoencoder(slots=5).eval()
    images = Tetrominoes(split="test").batch([0, 1, 2, 3]).image  # (4, 3, 35, 35) uint8; yours may be float in [0, 1]
    with torch.no_grad():
        output = model(Scene(image=images))
    print("masks", tuple(output.masks.shape), "slots", tuple(output.slots.shape))
    print("pixels of each slot in the first image:", output.segments[0].flatten().bincount(minlength=5).tolist())
    objectscape.show(images, output).savefig(out)
    print(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run folder")
    parser.add_argument("--out", default="objects.png")
    options = parser.parse_args()
    main(options.run, options.out)
