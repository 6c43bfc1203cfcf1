"""Where published data sets and weights come from, and fetching them; nothing is downloaded unless `fetch` is called.

Sizes and hashes are given where the publishers state them; None means that nobody does. Google's storage states an MD5
with each answer, which `fetch` checks.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from objectscape.files import expanded
from objectscape.names import unknown
from objectscape.nn.inception_file import WEIGHTS_FILE, WEIGHTS_SHA256, WEIGHTS_URL

GOOGLE = "https://storage.googleapis.com"
PIECE = 2**20


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch."""

    url: str
    path: str
    """Below the folder that the user names."""
    size: int | None = None
    """Bytes; None if not published."""
    sha256: str | None = None
    """None if not published."""


@dataclass(frozen=True)
class Source:
    """A published data set, or published weights."""

    title: str
    page: str
    license: str
    size: str
    """In words, as the publishers state it."""
    files: tuple[RemoteFile, ...] = field(repr=False)
    """Empty if the files must be fetched by hand."""
    how: str = ""
    """What to do before or after fetching."""

    def command(self, name: str) -> str:
        """The command that fetches the set called `name`, or what to do by hand."""
        return f"objectscape data fetch {name} --to FOLDER" if self.files else self.how


def _bucket(bucket: str, *paths: str) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(f"{GOOGLE}/{bucket}/{path}", path) for path in paths)


def _multi_object(title: str, *paths: str) -> Source:
    return Source(
        title=f"{title} (Multi-Object Datasets)",
        page="https://github.com/google-deepmind/multi_object_datasets",
        license="Apache-2.0",
        size="not published; gzip-compressed TFRecord",
        files=_bucket("multi-object-datasets", *paths),
        how="Convert each file once: objectscape data convert.",
    )


SOURCES: dict[str, Source] = {
    "tetrominoes": _multi_object("Tetrominoes", "tetrominoes/tetrominoes_train.tfrecords"),
    "multi_dsprites": _multi_object(
        "Multi-dSprites",
        *(
            f"multi_dsprites/multi_dsprites_{variant}.tfrecords"
            for variant in ("binarized", "colored_on_grayscale", "colored_on_colored")
        ),
    ),
    "objects_room": _multi_object(
        "Objects Room",
        *(
            f"objects_room/objects_room_{variant}.tfrecords"
            for variant in ("train", "six_objects", "empty_room", "identical_color")
        ),
    ),
    "clevr": _multi_object("CLEVR with masks", "clevr_with_masks/clevr_with_masks_train.tfrecords"),
    "emorl_h5": Source(
        title="EfficientMORL's archives",
        page="https://doi.org/10.5281/zenodo.4895643",
        license="Apache-2.0 (Multi-Object Datasets)",
        size="one zip, about 56 GB unpacked",
        files=(),
        how="Fetch the zip from https://doi.org/10.5281/zenodo.4895643 and unpack it.",
    ),
    "clevrtex": Source(
        title="ClevrTex and its variants",
        page="https://www.robots.ox.ac.uk/~vgg/research/clevrtex",
        license="see its page",
        size="not published; 320x240 images with labels and properties",
        files=(),
        how="Fetch the archives from the page and unpack them in one folder, which then holds clevrtex_full, ...",
    ),
    "dsprites": Source(
        title="dSprites",
        page="https://github.com/google-deepmind/dsprites-dataset",
        license="Apache-2.0",
        size="about 26 MB",
        files=(
            RemoteFile(
                "https://github.com/google-deepmind/dsprites-dataset/raw/master/"
                "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
                "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
            ),
        ),
        how="Multi-dSprites as GENESIS makes it is drawn from these sprites.",
    ),
    "gqn": Source(
        title="GQN rooms-ring-camera",
        page="https://github.com/google-deepmind/gqn-datasets",
        license="not stated in the repository; see its page",
        size="about 250 GB in 2400 files; fetch some of them with a pattern",
        files=_bucket(
            "gqn-dataset",
            *(f"rooms_ring_camera/train/{n:04d}-of-2160.tfrecord" for n in range(1, 2161)),
            *(f"rooms_ring_camera/test/{n:03d}-of-240.tfrecord" for n in range(1, 241)),
        ),
    ),
    "shapestacks": Source(
        title="ShapeStacks",
        page="https://github.com/ogroth/shapestacks",
        license="GPL-3.0 (the code repository; the data's own is not stated)",
        size="meta 156 KB, mjcf 39 MB, rgb 33 GB, iseg 352 MB",
        files=tuple(
            RemoteFile(
                f"http://shapestacks-file.robots.ox.ac.uk/static/download/v1/shapestacks-{part}.tar.gz",
                f"shapestacks-{part}.tar.gz",
            )
            for part in ("meta", "mjcf", "rgb", "iseg")
        ),
        how="Unpack every archive in the same folder: for f in shapestacks-*.tar.gz; do tar xzf $f; done",
    ),
    "sketchy": Source(
        title="Sketchy (the two subsets that GENESIS-V2 uses)",
        page="https://github.com/google-deepmind/deepmind-research/tree/master/sketchy",
        license="code Apache-2.0; the data's own is not stated in the sources studied",
        size="not published; four archives of up to 100 episodes each",
        files=_bucket(
            "sketchy-data",
            *(
                f"{subset}-{n:05d}-of-00002.tar.bz2"
                for subset in ("lift_green__demos", "stack_green_on_red__demos")
                for n in range(2)
            ),
        ),
        how="Unpack them: objectscape.data.sketchy.unpack(archives, episodes).",
    ),
    "apc": Source(
        title="MIT-Princeton Amazon Picking Challenge 2016, object segmentation training set",
        page="http://apc.cs.princeton.edu",
        license="not stated",
        size="about 130 GB",
        files=(RemoteFile("http://3dvision.princeton.edu/projects/2016/apc/downloads/training.zip", "training.zip"),),
        how="Unpack it: unzip training.zip",
    ),
    "inception": Source(
        title="Inception-v3 (TensorFlow, 2015-12-05), the network of the FID",
        page="https://github.com/mseitzer/pytorch-fid",
        license="Apache-2.0",
        size="91 MiB",
        files=(RemoteFile(WEIGHTS_URL, WEIGHTS_FILE, sha256=WEIGHTS_SHA256),),
        how=f"objectscape evaluate RUN --inception FOLDER/{WEIGHTS_FILE}",
    ),
}


