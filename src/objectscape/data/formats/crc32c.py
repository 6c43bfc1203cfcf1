"""CRC-32C (Castagnoli), the checksum of TFRecord files, vectorised with NumPy.

A CRC is linear over GF(2), so the CRC of two joined pieces follows from the CRCs of the pieces: shift the left one by
the length of the right one, then xor. Every byte of a 32-byte block is looked up in the table of its place, the
blocks' CRCs are joined pairwise until one is left: log2(n) NumPy steps instead of n Python steps.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

POLYNOMIAL = 0x82F63B78  # reflected
_MASK_DELTA = 0xA282EAD8
_BLOCK_LEVEL = 5  # blocks of 2**5 bytes


def _byte_table() -> np.ndarray:
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return table


_TABLE = _byte_table()
_PYTHON_TABLE = _TABLE.tolist()


@lru_cache(maxsize=40)
def _shift_tables(level: int) -> np.ndarray:
    """(4, 256) uint32: what 2**level zero bytes do to a register whose j-th byte is b, for every j and b."""
    if level == 0:
        register = np.arange(256, dtype=np.uint32)[None] << (8 * np.arange(4, dtype=np.uint32))[:, None]
        return _TABLE[register & 0xFF] ^ (register >> 8)
    half = _shift_tables(level - 1)
    return _shift(half, half)


def _shift(tables: np.ndarray, register: np.ndarray) -> np.ndarray:
    octets = np.ascontiguousarray(register, dtype="<u4").view(np.uint8).reshape(*register.shape, 4)
    result = tables[0].take(octets[..., 0])
    for place in range(1, 4):
        result ^= tables[place].take(octets[..., place])
    return result


@lru_cache(maxsize=1)
def _block_tables() -> np.ndarray:
    """(32, 256) uint32: the CRC of byte b at place j of a block, all other bytes zero."""
    tables = [_TABLE]
    for _ in range(2**_BLOCK_LEVEL - 1):
        tables.append(_shift(_shift_tables(0), tables[-1]))
    return np.stack(tables[::-1])


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of `data`; crc32c(b"123456789") == 0xE3069283."""
    if len(data) < 64:
        register = 0xFFFFFFFF
        for octet in bytes(data):
            register = _PYTHON_TABLE[(register ^ octet) & 0xFF] ^ (register >> 8)
        return register ^ 0xFFFFFFFF
    # Leading zeros do not change a CRC that starts from zero; the real start, all ones, is folded into the data.
    padding = -len(data) % 2**_BLOCK_LEVEL
    octets = np.zeros(padding + len(data), dtype=np.uint8)
    octets[padding:] = np.frombuffer(data, dtype=np.uint8)
    octets[padding : padding + 4] ^= 0xFF
    places = np.ascontiguousarray(octets.reshape(-1, 2**_BLOCK_LEVEL).T)  # 32, blocks
    pieces = np.zeros(places.shape[1], dtype=np.uint32)
    for table, column in zip(_block_tables(), places, strict=True):
        pieces ^= table.take(column)
    level = _BLOCK_LEVEL
    while len(pieces) > 1:
        if len(pieces) % 2:
            pieces = np.concatenate([np.zeros(1, np.uint32), pieces])
        pieces = _shift(_shift_tables(level), pieces[0::2]) ^ pieces[1::2]
        level += 1
    return int(pieces[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """The CRC as TFRecord stores it (rotated, plus a constant, so that a CRC of CRCs stays meaningful)."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF
