"""TFRecord files of tf.train.Example messages, read and written without TensorFlow.

A file is a row of records, the whole of it possibly one gzip stream (told by its first bytes, not by its name):
`uint64 length | uint32 masked CRC-32C of the length | payload | uint32 masked CRC-32C of the payload`, little-endian.
A payload is a protobuf `Example`: a map from names to lists of byte strings, float32 or int64.

The length's CRC is always checked, so a corrupt length is never believed. The payload's CRC is checked where `check`
says so: converting checks every record, reading at random one in `SAMPLED_CHECK`.
"""

from __future__ import annotations

import gzip
import logging
import os
import struct
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from objectscape.data.formats.crc32c import masked_crc32c
from objectscape.data.formats.opening import GZIP_SIGNATURE, PerProcess, existing_file, signature

log = logging.getLogger(__name__)

BYTES, FLOATS, INTS = 1, 2, 3  # the three kinds of list in tf.train.Feature
SAMPLED_CHECK = 16
MANY_RESTARTS = 10
DEFLATE = 1032  # no stream is longer than this many times its compressed size
PIECE = 2**20  # bytes read at a time
AGAIN = "Fetch the file again (`objectscape data info NAME` prints how)."


class TFRecordFile:
    """The records of one file, by number.

    Plain files are read at random through an index of byte offsets, which grows as far as it is needed. A gzip stream
    can only be read forwards: ascending numbers are one pass, and going back starts it again, so convert such a file
    once before training on it.

    Args:
        path: the file.

    Raises:
        FileNotFoundError, ValueError: the file is missing, empty, or no TFRecord (its first record header is wrong).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = existing_file(path, "a TFRecord file")
        self.gzip = signature(self.path).startswith(GZIP_SIGNATURE)
        opener = partial(gzip.open, self.path, "rb") if self.gzip else partial(open, self.path, "rb")
        self._stream = PerProcess(cast("partial[BinaryIO]", opener))
        # start of record i, in the decompressed stream; the last entry is where the next one starts
        self._offsets = array("Q", [0])
        self._complete = False
        self._restarts = 0
        self._header(self._stream(), 0)

    def count(self, limit: int | None = None) -> int:
        """Number of records, or `limit` if there are more (which spares reading the rest of the file)."""
        while not self._complete and (limit is None or len(self._offsets) - 1 < limit):
            self._advance()
        known = len(self._offsets) - 1
        return known if limit is None else min(known, limit)

    def read(self, numbers: Sequence[int], *, check: bool = True) -> Iterator[bytes]:
        """The payloads of the records `numbers`, in that order.

        Args:
            numbers: of the records; ascending numbers are fastest.
            check: verify every payload's CRC; otherwise only those of record numbers divisible by `SAMPLED_CHECK`.
        """
        for number in numbers:
            if number >= self.count(number + 1):
                raise IndexError(f"{self.path} has {self.count()} records; there is no record {number}")
            offset = self._offsets[number]
            length = self._offsets[number + 1] - offset - 16
            stream = self._stream()
            self._seek(stream, offset + 12)
            payload = self._take(stream, length + 4, number, "payload")
            data = payload[:-4]
            if (check or number % SAMPLED_CHECK == 0) and masked_crc32c(data) != int.from_bytes(payload[-4:], "little"):
                raise ValueError(
                    f"{self.path}: record {number} at byte {offset}{self._where} is corrupt: its {length} bytes do "
                    f"not match their checksum. {AGAIN}"
                )
            yield data

    def close(self) -> None:
        """Close the file; reading opens it again."""
        self._stream.close()

    def __iter__(self) -> Iterator[bytes]:
        """Every payload in order, all checksums verified."""
        number = 0
        while self.count(number + 1) > number:
            yield from self.read([number])
            number += 1

    @property
    def _where(self) -> str:
        return " of the decompressed stream" if self.gzip else ""

    def _advance(self) -> None:
        """Find where the next record ends."""
        number, offset = len(self._offsets) - 1, self._offsets[-1]
        stream = self._stream()
        self._seek(stream, offset)
        length = self._header(stream, number)
        if length is None:
            self._complete = True
            return
        end = offset + 12 + length + 4
        most = self.path.stat().st_size * (DEFLATE if self.gzip else 1)
        if end > most:
            self._fail_truncated(number, offset, 12 + length + 4, most - offset)
        self._offsets.append(end)

    def _seek(self, stream: BinaryIO, offset: int) -> None:
        try:
            if self.gzip and offset < stream.tell():
                self._restarts += 1
                if self._restarts == MANY_RESTARTS:
                    log.warning(
                        "%s is gzip-compressed: each step back decompresses it from its start again, which is "
                        "very slow. Convert it once (`objectscape data convert`).",
                        self.path,
                    )
            stream.seek(offset)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._fail_gzip(error, offset)

    def _header(self, stream: BinaryIO, number: int) -> int | None:
        """Payload length of the record that starts here; None at the end of the file."""
        offset = self._offsets[number]
        header = self._take(stream, 12, number, "header", allow_end=number > 0)
        if not header:
            return None
        if masked_crc32c(header[:8]) != int.from_bytes(header[8:], "little"):
            if number == 0:
                raise ValueError(
                    f"{self.path} is not a TFRecord file, or is corrupt from the start: its first 12 bytes "
                    f"{header.hex(' ')} are no record header (length and checksum of the length). {AGAIN}"
                )
            raise ValueError(
                f"{self.path}: record {number} at byte {offset}{self._where} has a corrupt header ({header.hex(' ')}: "
                f"the length does not match its checksum). {AGAIN}"
            )
        return int.from_bytes(header[:8], "little")

    def _take(self, stream: BinaryIO, size: int, number: int, part: str, *, allow_end: bool = False) -> bytes:
        try:
            pieces = [stream.read(min(size, PIECE))]
            while pieces[-1] and (left := size - sum(map(len, pieces))):  # never more memory than there is data
                pieces.append(stream.read(min(left, PIECE)))
            data = b"".join(pieces)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._fail_gzip(error, self._offsets[number])
        if len(data) < size and not (allow_end and not data):
            if number == 0 and part == "header":
                raise ValueError(
                    f"{self.path} is not a TFRecord file: it holds only {len(data)} bytes{self._where}. {AGAIN}"
                )
            self._fail_truncated(number, self._offsets[number], size, len(data))
        return data

    def _fail_truncated(self, number: int, offset: int, need: int, have: int) -> None:
        raise ValueError(
            f"{self.path} is truncated: record {number} at byte {offset}{self._where} needs {need} bytes, but only "
            f"{have} are left. {AGAIN}"
        )

    def _fail_gzip(self, error: Exception, offset: int) -> None:
        what = "is truncated" if isinstance(error, EOFError) else "is corrupt"
        raise ValueError(
            f"{self.path}: its gzip stream {what} near decompressed byte {offset} ({error}). {AGAIN}"
        ) from error


class TFRecordFiles:
    """The records of several files, numbered through. At most one file is open at a time.

    Args:
        paths: the files, in order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.files: list[TFRecordFile] = []
        counts = []
        for path in paths:
            file = TFRecordFile(path)
            counts.append(file.count())
            file.close()
            self.files.append(file)
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.files else 0

    def read(self, numbers: Sequence[int], *, check: bool = True) -> Iterator[tuple[str, bytes]]:
        """(file and record in words, payload) of the ascending records `numbers`; `check` as in `TFRecordFile.read`."""
        current = None
        for number in numbers:
            place = int(np.searchsorted(self._ends, number, side="right"))
            file = self.files[place]
            if current not in (None, file):
                current.close()
            current = file
            inside = number - (int(self._ends[place - 1]) if place else 0)
            yield f"{file.path}, record {inside}", next(file.read([inside], check=check))
        if current is not None:
            current.close()


@dataclass(frozen=True)
class Feature:
    """One list of an Example; it is decoded only when asked for."""

    kind: int
    """BYTES, FLOATS or INTS."""
    data: memoryview
    """The list's protobuf message."""
    where: str = ""
    """For error messages: file, record and feature."""

    def strings(self) -> list[bytes]:
        """The elements of a list of byte strings."""
        self._expect(BYTES, "byte strings")
        return [bytes(cast(memoryview, value)) for _, value in _fields(self.data, self.where)]

    def octets(self) -> np.ndarray:
        """(n,) uint8 of a list that stores an array, one byte per element (`0A 01 xx` each) or as one long string."""
        self._expect(BYTES, "bytes")
        raw = np.frombuffer(self.data, dtype=np.uint8)
        if len(raw) % 3 == 0:
            triples = raw.reshape(-1, 3)
            if (triples[:, 0] == 0x0A).all() and (triples[:, 1] == 1).all():
                return triples[:, 2]
        return np.frombuffer(b"".join(self.strings()), dtype=np.uint8)

    def floats(self) -> np.ndarray:
        """(n,) float32; packed or not."""
        self._expect(FLOATS, "floats")
        return np.frombuffer(
            b"".join(bytes(cast(memoryview, v)) for _, v in _fields(self.data, self.where)), dtype="<f4"
        )

    def ints(self) -> np.ndarray:
        """(n,) int64; packed or not."""
        self._expect(INTS, "integers")
        values: list[int] = []
        for wire, value in _fields(self.data, self.where):
            if wire == 0:
                values.append(cast(int, value))
            else:
                packed, position = cast(memoryview, value), 0
                while position < len(packed):
                    number, position = _varint(packed, position, self.where)
                    values.append(number)
        return np.array(values, dtype=np.uint64).astype(np.int64)  # two's complement

    def _expect(self, kind: int, name: str) -> None:
        if self.kind != kind:
            found = {BYTES: "byte strings", FLOATS: "floats", INTS: "integers"}[self.kind]
            raise ValueError(f"{self.where} holds {found}; expected {name}. Is this the right file?")


