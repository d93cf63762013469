"""Frames in a file: payloads one behind the other, each whole or known to be damaged.

A frame is a mark (KEPT, or MADE once its payload has done what it was there for), the length of the
payload, the CRC-32 of length and payload, and the payload. Offsets are in bytes from the file's beginning.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

KEPT, MADE = b"\xf5kpt", b"\xf5mde"

_HEAD = struct.Struct(">4sII")
_CHUNK = 1 << 16
_AT_ONCE = 1 << 30  # the system reads and writes less than 2 GiB in one call


class Frame(NamedTuple):
    """A whole frame, from `offset` up to `end`."""

    offset: int
    end: int
    made: bool
    payload: bytes


class Damage(NamedTuple):
    """What is no frame, from `offset` up to `end`. `last`: nothing follows, as after a crash in mid-write."""

    offset: int
    end: int
    last: bool

    def __str__(self) -> str:
        size = self.end - self.offset
        if self.last:
            return f"the last {size} bytes, from offset {self.offset}, are no whole write: it was cut off"
        return (
            f"{size} bytes at offset {self.offset} are damaged: what was there is lost, unless the store "
            "had it already"
        )


def framed(payload: bytes) -> bytes:
    """The frame around a payload of less than 4 GiB."""
    return _HEAD.pack(KEPT, len(payload), _checksum(payload)) + payload


def payload_of(frame: bytes) -> bytes:
    """What `framed` was given."""
    return frame[_HEAD.size :]


def _checksum(payload: bytes) -> int:
    return crc32(payload, crc32(len(payload).to_bytes(4, "big")))


def frames(fd: int, offset: int, end: int) -> Iterator[Frame | Damage]:
    """Frame after frame from `offset` up to `end`, and what lies between them."""
    while offset < end:
        each: Frame | Damage | None = frame_at(fd, offset, end)
        if each is None:
            resumed = _next_frame(fd, offset + 1, end)
            each = Damage(offset, end if resumed is None else resumed, resumed is None)
        yield each
        offset = each.end


def frame_at(fd: int, offset: int, end: int) -> Frame | None:
    """The frame that begins at `offset` and ends at `end` or before; None if there is no whole one."""
    head = os.pread(fd, _HEAD.size, offset)
    if len(head) < _HEAD.size:
        return None
    mark, length, checksum = _HEAD.unpack(head)
    start = offset + _HEAD.size
    if mark not in (KEPT, MADE) or start + length > end:
        return None
    payload = _read(fd, length, start)
    return Frame(offset, start + length, mark == MADE, payload) if _checksum(payload) == checksum else None


def _next_frame(fd: int, offset: int, end: int) -> int | None:
    """Where the next whole frame begins, if there is one."""
    first = KEPT[:1]
    while offset < end:
        chunk = os.pread(fd, _CHUNK, offset)
        place = chunk.find(first)
        while place >= 0:
            if frame_at(fd, offset + place, end) is not None:
                return offset + place
            place = chunk.find(first, place + 1)
        offset += len(chunk) or end
    return None


def mark_made(fd: int, offset: int) -> None:
    """Have the frame at `offset` count as MADE, for whoever reads the file after a crash too."""
    os.pwrite(fd, MADE, offset)


def write(fd: int, data: bytes, offset: int) -> None:
    """All of `data`, and on the disk. OSError: perhaps a part of it."""
    left = memoryview(data)
    while left:
        written = os.pwrite(fd, left[:_AT_ONCE], offset)
        left = left[written:]
        offset += written
    os.fsync(fd)


def _read(fd: int, size: int, offset: int) -> bytes:
    parts = []
    while size:
        part = os.pread(fd, min(size, _AT_ONCE), offset)
        if not part:
            break  # cut off meanwhile: the checksum will tell
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
