"""objectscape's own data file: HDF5, one group per split, one data set per Scene field.

    /                     attributes: format, format_version, name, version, license, source, seed, notes, max_objects,
                          fields (JSON: what each field means), content_hash
    /train/image          (n, 3, H, W) uint8, chunks of one row, gzip level 4; attribute: description
    /train/segments       (n, H, W)        and so on: boxes, present, labels, actions, motion, factors/<name>
    /train/first          (clips,) int64 of data with a time axis: rows are frames, and this the first row of each clip
    /val/..., /test/...

The attribute `batch` names the type of the batches: Scene, or Multimodal (domains/<name>, present/<name>, no image). A
chunk is one row, so reading at random, a window of a clip too, decompresses next to nothing in vain; rows of a few
bytes (boxes, labels) share a chunk of at most 8 kB, since each chunk costs a hundred bytes. `content_hash` is the
SHA-256 of every data set's name, type, shape and bytes. A file is written beside its final name and renamed when it is
complete, so that what has the final name is always whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from objectscape.data.clips import StoresFrames
from objectscape.data.dataset import SceneDataset
from objectscape.data.formats.opening import HDF5_SIGNATURE, PerProcess, existing_file, signature
from objectscape.files import expanded
from objectscape.names import did_you_mean
from objectscape.scene import Multimodal, Scene, Spec

FORMAT = "objectscape"
FORMAT_VERSION = 1
BATCHES: dict[str, Any] = {"Scene": Scene, "Multimodal": Multimodal}
DEFLATE = 1032  # no compressed data is longer than this many times what is stored
PIECE = 256  # scenes that are read and written together
SMALL_CHUNK = 8192  # bytes of small rows that are stored together
_AGAIN = "Make or convert it again (`objectscape data make`, `objectscape data convert`)."


def write_hdf5(
    path: str | os.PathLike[str],
    splits: Mapping[str, SceneDataset],
    *,
    seed: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Spec:
    """Write data sets of one kind to a new file.

    Args:
        path: of the new file.
        splits: {split: data set}, read in order from first to last scene.
        seed: of the generator, for data that we rendered.
        progress: called with (scenes written, scenes in all).

    Returns:
        The file's Spec, content hash included.

    Raises:
        FileExistsError: if `path` exists: nothing is overwritten.
        ValueError: if a split is empty.
        OSError: if the disk is full or not writable. Nothing is left behind then.
    """
    target = expanded(path)
    if target.exists():
        raise FileExistsError(f"{target} exists and is not overwritten; delete it or choose another name.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: its folder {target.parent} does not exist; create it first.")
    if not splits or any(len(dataset) == 0 for dataset in splits.values()):
        raise ValueError(
            f"splits={ {name: len(d) for name, d in splits.items()} }; each split needs at least one scene."
        )
    total, done = sum(len(dataset) for dataset in splits.values()), 0
    first = next(iter(splits.values()))
    digests: dict[str, str] = {}
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        sink = _Sink(unfinished)
    except OSError as error:
        raise OSError(f"{target} could not be written: {error}. Choose another folder.") from error
    file = h5py.File(sink, "w")
    try:
        for split, dataset in splits.items():
            group, hashes = file.create_group(split), {}
            rows, written = _Rows(dataset), 0
            for piece in rows:
                arrays = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in _tensors(piece).items()}
                start, stop = written, written + len(piece)
                if start == 0:
                    file.attrs["batch"] = type(piece).__name__
                    for name, array in arrays.items():
                        shape = (rows.count, *array.shape[1:])
                        hashes[name] = hashlib.sha256(_heading(split, name, array.dtype, shape))
                        fields = dataset.spec.fields
                        description = fields.get(name, fields.get(name.partition("/")[0], ""))
                        _create(group, name, shape, array.dtype, description)
                if arrays.keys() != hashes.keys():
                    raise ValueError(
                        f"{split}: scenes {start}.. have the fields {sorted(arrays)}, earlier ones {sorted(hashes)}."
                    )
                for name, array in arrays.items():
                    hashes[name].update(array.data)
                    group[name][start:stop] = array
                sink.check()
                written = stop
                if progress is not None:
                    progress(done + len(dataset) * written // rows.count, total)
            done += len(dataset)
            if rows.first is not None:
                first_rows = rows.first.numpy()
                group["first"] = first_rows
                heading = _heading(split, "first", first_rows.dtype, first_rows.shape)
                hashes["first"] = hashlib.sha256(heading + first_rows.tobytes())
            digests |= {f"{split}/{name}": value.hexdigest() for name, value in hashes.items()}
        spec = dataclasses.replace(
            first.spec, splits={name: len(d) for name, d in splits.items()}, content_hash=_combine(digests)
        )
        _write_attributes(file, spec, seed)
        file.close()
        sink.close()
        os.replace(unfinished, target)
    except BaseException as error:  # Ctrl-C too must leave nothing behind
        with suppress(OSError, RuntimeError):
            file.close()
        with suppress(OSError, KeyboardInterrupt):
            sink.close()
        free = shutil.disk_usage(target.parent).free
        unfinished.unlink(missing_ok=True)
        if isinstance(sink.error, OSError):
            raise OSError(
                f"{target} could not be written: {sink.error}. {free / 1e6:.0f} MB are free in {target.parent}; "
                "nothing was left behind. Make room or choose another folder."
            ) from error
        raise
    return spec


class _Rows:
    """The rows of a data set in pieces: its scenes, or the frames of its clips.

    Attributes:
        count: number of rows.
        first: (clips,) int64, the first row of each clip; None for data without a time axis.
    """

    def __init__(self, dataset: SceneDataset) -> None:
        self.dataset, self.frames = dataset, 1
        self.first: Tensor | None = None
        self.count = len(dataset)
        if isinstance(dataset, StoresFrames):
            self.first, self.count = dataset.episodes[:, 0], int(dataset.episodes[:, 1].sum())
            return
        image = getattr(dataset.batch([0]), "image", None)
        if image is not None and image.ndim == 5:
            self.frames = image.shape[1]
            self.first, self.count = torch.arange(len(dataset)) * self.frames, len(dataset) * self.frames

    def __iter__(self) -> Iterator[Scene]:
        if isinstance(self.dataset, StoresFrames):
            for start in range(0, self.count, PIECE):
                yield self.dataset.frames(range(start, min(start + PIECE, self.count)))
            return
        step = max(1, PIECE // self.frames)
        for start in range(0, len(self.dataset), step):
            batch = self.dataset.batch(range(start, min(start + step, len(self.dataset))))
            yield batch if self.first is None else batch.fold_time()


class _Sink:
    """A new file for HDF5 that keeps a failure (a full disk, Ctrl-C) to itself until it is asked.

    The HDF5 library may crash the process when a write fails under it, so it must not notice.
    """

    def __init__(self, path: Path) -> None:
        self.stream = path.open("w+b")
        self.error: BaseException | None = None

    def check(self) -> None:
        """Raise what went wrong so far."""
        self._attempt(self.stream.flush)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Close the file; raises what went wrong."""
        self._attempt(self.stream.flush)
        self._attempt(lambda: os.fsync(self.stream.fileno()))
        try:
            self.stream.close()
        except OSError as error:
            self.error = self.error or error
        if self.error is not None:
            raise self.error

    def _attempt(self, action: Callable[[], Any]) -> Any:
        if self.error is None:
            try:
                return action()
            except BaseException as error:
                self.error = error
        return None

    def write(self, data: Any) -> int:
        """As a binary file, like the methods below."""
        self._attempt(lambda: self.stream.write(data))
        return len(data)

    def read(self, size: int) -> bytes:  # unused, but how h5py tells a file from a path
        return self._attempt(lambda: self.stream.read(size)) or b""

    def readinto(self, buffer: Any) -> int:
        count = self._attempt(lambda: self.stream.readinto(buffer))
        return len(buffer) if count is None else count

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._attempt(lambda: self.stream.seek(offset, whence)) or 0

    def tell(self) -> int:
        return self._attempt(self.stream.tell) or 0

    def truncate(self, size: int) -> int:
        self._attempt(lambda: self.stream.truncate(size))
        return size

    def flush(self) -> None:
        self._attempt(self.stream.flush)


