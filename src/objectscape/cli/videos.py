"""Imagined clips as a file that scripts for the Frechet video distance read: `objectscape sample RUN --videos FILE`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import track

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import build_split, data_config, device_of, errors, note, open_model
from objectscape.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from objectscape.scene import Scene

POPULATION = 256
"""Clips of the published protocol."""
AT_ONCE = 16


def write_videos(
    run: RunFolder, model_words: dict[str, str], data_words: list[str], options: argparse.Namespace
) -> int:
    """Continue clips of the data, and write them as SSWM's `generate_videos` does with `save_FVD_format`.

    The file holds `videos` (V R, T, H, W, 3) float32, 0..255 and not rounded: of each of V clips R futures, one after
    the other, the context as the model reconstructs it. `clips` (V,) says which ones; the attributes say the rest.
    """
    import torch

    from objectscape.check import check_fit
    from objectscape.contract import Predicts, abilities
    from objectscape.evaluation.questions.realism import continued

    for file in (options.videos, options.real):
        if file is not None and file.suffix.lower() not in (".h5", ".hdf5"):
            raise ValueError(f"{file}: videos go into an HDF5 file, name.h5")
        if file is not None and file.exists():
            raise FileExistsError(f"{file} exists and is not overwritten; delete it or choose another name.")
    model = open_model(run.path, model_words).to(device_of(options)).eval()
    dataset = build_split(data_config(run, data_words), options.split)
    check_fit(model, dataset)
    if not isinstance(model, Predicts):
        can = " and ".join(abilities(model)) or "reconstruct"
        raise ValueError(f"{type(model).__name__} cannot continue clips: it can {can}")
    image = dataset.batch([0]).image
    length = image.shape[1] if image.ndim == 5 else 1
    frames = options.frames or length
    if not options.context < frames <= length:
        raise ValueError(
            f"clips of {dataset.spec.name} have {length} frames, which cannot be {options.context} of "
            f"--context and {frames} in all (--frames); read longer clips, or give other numbers."
        )
    if options.n is not None and options.n > len(dataset):
        raise ValueError(f"-n {options.n}: the split {options.split!r} has {len(dataset)} clips")
    count = options.n or min(POPULATION, len(dataset))
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(options.seed))
    clips = order[:count]  # another seed is another population
    about = {"data": dataset.spec.name, "split": options.split, "seed": options.seed, "context": options.context}
    shape = (frames, image.shape[-2], image.shape[-1], 3)

    def scenes() -> Iterable[Scene]:
        return (dataset.batch(part.tolist()).to(device_of(options)) for part in clips.split(AT_ONCE))

    torch.manual_seed(options.seed)
    with torch.no_grad():
        imagined = (
            continued(model, scene, context=options.context, frames=frames, futures=options.rollouts)
            for scene in scenes()
        )
        total = -(-count // AT_ONCE)
        shown = track(imagined, description="imagining", total=total, console=errors, transient=True)
        one = {**about, "kind": "imagined", "model": str(run.path), "rollouts": options.rollouts}
        _write(options.videos, shown, (count * options.rollouts, *shape), clips, one)
        if options.real is not None:
            real = (scene.pixels[:, :frames] for scene in scenes())
            _write(options.real, real, (count, *shape), clips, {**about, "kind": "real"})
    return 0


def _write(
    path: Path, parts: Iterable[Tensor], shape: tuple[int, ...], clips: Tensor, attributes: Mapping[str, Any]
) -> None:
    """Clips (n, T, 3, H, W) in [0, 1], part by part, into a new file."""
    import h5py
    import numpy as np

    with replacing(path) as draft, h5py.File(draft, "w") as file:
        videos = file.create_dataset("videos", shape, np.float32)
        file["clips"] = clips.numpy()
        file.attrs.update(attributes)
        first = 0
        for part in parts:
            videos[first : first + len(part)] = 255 * part.permute(0, 1, 3, 4, 2).float().cpu().numpy()
            first += len(part)
    print(path)
    note(f"{shape[0]} {attributes['kind']} clips of {shape[1]} frames, {shape[2]} x {shape[3]}; the key is 'videos'")
