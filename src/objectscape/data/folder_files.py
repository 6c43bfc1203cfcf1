"""Which files of a folder are pictures, which are labels of them, and which split each belongs to."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from objectscape.data.dataset import SPLITS
from objectscape.data.pictures import SUFFIXES, printable

SYSTEM = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__")
"""Folders that systems leave behind, in lower case; hidden ones are known by their dot."""
USUAL = {"train": "train(ing)?", "val": "val(id(ation)?)?|dev(el(opment)?)?|eval(uation)?", "test": "test(ing)?"}
AROUND = r"(?:(?:images|imgs|data)[ _-]?)?({})(?:[ _-]?(?:set|split|data|images|imgs))?(?:[ _-]?\d{{4}})?"
WORDS = re.compile("[A-Z]?[a-z]+|[A-Z]+")
IMAGES = ("images", "image", "imgs", "img", "pictures", "photos", "frames", "rgb")
"""Folders, in lower case, whose label images stand in a folder masks beside them."""


@dataclass(frozen=True)
class Contents:
    """What stands in a folder."""

    pictures: list[Path]
    """In the order of their names."""
    labels: dict[Path, Path]
    """{picture: its label image}."""
    passed_over: Counter[str]
    """How many of what was not taken."""

    def remarks(self) -> str:
        """What was passed over, in words; empty if nothing was."""
        parts = ", ".join(f"{count} {what}" for what, count in sorted(self.passed_over.items()))
        return f"passed over: {parts}" if parts else ""


def read_folder(root: Path) -> Contents:
    """The pictures in a folder and below. Links are followed, each folder once; hidden files are passed over.

    A file is the label image of a picture beside it if it is called as the picture with `_mask` at the end, or stands
    in a folder `masks` beside it (or beside its folder, if that is one of `IMAGES`) under the picture's name; suffixes
    may differ.
    """
    passed: Counter[str] = Counter()
    files = sorted(_walk(root, root, set(), passed), key=lambda file: name_key(root, file))
    by_place: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        by_place.setdefault((file.parent, _stem(file)), []).append(file)

    def named(place: Path, stem: str) -> list[Path]:
        return by_place.get((place, stem), [])

    homes: dict[Path, list[Path]] = {}
    for folder in sorted({file.parent for file in files}):
        if folder.name.lower() in IMAGES:
            homes.setdefault(folder.parent, []).append(folder)
    beside, masks = {}, {}
    for file in files:
        stem, short = _stem(file), _stem(file)[: -len("_mask")]
        ends_in_mask = stem.lower().endswith("_mask")
        if ends_in_mask:
            beside[file] = named(file.parent, short)
        if file.parent.name.lower() == "masks" and file.parent != root:
            above = file.parent.parent
            places = (above, *homes.get(above, []))
            masks[file] = [found for place in places for found in named(place, stem)]
            if ends_in_mask and not masks[file]:
                masks[file] = [found for place in places for found in named(place, short)]
    folders = {file.parent for file, pictures in masks.items() if pictures}  # others called so hold photos
    orphans = [file for file, pictures in masks.items() if file.parent in folders and not pictures]
    passed["label files without a picture"] += len(orphans)
    taken = {file for file, pictures in beside.items() if pictures} | {f for f in masks if f.parent in folders}
    labels: dict[Path, Path] = {}
    for table in (beside, masks):
        for file, pictures in table.items():
            for picture in pictures:
                if file in taken and picture not in taken:
                    labels.setdefault(picture, file)
    return Contents([file for file in files if file not in taken], labels, +passed)


def split_folder(root: Path, pictures: list[Path]) -> dict[str, list[Path]] | None:
    """{split: pictures} by the sub-folders train, val and test, under any of their usual names; None without.

    Raises:
        ValueError: if it is not clear which folders are meant.
    """
    places: dict[str, dict[Path, str]] = {}  # {"": {folder: split}, ...} by the folder that holds them
    for folder in {parent for file in pictures for parent in file.parents if root in parent.parents}:
        for split, names in USUAL.items():
            if re.fullmatch(AROUND.format(names), folder.name.lower()):
                places.setdefault(printable(folder.parent.relative_to(root)), {})[folder] = split
    top = places.pop(".", {})
    if top:
        for split in SPLITS:
            several = sorted(folder.name for folder, found in top.items() if found == split)
            if len(several) > 1:
                raise ValueError(f"{printable(root)} has {' and '.join(several)}: which one is the {split} split?")
        if "train" not in top.values():
            found = " and ".join(sorted(folder.name for folder in top))
            raise ValueError(
                f"{printable(root)} has a folder {found} but none called train, so its pictures would be mixed anew. "
                "Call the other one train, or rename it if it is no split."
            )
        return {split: [f for f in pictures if any(top.get(p) == split for p in f.parents)] for split in SPLITS}
    spoken: dict[str, set[str]] = {split: set() for split in SPLITS}  # trainA, test-clean, my_val
    for folder in {root / file.relative_to(root).parts[0] for file in pictures if file.parent != root}:
        for split, names in USUAL.items():
            if any(re.fullmatch(names, word.lower()) for word in WORDS.findall(folder.name)):
                spoken[split].add(folder.name)
    if sum(map(bool, spoken.values())) > 1:
        found = " and ".join(sorted(set.union(*spoken.values())))
        raise ValueError(
            f"{printable(root)} has {found}: these are names of splits, and their pictures would be mixed anew. Call "
            "the folders train, val and test, or, if they are no splits, otherwise."
        )
    for place, several_splits in places.items():
        if len(set(several_splits.values())) > 1:
            names = " and ".join(sorted(folder.name for folder in several_splits))
            raise ValueError(
                f"{printable(root)} has {names} in its folder {place}; pictures of several splits would be mixed. "
                f"Give data.path={printable(root / place)}, or move {names} up."
            )
    return None


def mixed_splits(root: Path, pictures: list[Path]) -> dict[str, list[Path]]:
    """The first tenth in the order of the names' SHA-256 tests, the next validates, the rest trains."""
    order = sorted(pictures, key=lambda file: hashlib.sha256(name_key(root, file)).digest())
    tenth = max(1, round(len(pictures) / 10))
    return {"train": order[2 * tenth :], "val": order[tenth : 2 * tenth], "test": order[:tenth]}


def name_key(root: Path, file: Path) -> bytes:
    """The path below `root` as UTF-8 in normal form C, so that it is the same on every system and in every encoding."""
    raw = os.fsencode(file.relative_to(root).as_posix())
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return unicodedata.normalize("NFC", text).encode()


def _walk(root: Path, folder: Path, seen: set[tuple[int, int]], passed: Counter[str]) -> Iterator[Path]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        passed["links to a folder that is read already"] += 1
        return
    seen.add((status.st_dev, status.st_ino))
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: name_key(root, entry))
    except PermissionError:
        passed["folders that may not be read"] += 1
        return
    for entry in entries:
        if entry.name.startswith((".", "~$")):  # the second: locks of office programs
            passed["hidden"] += 1
        elif not entry.exists():
            passed["broken links"] += 1
        elif entry.is_dir():
            if entry.name.lower() in SYSTEM:
                passed["folders of the system"] += 1
            else:
                yield from _walk(root, entry, seen, passed)
        elif entry.suffix.lower() in SUFFIXES and entry.is_file():
            yield entry
        else:
            passed[f"other files ({entry.suffix.lower() or 'no suffix'})"] += 1


def _stem(file: Path) -> str:
    return name_key(file.parent, file.with_suffix("") if file.suffix else file).decode()