def find_source(name: str) -> Source:
    """The published set called `name`; ValueError suggests near matches."""
    if name not in SOURCES:
        raise ValueError(unknown("published data set", name, SOURCES))
    return SOURCES[name]


def fetch(
    name: str,
    folder: str | os.PathLike[str],
    *,
    pattern: str = "*",
    progress: Callable[[str, int, int | None], None] | None = None,
) -> list[Path]:
    """Download a published data set; what is there already is kept, what was interrupted is resumed.

    Args:
        name: of the set, as in `SOURCES`.
        folder: to put the files into.
        pattern: fetch only files whose path matches, for example "*/test/*".
        progress: called with (path, bytes so far, bytes in all or None).

    Returns:
        The files.

    Raises:
        ValueError: unknown set, nothing matches, nothing to fetch automatically, or content with a wrong hash.
        OSError: no connection, or the disk is full; call again to resume.
    """
    source = find_source(name)
    if not source.files:
        raise ValueError(f"{name} cannot be fetched automatically. {source.how}")
    files = [file for file in source.files if fnmatch.fnmatch(file.path, pattern)]
    if not files:
        raise ValueError(f"pattern={pattern!r} matches no file of {name}, such as {source.files[0].path}")
    return [fetch_file(file, folder, progress=progress) for file in files]


def fetch_file(
    file: RemoteFile,
    folder: str | os.PathLike[str],
    *,
    progress: Callable[[str, int, int | None], None] | None = None,
    timeout: float = 60.0,
) -> Path:
    """Download one file to `folder`; see `fetch`. It has its final name only when it is complete and its hash is right.

    Args:
        file: what to fetch.
        folder: to put it into.
        progress: as in `fetch`.
        timeout: seconds without any data after which the connection counts as lost.
    """
    target = expanded(folder) / file.path
    if target.exists():
        if file.sha256 is not None and _digest(target, "sha256").hex() != file.sha256:
            raise ValueError(f"{target} exists, but has another SHA-256 than {file.sha256}; delete it and fetch again.")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        total, md5 = _download(file, part, progress, timeout)
    except urllib.error.HTTPError as error:
        raise OSError(
            f"{file.url} answered {error.code} {error.reason}; see the set's page for a new address."
        ) from error
    except (OSError, HTTPException) as error:
        have = part.stat().st_size if part.exists() else 0
        free = shutil.disk_usage(target.parent).free
        raise OSError(
            f"{file.url}: stopped after {have} bytes ({error}; {free / 1e6:.0f} MB free). Call again to go on from "
            "there."
        ) from error
    size = part.stat().st_size
    if total is not None and size != total:
        if size > total:
            part.unlink()
        raise OSError(f"{file.url}: {size} of {total} bytes arrived. Call again to go on from there.")
    for expected, kind in ((file.sha256 and bytes.fromhex(file.sha256), "sha256"), (md5, "md5")):
        if expected and _digest(part, kind) != expected:
            found = _digest(part, kind).hex()
            part.unlink()
            raise ValueError(
                f"{file.url}: {kind.upper()} is {found}, expected {expected.hex()}; what arrived was "
                "deleted. Fetch again; if it repeats, the file was changed or the connection changes it."
            )
    os.replace(part, target)
    return target


def _download(
    file: RemoteFile, part: Path, progress: Callable[[str, int, int | None], None] | None, timeout: float
) -> tuple[int | None, bytes | None]:
    """Append to `part` what is missing; (size in all if known, MD5 if the server states it)."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "objectscape"}
    if have:
        headers["Range"] = f"bytes={have}-"
    if urlsplit(file.url).netloc == urlsplit(GOOGLE).netloc:
        headers["Accept-Encoding"] = "gzip"  # the bytes as stored: otherwise it may decompress, and then cannot resume
    request = urllib.request.Request(file.url, headers=headers)
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing
            size = error.headers.get("Content-Range", "").rpartition("/")[2]
            return (int(size) if size.isdigit() else None), _stated_md5(error.headers.get_all("x-goog-hash"))
        raise
    with response, part.open("ab" if response.status == 206 else "wb") as stream:
        if response.status != 206:  # the server cannot resume
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else file.size
        while block := response.read(PIECE):
            stream.write(block)
            have += len(block)
            if progress is not None:
                progress(file.path, have, total)
    return total, _stated_md5(response.headers.get_all("x-goog-hash"))


def _stated_md5(hashes: list[str] | None) -> bytes | None:
    """The MD5 of Google's header `x-goog-hash: crc32c=...,md5=...`."""
    for item in ",".join(hashes or ()).split(","):
        kind, _, value = item.strip().partition("=")
        if kind == "md5":
            return base64.b64decode(value)
    return None


def _digest(path: Path, kind: str) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).digest()