class HDF5Scenes(SceneDataset):
    """One split of a file that `write_hdf5` made.

    The file is opened on first use, and again in each worker process. Clips are stored frame by frame, so windows of
    them (`Clips`) are read without the rest.

    Args:
        path: the file.
        split: a group of the file.

    Attributes:
        episodes: (E, 2) int64, first row and number of frames of every clip; only if the data have a time axis.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is empty, truncated, of another kind, or has no such split.
    """

    episodes: Tensor

    def __init__(self, *, path: str | os.PathLike[str], split: str = "train") -> None:
        self.path = existing_file(path, "a data file of objectscape (.h5)")
        with naming(self.path), open_hdf5(self.path) as file:
            self.spec = _read_spec(file, self.path)
            if split not in self.spec.splits:
                known = ", ".join(f"{name} ({count})" for name, count in self.spec.splits.items())
                raise ValueError(
                    f"split={split!r}: {self.path} has the splits {known}.{did_you_mean(split, self.spec.splits)}"
                )
            group = file[split]
            self._names = [name for name in _names(group) if name != "first"]
            self._rows = group[self._names[0]].shape[0]
            if "first" in group:
                first = torch.from_numpy(group["first"][:])
                ends = torch.cat([first[1:], torch.tensor([self._rows])])
                self.episodes = torch.stack([first, ends - first], 1)
            self._batch = BATCHES[file.attrs.get("batch", "Scene")]  # the attribute is new in 0.2
            self._count = _items(group)
        self.split = split
        self._file = PerProcess(partial(open_hdf5, self.path))

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`. Clips must have one length; `Clips` reads windows of those that do not."""
        wanted = torch.as_tensor(indices, dtype=torch.long)
        outside = wanted[(wanted < 0) | (wanted >= self._count)]
        if len(outside):
            raise IndexError(f"{self.path}, {self.split} has {self._count} scenes; there is no scene {int(outside[0])}")
        if not hasattr(self, "episodes"):
            return self.frames(wanted.tolist())
        first, lengths = self.episodes[wanted].unbind(1)
        time = int(lengths[0])
        if (lengths != time).any():
            raise ValueError(
                f"{self.path}: its clips have {int(self.episodes[:, 1].min())} to {int(self.episodes[:, 1].max())} "
                "frames, which make no batch; read windows of them (clip.length=...)"
            )
        return self.frames((first[:, None] + torch.arange(time)).flatten().tolist()).unfold_time(time)

    def frames(self, rows: Sequence[int]) -> Scene:
        """The rows of the file in that order: scenes, or single frames of clips; see `StoresFrames`."""
        wanted = np.asarray(rows, dtype=np.int64)
        group = self._file()[self.split]
        fields: dict[str, Any] = {}
        for name in self._names:
            try:
                tensor = torch.from_numpy(_read_samples(group[name], wanted))
            except Exception as error:  # h5py and zlib have a dozen types
                raise ValueError(
                    f"{self.path} is corrupt: {self.split}/{name} of scenes {wanted.min()}..{wanted.max()} cannot be "
                    f"read ({error}). {_AGAIN}"
                ) from error
            field, _, key = name.partition("/")
            if key:
                fields.setdefault(field, {})[key] = tensor
            else:
                fields[name] = tensor
        return self._batch(**fields)


def check_hdf5(path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> Spec:
    """Read every byte of a data file and compare its content hash; returns its Spec.

    Args:
        path: the file.
        progress: called with (scenes checked, scenes in all); a scene counts once for each of its fields.

    Raises:
        FileNotFoundError, ValueError: as `HDF5Scenes`, and if the content does not match the hash.
    """
    file_path = existing_file(path, "a data file of objectscape (.h5)")
    digests = {}
    with naming(file_path), open_hdf5(file_path) as file:
        spec = _read_spec(file, file_path)
        names = [f"{split}/{name}" for split in spec.splits for name in _names(file[split])]
        total, done = sum(file[name].shape[0] for name in names), 0
        for name in names:
            data = file[name]
            if data.nbytes > file_path.stat().st_size * DEFLATE:
                raise ValueError(f"{file_path} is corrupt: {name} claims {data.nbytes} bytes. {_AGAIN}")
            split, _, rest = name.partition("/")
            digest = hashlib.sha256(_heading(split, rest, data.dtype, data.shape))
            for start in range(0, data.shape[0], PIECE):
                try:
                    digest.update(np.ascontiguousarray(data[start : start + PIECE]).data)
                except (OSError, RuntimeError) as error:
                    raise ValueError(
                        f"{file_path} is corrupt: {name} near scene {start} cannot be read ({error}). {_AGAIN}"
                    ) from error
                done += min(PIECE, data.shape[0] - start)
                if progress is not None:
                    progress(done, total)
            digests[name] = digest.hexdigest()
    found = _combine(digests)
    if found != spec.content_hash:
        raise ValueError(
            f"{file_path} is corrupt or was changed: its content has the SHA-256 {found}, but the file says "
            f"{spec.content_hash}. {_AGAIN}"
        )
    return spec


def check_foreign(path: Path, *, progress: Callable[[int, int], None] | None = None) -> Spec:
    """Read every number of an HDF5 file that somebody else wrote; returns what it holds.

    Raises:
        ValueError: if something cannot be read. Damage that can be read stays unseen: there is nothing to compare with.
    """
    with naming(path), open_hdf5(path) as file:
        found: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        for done, (name, data) in enumerate(found.items()):
            if data.nbytes > path.stat().st_size * DEFLATE:
                raise ValueError(f"{path} is corrupt: {name} claims {data.nbytes} bytes. {_AGAIN}")
            for start in range(0, data.shape[0] if data.ndim else 1, PIECE):
                data[start : start + PIECE] if data.ndim else data[()]
            if progress is not None:
                progress(done + 1, len(found))
        return Spec(
            name=path.stem,
            image_size=None,
            splits=dict.fromkeys(file),
            fields={name: f"{tuple(data.shape)} {data.dtype}" for name, data in found.items()},
            notes="not written by objectscape: every number can be read, and there is no checksum to compare with",
        )


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; ValueError if it is none, or truncated."""
    if signature(path) != HDF5_SIGNATURE:
        raise ValueError(f"{path} is not an HDF5 file (it starts with {signature(path).hex(' ')}). {_AGAIN}")
    try:
        return h5py.File(path, "r")
    except Exception as error:  # of a dozen types
        what = "is truncated" if "truncated" in str(error) else "is corrupt"
        raise ValueError(f"{path} {what}: {error}. {_AGAIN}") from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever h5py raises for a damaged file into a ValueError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        if isinstance(error, ValueError | IndexError) and str(path) in str(error):
            raise
        raise ValueError(f"{path} is corrupt ({type(error).__name__}: {error}). {_AGAIN}") from error


def check_in_child(path: Path, progress: Callable[[int, int], None] | None = None, *, patience: float = 300) -> Spec:
    """`check_hdf5`, or `check_foreign`, in a process of its own: the library crashes or hangs on some damaged files.

    Args:
        path: the file.
        progress: as for `check_hdf5`.
        patience: seconds without progress after which the file counts as damaged.

    Raises:
        FileNotFoundError, ValueError: as `check_hdf5`, and for a file that crashes or stops the library.
    """
    context: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_check_and_send, args=(path, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        while ours.poll(patience):
            kind, *content = ours.recv()
            if kind == "progress" and progress is not None:
                progress(*content)
            elif kind == "spec":
                return content[0]
            elif kind == "error":
                raise content[0]
        raise ValueError(f"{path} is corrupt: the HDF5 library does not come back from reading it. {_AGAIN}")
    except EOFError:
        child.join()
        raise ValueError(
            f"{path} is corrupt: the HDF5 library crashed on it (status {child.exitcode}). {_AGAIN}"
        ) from None
    finally:
        child.kill()
        child.join()


def _check_and_send(path: Path, pipe: Any) -> None:
    try:
        with naming(path), open_hdf5(path) as file:
            ours = file.attrs.get("format") == FORMAT
        check = check_hdf5 if ours else check_foreign
        pipe.send(("spec", check(path, progress=lambda done, total: pipe.send(("progress", done, total)))))
    except (ValueError, OSError) as error:
        pipe.send(("error", error))


def _read_samples(data: h5py.Dataset, indices: np.ndarray) -> np.ndarray:
    """(n, ...) the samples `indices`: their chunks are taken as they are stored and decompressed here.

    HDF5's own selection of scattered rows costs several times more than the decompression.
    """
    shape, dtype, rest = data.shape[1:], data.dtype, (0,) * (data.ndim - 1)
    samples = np.empty((len(indices), *shape), dtype)
    if not samples.size:
        return samples
    rows, last = int(data.chunks[0]), -1
    chunk = samples[:0]
    for place in np.argsort(indices, kind="stable").tolist():  # in the order of the file
        number, row = divmod(int(indices[place]), rows)
        if number != last:
            _, stored = data.id.read_direct_chunk((number * rows, *rest))
            chunk, last = np.frombuffer(zlib.decompress(stored), dtype).reshape(rows, *shape), number
        samples[place] = chunk[row]
    return samples


def _tensors(scene: Scene) -> dict[str, Tensor]:
    """The fields that are there, by the name of their data set."""
    found: dict[str, Tensor] = {}
    for field in dataclasses.fields(scene):
        value = getattr(scene, field.name)
        if isinstance(value, dict):
            found |= {f"{field.name}/{key}": item for key, item in value.items()}
        elif value is not None:
            found[field.name] = value
    return found


def _create(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype, description: str) -> None:
    if 0 in shape:  # no objects at all: HDF5 has no empty chunks
        data = group.create_dataset(name, shape, dtype)
    else:
        row = int(np.prod(shape[1:])) * dtype.itemsize
        most = min(PIECE, max(1, SMALL_CHUNK // row), shape[0])
        together = 1 << most.bit_length() - 1  # a power of two divides what is written at once
        chunks = (together, *shape[1:])
        data = group.create_dataset(name, shape, dtype, chunks=chunks, compression="gzip", compression_opts=4)
    data.attrs["description"] = description


def _names(group: h5py.Group) -> Iterator[str]:
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            yield from (f"{name}/{key}" for key in item)
        else:
            yield name


def _items(group: h5py.Group) -> int:
    """Number of scenes or clips."""
    return group["first" if "first" in group else next(_names(group))].shape[0]


def _frames(group: h5py.Group) -> int | None:
    """Frames of every clip, if it has a time axis and one length."""
    if "first" not in group:
        image = group.get("image")
        return int(image.shape[1]) if image is not None and image.ndim == 5 else None  # files from before 0.2
    lengths = np.diff(group["first"][:], append=group[next(n for n in _names(group) if n != "first")].shape[0])
    return int(lengths[0]) if (lengths == lengths[0]).all() else None


def _heading(split: str, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    return f"{split}/{name} {np.dtype(dtype).str} {tuple(int(n) for n in shape)}\n".encode()


def _combine(digests: Mapping[str, str]) -> str:
    return hashlib.sha256("\n".join(f"{name} {digests[name]}" for name in sorted(digests)).encode()).hexdigest()


def _write_attributes(file: h5py.File, spec: Spec, seed: int | None) -> None:
    file.attrs["format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
    for name in ("name", "version", "license", "source", "notes", "content_hash"):
        file.attrs[name] = getattr(spec, name)
    file.attrs["fields"] = json.dumps(spec.fields)
    if spec.max_objects is not None:
        file.attrs["max_objects"] = spec.max_objects
    if seed is not None:
        file.attrs["seed"] = seed


def _read_spec(file: h5py.File, path: Path) -> Spec:
    attributes = dict(file.attrs)
    if attributes.get("format") != FORMAT:
        raise ValueError(
            f"{path} is an HDF5 file, but not one that objectscape wrote (groups: {', '.join(file) or 'none'}). "
            "EfficientMORL's archives are read by objectscape.data.emorl_h5.EfficientMORLArchive."
        )
    if attributes["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {attributes['format_version']}; this objectscape reads version "
            f"{FORMAT_VERSION}. {_AGAIN}"
        )
    if attributes.get("batch", "Scene") not in BATCHES:
        raise ValueError(f"{path} holds batches of type {attributes['batch']!r}; expected one of {', '.join(BATCHES)}")
    splits: dict[str, int | None] = {name: _items(group) for name, group in file.items()}
    group = file[next(iter(splits))]
    return Spec(
        name=attributes["name"],
        image_size=tuple(group["image"].shape[-2:]) if "image" in group else None,
        frames=_frames(group),
        splits=splits,
        fields=json.loads(attributes["fields"]),
        max_objects=int(attributes["max_objects"]) if "max_objects" in attributes else None,
        license=attributes["license" if "license" in attributes else "licence"],  # "licence" before 0.2
        source=attributes["source"],
        version=attributes["version"],
        content_hash=attributes["content_hash"],
        notes=attributes["notes"],
    )
