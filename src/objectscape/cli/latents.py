"""objectscape latents: what a model makes of a data set, as numbers or as a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import HelpText, at_least, build_split, console, data_config, errors, trained_size
from objectscape.files import check_suffix, expanded, sha256_of
from objectscape.names import SPLITS

if TYPE_CHECKING:
    from torch import Tensor

HDF5 = (".h5", ".hdf5")
PIECE = 512
PARTNER = "_partner"
OVERLAP = 0.5
"""Least IoU of an object with the slot that stands for it."""


def main(words: list[str]) -> int:
    """Parse the command line, encode, write."""
    parser = argparse.ArgumentParser(
        prog="objectscape latents",
        description="Write what a trained model makes of a data set. Of a model that finds objects: its slots, as "
        "NumPy (.npz), CSV or HDF5 (.h5), with the object that each stands for where the data know it.\n\n"
        "Of a domain of a workspace (visual VAE, text, ...): the latents, with everything else that the data set "
        "knows, as HDF5 that training reads: data=latents data.path=FILE. Pictures are kept in the splits val and test "
        "only. Latents of a second domain: give the file of the first. From simple_shapes_scenes, slots in HDF5 are "
        "such a file, too, beside what is said of the objects. sentences=MODEL instead of RUN: vectors of the "
        "sentences by a model of sentence-transformers, a folder or a name, as the entry bert.",
        epilog="examples:\n"
        "  objectscape latents RUN out=slots.npz                  # slots of its own data; or .csv, .h5\n"
        "  objectscape latents RUN data=folder data.path=my_images out=slots.csv --split all\n"
        "  objectscape latents runs/visual_vae data=simple_shapes data.count=100000 out=latents.h5\n"
        "  objectscape latents runs/scenes data=simple_shapes_scenes data.count=20000 out=slots.h5\n"
        "  objectscape latents runs/text data=latents data.path=slots.h5 out=slots_text.h5",
        formatter_class=HelpText,
    )
    parser.add_argument(
        "words", nargs="+", metavar="WORD", help="RUN (or sentences=MODEL), out=FILE, data=NAME, data.KEY=VALUE"
    )
    parser.add_argument("--split", choices=[*SPLITS, "all"], help="of slots: only this one")
    parser.add_argument("--images", type=at_least(1), help="of slots: only the first ones of each split")
    options = parser.parse_intermixed_args(words)
    out = [word.removeprefix("out=") for word in options.words if word.startswith("out=")]
    sentences = [word.removeprefix("sentences=") for word in options.words if word.startswith("sentences=")]
    folders = [word for word in options.words if "=" not in word]
    if len(out) != 1 or len(folders) + len(sentences) != 1:
        raise ValueError("give one run folder (or sentences=MODEL) and out=FILE; see objectscape latents --help")
    target = expanded(out[0])
    suffix = check_suffix(target, (".npz", ".csv", *HDF5))
    if target.exists():
        raise FileExistsError(f"{target} exists and is not overwritten; delete it or choose another name.")
    run = RunFolder.open(Path(folders[0])) if folders else None
    config = data_config(run, [w for w in options.words if "=" in w and not w.startswith(("out=", "sentences="))])
    if run is not None:
        model = run.load_model().eval()
        if _finds_objects(model) and not (suffix in HDF5 and hasattr(build_split(config, "test"), "described")):
            from objectscape.cli.slots import write_slots

            splits = [options.split] if options.split else list(SPLITS)
            write_slots(model, config, target, splits=splits, images=options.images)
            return 0
    if suffix not in HDF5 or options.split or options.images:
        raise ValueError("latents of a domain are written of all splits and images, to HDF5 (out=FILE.h5)")
    import numpy as np
    import torch

    from objectscape.data.latents import Latents, write_latents
    from objectscape.metrics.attribute_probe import live_dimensions

    source = _Sentences(sentences[0]) if run is None else _Model(run)
    entry = source.entry
    tables: dict[str, dict[str, np.ndarray]] = {}
    origin, fields = {entry: source.digest}, {entry: source.meaning}
    name, sizes = "", dict.fromkeys(SPLITS)
    with Progress(console=errors, transient=True) as progress, torch.no_grad():
        for split in SPLITS:
            if split != "train" and config.get("count") is not None:  # it is meant for training
                config.count = min(config.count, sizes[split] or config.count)
            dataset = build_split(config, split)
            dataset = dataset.scenes() if isinstance(dataset, Latents) else dataset
            name, sizes = dataset.spec.name, dataset.spec.splits
            origin = {**getattr(dataset, "origin", {}), **origin}
            fields = {key.removeprefix("domains/"): text for key, text in dataset.spec.fields.items()} | fields
            task = progress.add_task(split, total=len(dataset))
            parts: dict[str, list[np.ndarray]] = {}
            for first in range(0, len(dataset), PIECE):
                found = source(dataset, range(first, min(first + PIECE, len(dataset))))
                for key, values in found.items():
                    if split != "train" or values.ndim < 4:  # pictures in val and test only
                        parts.setdefault(key, []).append(values.numpy())
                progress.update(task, completed=first + PIECE)
            tables[split] = {key: np.concatenate(values) for key, values in parts.items()}
    latents = torch.from_numpy(tables["train"][entry]).flatten(0, -2)
    latents = latents[latents.any(1)]
    if not len(latents):
        raise ValueError(
            f"{run and run.path} finds no object in any scene of the training split; train it longer first"
        )
    write_latents(target, tables, origin=origin, fields=fields, name=name)
    live = live_dimensions(latents)
    console.print(f"{target}: {len(live)} latents, {int((~live).sum())} of them dead (hardly any spread)")
    partner = tables["test"].get(entry.removesuffix("_latent") + PARTNER)
    if partner is not None and run is not None and entry not in getattr(dataset, "origin", {}):
        there = tables["test"]["attr"].any(2)
        console.print(f"{(partner[there] >= 0).mean():.1%} of the objects of the test split have a slot of their own")
    console.print(f"use it: objectscape train recipe=workspace/... data=latents data.path={target}")
    return 0


def _finds_objects(model: Any) -> bool:
    from objectscape.contract import Decomposes
    from objectscape.models.domains.domain import Domain

    return isinstance(model, Decomposes) and not isinstance(model, Domain)


class _Model:
    """Everything that is known of some rows, with what a trained model makes of them."""

    def __init__(self, run: RunFolder) -> None:
        from objectscape.contract import Decomposes
        from objectscape.models.domains.domain import Domain
        from objectscape.models.domains.slots import Slots

        model: Any = run.load_model().eval()
        if not isinstance(model, Domain):
            if not isinstance(model, Decomposes):
                raise ValueError(
                    f"{type(model).__name__} is no domain of a workspace and finds no objects: it has no latents that "
                    "one could read"
                )
            size = trained_size(run.path)
            if size is None or size[0] != size[1]:
                raise ValueError(f"{run.path} was trained on images of size {size}; slots are read from square ones")
            model = Slots(model=model, image_size=size[0]).eval()
        self.domain: Any = model
        self.entry = f"{model.domain}_latent"
        self.meaning = f"({model.latent_size},) float32 latent of {model.domain}"
        weights = run.model_folder / "model.safetensors"
        self.digest = sha256_of(weights) if weights.is_file() else ""
        self.read = self._slots if isinstance(model, Slots) else self._rows

    def __call__(self, dataset: Any, rows: range) -> dict[str, Tensor]:
        return self.read(dataset, rows)

    def _rows(self, dataset: Any, rows: range) -> dict[str, Tensor]:
        from objectscape.scene import Multimodal

        batch, name = dataset.batch(rows), self.domain.domain
        if not isinstance(batch, Multimodal) or name not in batch.domains:
            raise ValueError(f"{dataset.spec.name} has no {name!r}, which {type(self.domain).__name__} reads")
        raw = batch.domains[name]
        if not any(key.endswith(PARTNER) for key in batch.domains):
            return {**batch.domains, self.entry: self.domain.encode(raw).float()}
        latents = self.domain.encode(raw.flatten(0, 1)).unflatten(0, raw.shape[:2]).float()
        return {**batch.domains, self.entry: latents * raw.flatten(2).any(2, keepdim=True)}

    def _slots(self, dataset: Any, rows: range) -> dict[str, Tensor]:
        """The slots of scenes, with what is said of each object and the slot that covers it."""
        import torch
        from torch.nn import functional as F

        from objectscape.metrics.segmentation import contingency, match_objects

        if not hasattr(dataset, "described"):
            raise ValueError(f"nothing is said of the objects of {dataset.spec.name}; slots need simple_shapes_scenes")
        told = dict(dataset.described(rows).domains)
        latents, objects, owner = self.domain.encode_scene(told.pop("image"))
        table = contingency(told.pop("segments"), owner)
        partner = match_objects(table, min_pixels=1, min_iou=OVERLAP)  # (B, the most objects of these scenes)
        partner = F.pad(partner, (0, told["attr"].shape[1] - partner.shape[1]), value=-1)
        held = objects.gather(1, partner.clamp_min(0)) & (partner >= 0)
        name = self.domain.domain
        return {
            name: told.pop("alone"),
            **told,
            self.entry: latents * objects.unsqueeze(2),
            f"{name}{PARTNER}": partner.where(held, -1).to(torch.int8),
        }


class _Sentences:
    """Everything that is known of some rows, with a vector of their sentence."""

    entry, digest, meaning = "bert", "", "float32 vector of the sentence, mean square 1"

    def __init__(self, model: str) -> None:
        from objectscape.data.sentence_vectors import SentenceEncoder

        self.encoder = SentenceEncoder(model)

    def __call__(self, dataset: Any, rows: range) -> dict[str, Tensor]:
        import torch

        from objectscape.data.synthetic.captions import words_of

        batch = dataset.batch(rows)
        if "t" not in getattr(batch, "domains", {}):
            raise ValueError(f"{dataset.spec.name} has no sentences here; add t to data.domains")
        vectors = self.encoder([words_of(tokens) for tokens in batch.domains["t"].tolist()])
        return {**batch.domains, self.entry: torch.from_numpy(vectors)}
