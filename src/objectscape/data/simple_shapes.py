"""The published folders of Simple Shapes: pictures as PNG, labels, captions and BERT vectors as .npy.

    FOLDER/train|val|test/<index>.png   <split>_labels.npy   <split>_captions.npy   <split>_latent.npy
    latent_mean.npy  latent_std.npy     (older: <split>_bert-base-uncased.npy, mean_bert-base-uncased.npy, ...)
    saved_latents/<split>/<name>.npy

Files that need unpickling (choices of captions, alignments) are not read: alignments are drawn again from their seed by
`objectscape.data.matched.align`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from objectscape.data.dataset import SceneDataset
from objectscape.data.matched import MatchedOrder, pairs_of, reveal
from objectscape.data.synthetic import captions
from objectscape.files import expanded
from objectscape.names import unknown
from objectscape.scene import Multimodal, Spec

DOMAINS = {
    "v": "(3, H, W) uint8 RGB picture",
    "attr": "(8,) float32 class, x, y, size, rotation, RGB",
    "t": "(48,) uint8 words of the caption, padded with 0",
    "grammar": "(39,) uint8 classes of the caption's grammar, as `captions.heads()`",
    "bert": "(768,) float32 sentence vector, standardized by the training split",
}


class SimpleShapesFolder(SceneDataset):
    """One split of a published folder.

    Args:
        path: the folder.
        split: "train", "val" or "test".
        domains: which of "v", "attr", "t", "grammar", "bert", or the name of saved latents as "<name>_latent".
        count: only the first rows; None for all.
        matched, matched_part: see `objectscape.data.synthetic.simple_shapes.SimpleShapes`.

    Raises:
        FileNotFoundError: if a file of the split is missing.
        ValueError: for an unknown domain, or files of different length.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        split: str = "train",
        domains: Sequence[str] = ("v", "attr"),
        count: int | None = None,
        matched: float = 1.0,
        matched_part: float = 0.75,
    ) -> None:
        self.path, self.split, self.matched_part = expanded(path), split, matched_part
        if not self.path.is_dir():
            raise FileNotFoundError(f"there is no folder {self.path}; unpack the published archive there")
        for name in domains:
            if name not in DOMAINS and not name.endswith("_latent"):
                raise ValueError(unknown("domain", name, DOMAINS))
        self.domains = list(domains)
        labels = _array(self.path / f"{split}_labels.npy")
        if labels.ndim != 2 or labels.shape[1] < 11:
            raise ValueError(f"{self.path}/{split}_labels.npy has shape {labels.shape}; expected (n, 11 or more)")
        self.labels = torch.from_numpy(np.ascontiguousarray(labels[:count, :8], dtype=np.float32))
        self.pairs = pairs_of(matched, len(self.labels), split)
        side = Image.open(self._picture(0)).size if "v" in domains else None
        self.spec = Spec(
            name="simple_shapes_folder",
            image_size=(side[1], side[0]) if side else None,
            splits={split: len(self.labels)},
            fields={f"domains/{name}": DOMAINS.get(name, "(D,) float32 saved latents") for name in domains},
            max_objects=1,
            license="not stated by the archive",
            source="Simple Shapes, https://zenodo.org/records/8112838",
        )

    def _picture(self, row: int) -> Path:
        file = self.path / self.split / f"{row}.png"
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing")
        return file

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def _vectors(self) -> dict[str, Tensor]:
        found = {}
        for name in self.domains:
            if name == "bert":
                mean, std = (_first(self.path, part) for part in BERT_STATISTICS)
                raw = _first(self.path, [text.format(split=self.split) for text in BERT])
                found[name] = torch.from_numpy(((raw - mean) / std).astype(np.float32))
            elif name.endswith("_latent"):
                file = self.path / "saved_latents" / self.split / f"{name.removesuffix('_latent')}.npy"
                values = _array(file)
                if values.dtype.kind in "US":  # bimGW: the names of the files that hold the parts
                    values = np.concatenate([_array(file.parent / str(part))[:, 0] for part in values], axis=1)
                found[name] = torch.from_numpy(values.astype(np.float32))
            elif name == "t":
                found[name] = torch.from_numpy(captions.tokens_of(self._texts()))
            elif name == "grammar":
                pairs = zip(self._texts(), self.labels.tolist(), strict=False)
                choices = [captions.read_caption(text, captions.Attributes.of(row)).choices for text, row in pairs]
                classes = [list(captions.categories(record, as_released=False).values()) for record in choices]
                found[name] = torch.tensor(classes, dtype=torch.uint8)
        for name, rows in found.items():
            if len(rows) < len(self):
                raise ValueError(f"{self.path}: {self.split} has {len(self)} labels but {len(rows)} rows of {name}")
        return found

    def _texts(self) -> list[str]:
        return [str(text) for text in _array(self.path / f"{self.split}_captions.npy")[: len(self)]]

    def batch(self, indices: Sequence[int]) -> Any:
        """See `SceneDataset.batch`."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        found: Mapping[str, Tensor] = {name: values[rows] for name, values in self._vectors.items()} | {
            "attr": self.labels[rows]
        }
        if "v" in self.domains:
            pictures = [np.asarray(Image.open(self._picture(row)).convert("RGB")) for row in rows.tolist()]
            found = {**found, "v": torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()}
        domains = {name: found[name] for name in self.domains}
        return Multimodal(domains=domains, present=dict.fromkeys(domains, torch.ones(len(rows), dtype=torch.bool)))

    def learning(self) -> SimpleShapesFolder:
        """See `SceneDataset.learning`."""
        return SimpleShapesFolder(path=self.path, split="train", domains=self.domains)

    def order(self, **options: Any) -> Iterator[list[int]] | None:
        """Batches for training with few pairs; see `MatchedOrder`. None if every row is matched."""
        if self.pairs == len(self):
            return None
        domains = len(self.domains)
        return iter(MatchedOrder(len(self), pairs=self.pairs, domains=domains, part=self.matched_part, **options))

    def pick(self, resident: Any, indices: Sequence[int]) -> Any:
        """Rows of a resident split, of which `order` shows some in one domain only."""
        return reveal(resident, indices, len(self))


BERT = ("{split}_latent.npy", "{split}_bert-base-uncased.npy")
BERT_STATISTICS = (
    ["latent_mean.npy", "mean_bert-base-uncased.npy", "bert-base-uncased_mean.npy"],
    ["latent_std.npy", "std_bert-base-uncased.npy", "bert-base-uncased_std.npy"],
)


def _first(folder: Path, names: Sequence[str]) -> np.ndarray:
    for name in names:
        if (folder / name).is_file():
            return _array(folder / name)
    raise FileNotFoundError(f"{folder} has none of {', '.join(names)}")


def _array(file: Path) -> np.ndarray:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing")
    try:
        return np.load(file, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{file} is damaged, or holds Python objects, which are not loaded ({error})") from error


def write_folder(
    path: str | os.PathLike[str], splits: Mapping[str, np.ndarray], texts: Mapping[str, list[str]]
) -> Path:
    """Write the published layout: pictures of label rows, labels and captions.

    Args:
        path: of a new folder.
        splits: {split: (n, 12) label rows}, such as `published_labels`.
        texts: {split: captions}.

    Raises:
        FileExistsError: if the folder exists.
    """
    from objectscape.data.synthetic.simple_shapes_render import render

    folder = expanded(path)
    if folder.exists():
        raise FileExistsError(f"{folder} exists and is not overwritten; choose another name.")
    for split, labels in splits.items():
        (folder / split).mkdir(parents=True)
        rows = torch.from_numpy(labels)
        image, _ = render(rows[:, 0].long(), rows[:, 1], rows[:, 2], rows[:, 3], rows[:, 4], rows[:, 5:8])
        alpha = torch.full_like(image[:, :1], 255)
        for number, picture in enumerate(torch.cat([image, alpha], 1).permute(0, 2, 3, 1).numpy()):
            Image.fromarray(picture).save(folder / split / f"{number}.png")
        np.save(folder / f"{split}_labels.npy", labels.astype(np.float32))
        np.save(folder / f"{split}_captions.npy", np.array(texts[split]))
    (folder / "version.txt").write_text("1.0.0\n")
    return folder