def parse_example(payload: bytes, where: str = "record") -> dict[str, Feature]:
    """The features of one tf.train.Example.

    Args:
        payload: of a record.
        where: file and record, for error messages.

    Raises:
        ValueError: if the payload is not such a message.
    """
    features: dict[str, Feature] = {}
    for _, body in _messages(memoryview(payload), 1, where):  # Example.features
        for _, entry in _messages(body, 1, where):  # Features.feature, a map
            name, kind, data = "", 0, memoryview(b"")
            for field, value in _messages(entry, None, where):
                if field == 1:
                    name = bytes(value).decode("utf-8", errors="replace")
                elif field == 2:
                    for list_kind, values in _messages(value, None, where):
                        kind, data = list_kind, values
            if kind in (BYTES, FLOATS, INTS):
                features[name] = Feature(kind, data, f"{where}, feature {name!r}")
    if not features:
        raise ValueError(
            f"{where} holds no tf.train.Example with features ({len(payload)} bytes); is this the right file?"
        )
    return features


def _messages(data: memoryview, only: int | None, where: str) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a message: (field number, content)."""
    for tag, value in _tagged(data, where):
        if tag & 7 == 2 and only in (None, tag >> 3):
            yield tag >> 3, cast(memoryview, value)


def _fields(data: memoryview, where: str) -> Iterator[tuple[int, memoryview | int]]:
    """The `repeated value = 1` of a list: (wire type, content)."""
    for tag, value in _tagged(data, where):
        if tag >> 3 == 1:
            yield tag & 7, value


def _tagged(data: memoryview, where: str) -> Iterator[tuple[int, memoryview | int]]:
    position = 0
    while position < len(data):
        tag, position = _varint(data, position, where)
        wire = tag & 7
        if wire == 0:
            number, position = _varint(data, position, where)
            yield tag, number
            continue
        if wire == 2:
            length, position = _varint(data, position, where)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(
                f"{where} is no protobuf message (wire type {wire} at byte {position}); is this the right file?"
            )
        if position + length > len(data):
            raise ValueError(f"{where} is no protobuf message (a field ends beyond it); is this the right file?")
        yield tag, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int, where: str) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 70:
        octet = data[position]
        value |= (octet & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if octet < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise ValueError(f"{where} is no protobuf message (unfinished number at byte {position}); is this the right file?")


def encode_example(features: Mapping[str, np.ndarray | Sequence[bytes]]) -> bytes:
    """The payload of one tf.train.Example: float and int64 arrays packed, uint8 one byte per element, else strings."""

    def lengthed(field: int, content: bytes) -> bytes:
        return _encode_varint(field << 3 | 2) + _encode_varint(len(content)) + content

    body = b""
    for name, value in features.items():
        if not isinstance(value, np.ndarray):
            feature = lengthed(BYTES, b"".join(lengthed(1, item) for item in value))
        elif value.dtype == np.uint8:
            triples = np.empty((value.size, 3), dtype=np.uint8)
            triples[:, 0], triples[:, 1], triples[:, 2] = 0x0A, 1, value.ravel()
            feature = lengthed(BYTES, triples.tobytes())
        elif np.issubdtype(value.dtype, np.integer):
            packed = b"".join(_encode_varint(int(item) & 0xFFFFFFFFFFFFFFFF) for item in value.ravel())
            feature = lengthed(INTS, lengthed(1, packed))
        else:
            feature = lengthed(FLOATS, lengthed(1, value.astype("<f4").tobytes()))
        body += lengthed(1, lengthed(1, name.encode()) + lengthed(2, feature))
    return lengthed(1, body)


def write_records(path: str | os.PathLike[str], payloads: Sequence[bytes], *, compress: bool = False) -> Path:
    """Write a TFRecord file, gzip-compressed if `compress`."""
    opener = gzip.open if compress else open
    with opener(path, "wb") as stream:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            stream.write(length + struct.pack("<I", masked_crc32c(length)))
            stream.write(payload + struct.pack("<I", masked_crc32c(payload)))
    return Path(path)


def _encode_varint(value: int) -> bytes:
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
