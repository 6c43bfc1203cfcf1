"""objectscape latents: what a model makes of a data set, as a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.progress import Progress

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import build_split, console, data_config, errors

PIECE = 512


def main(words: list[str]) -> int:
    """Parse the command line, encode, write."""
    parser = argparse.ArgumentParser(
        prog="objectscape latents",
        description="Encode a data set with a trained domain (visual VAE, text, ...) and write the latents, with "
        "everything else that the data set knows, to a file that training reads: data=latents data.path=FILE. "
        "Pictures are kept in the splits val and test only. Latents of a second domain: give the file of the first.",
        epilog="example: objectscape latents runs/visual_vae data=simple_shapes data.count=100000 out=latents.h5",
    )
    parser.add_argument("words", nargs="+", metavar="RUN | data=NAME | data.KEY=VALUE | out=FILE")
    options = parser.parse_intermixed_args(words)
    out = [word.removeprefix("out=") for word in options.words if word.startswith("out=")]
    folders = [word for word in options.words if "=" not in word]
    if len(out) != 1 or len(folders) != 1:
        raise ValueError("give one run folder and out=FILE; see objectscape latents --help")
    target = Path(out[0]).expanduser()
    if target.exists():
        raise FileExistsError(f"{target} exists and is not overwritten; delete it or choose another name.")
    run = RunFolder.open(Path(folders[0]))
    config = data_config(run, [word for word in options.words if "=" in word and not word.startswith("out=")])
    import hashlib

    import numpy as np
    import torch

    from objectscape.data.latents import write_latents
    from objectscape.metrics.attribute_probe import live_dimensions
    from objectscape.models.domains.domain import Domain
    from objectscape.scene import Multimodal

    model = run.load_model().eval()
    if not isinstance(model, Domain):
        raise ValueError(f"{type(model).__name__} is no domain of a workspace: it has no latents that one could read")
    entry = f"{model.domain}_latent"
    weights = run.model_folder / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else ""
    splits: dict[str, dict[str, np.ndarray]] = {}
    origin, fields = {entry: digest}, {entry: f"({model.latent_size},) float32 latent of {model.domain}"}
    name = ""
    with Progress(console=errors, transient=True) as progress, torch.no_grad():
        for split in ("train", "val", "test"):
            dataset = build_split(config, split)
            name = dataset.spec.name
            origin = {**getattr(dataset, "origin", {}), **origin}
            fields = {key.removeprefix("domains/"): text for key, text in dataset.spec.fields.items()} | fields
            task = progress.add_task(split, total=len(dataset))
            parts: dict[str, list[np.ndarray]] = {}
            for first in range(0, len(dataset), PIECE):
                batch = dataset.batch(range(first, min(first + PIECE, len(dataset))))
                if not isinstance(batch, Multimodal) or model.domain not in batch.domains:
                    raise ValueError(f"{name} has no {model.domain!r}, which {type(model).__name__} reads")
                kept = {k: v for k, v in batch.domains.items() if not (split == "train" and v.ndim == 4)}
                for key, values in {**kept, entry: model.encode(batch.domains[model.domain]).float()}.items():
                    parts.setdefault(key, []).append(values.numpy())
                progress.update(task, completed=first + PIECE)
            splits[split] = {key: np.concatenate(values) for key, values in parts.items()}
    write_latents(target, splits, origin=origin, fields=fields, name=name)
    live = live_dimensions(torch.from_numpy(splits["train"][entry]))
    console.print(f"{target}: {len(live)} latents, {int((~live).sum())} of them dead (hardly any spread)")
    console.print(f"use it: objectscape train recipe=workspace/... data=latents data.path={target}")
    return 0
