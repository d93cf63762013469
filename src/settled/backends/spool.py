"""A spool: a file of writes that their store has yet to take, in the order in which they were made.

    settled-spool 1              a line that says what the file is, and the version of its format
    frame                        the `Head`, in msgpack
    frame ...                    a `Kept` for each write, in msgpack; see `frames`

Its process holds a lock (`flock`) on the file for as long as it lives: a spool that can be locked is an
orphan, and whoever locks it may make its writes.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from settled.backends import frames
from settled.backends.frames import Damage
from settled.errors import SchemaError
from settled.record import Settle
from settled.url import Location

log = logging.getLogger("settled.backends")

SPOOL, REFUSED, DAMAGED = ".spool", ".refused", ".damaged"
"""Suffixes: writes to be made, writes that the store has refused for good, what is left of a damaged file."""

MAGIC = b"settled-spool 1\n"


class Head(msgspec.Struct, frozen=True, gc=False):
    """Which store the writes are for (its URL without secrets and options), and who kept them.

    `at` is when the first was kept (UTC seconds): of two spools of one process the older is made first.
    """

    url: str
    at: float
    pid: int
    host: str


class Kept(msgspec.Struct, frozen=True, gc=False):
    """One write, kept since `at` (UTC seconds); `refused` says why the store does not take it."""

    write: Settle
    at: float
    refused: str | None = None


class Look(NamedTuple):
    """What is in a spool: `oldest` is when the first of its `writes` was kept, None where there are none."""

    path: Path
    head: Head
    alive: bool
    writes: int
    oldest: float | None
    damage: list[Damage]


_encode = msgspec.msgpack.Encoder().encode
_kept = msgspec.msgpack.Decoder(Kept).decode
_head = msgspec.msgpack.Decoder(Head).decode


def framed(kept: Kept) -> bytes:
    """One write as a frame. ValueError for what msgpack cannot hold."""
    return frames.framed(_encode(kept))


def unframed(frame: bytes) -> Kept:
    """The write in what `framed` returned."""
    return _kept(frames.payload_of(frame))


# -- where spools are ------------------------------------------------------------------------------


def folder(given: object = None) -> Path:
    """The folder of spools: as given, else SETTLED_SPOOL, else below XDG_STATE_HOME or ~/.local/state."""
    chosen = given or os.environ.get("SETTLED_SPOOL")
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(str(chosen or f"{state}/settled/spool")).expanduser().absolute()
    except RuntimeError as exc:
        raise FileNotFoundError(f"there is no folder for spools: set SETTLED_SPOOL ({exc})") from exc


def store_of(location: Location) -> str:
    """The store as its spools name it: the URL without secrets and options."""
    return location.redacted().partition("?")[0]


def found(folder: Path) -> list[Path]:
    """The spools of every store that are in the folder, refused and damaged ones too."""
    suffixes = (SPOOL, REFUSED, DAMAGED)
    return sorted(path for path in folder.glob("*") if path.suffix in suffixes)


def is_of(path: Path, url: str) -> bool:
    """Whether this is a spool of the store with that URL (see `store_of`)."""
    return path.name.startswith(f"{_digest(url)}-")


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


# -- a spool that this process holds ---------------------------------------------------------------


class Spool:
    """A spool in the hands of this process: made by `create`, or an orphan's by `take`. Not thread-safe.

    Raises OSError where the file system does.
    """

    def __init__(self, path: Path, fd: int, head: Head, start: int, end: int) -> None:
        self.path = path
        self.head = head
        self.damage: list[Damage] = []
        self._fd = fd
        self._next = start
        self._end = end
        self._oldest: tuple[int, Kept] | None = None

    @classmethod
    def create(cls, folder: Path, url: str, at: float, suffix: str = SPOOL) -> Self:
        """A new file in the folder, which is made too; see `Head` for `url` and `at`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{_digest(url)}-{os.getpid()}-{os.urandom(4).hex()}{suffix}"
        new = path.with_name(f"{path.name}.new")  # nobody shall find it before it is locked
        head = Head(url, at, os.getpid(), os.uname().nodename)
        begin = MAGIC + frames.framed(_encode(head))
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _lock(fd)
            frames.write(fd, begin, 0)
            new.rename(path)
            _sync(folder)
        except BaseException:
            os.close(fd)
            new.unlink(missing_ok=True)
            raise
        return cls(path, fd, head, len(begin), len(begin))

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """An orphan's spool, now held by this process; None if its process lives, or the file is gone.

        SchemaError if it is none, or one of a later release.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if _lock(fd) and _is_at(fd, path):  # else somebody drained it while we opened it
                return cls(path, fd, *_begin(fd, path))
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def append(self, framed: bytes) -> None:
        """Add whole frames; they are on the disk when this returns. OSError: nothing was added."""
        try:
            frames.write(self._fd, framed, self._end)
        except BaseException:
            os.ftruncate(self._fd, self._end)
            raise
        self._end += len(framed)

    def oldest(self) -> Kept | None:
        """The first write that is still to be made. What is damaged before it is logged, and in `damage`."""
        if self._oldest is None:
            for each in _writes(self._fd, self._next, self._end):
                if not isinstance(each, Damage):
                    self._next, self._oldest = each.end, (each.offset, each.kept)
                    break
                self._next = each.end
                self.damage.append(each)
                log.error("%s: %s", self.path, each)
        return None if self._oldest is None else self._oldest[1]

    def made(self) -> None:
        """The store has the oldest write now, or another file: it does not come again, after a crash either."""
        if self._oldest is not None:
            offset = self._oldest[0]
            self._oldest = None
            frames.mark_made(self._fd, offset)

    def remove(self) -> None:
        """Let go of the file and delete it; one that was damaged within is put aside as `.damaged`."""
        try:
            if any(not each.last for each in self.damage):
                self.path.rename(self.path.with_suffix(DAMAGED))
            else:
                self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file: it is an orphan now. In a forked child the parent still holds it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


# -- a spool that is only looked at ----------------------------------------------------------------


def look(path: Path) -> Look | None:
    """What is in a spool now, whoever holds it; None if it is gone. Raises as `Spool.take`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        alive = not _lock(fd)
        head, start, end = _begin(fd, path)
        writes, oldest, damage = 0, None, []
        for each in _writes(fd, start, end):
            if isinstance(each, Damage):
                damage.append(each)
            else:
                writes += 1
                oldest = each.kept.at if oldest is None else oldest
        if alive and damage and damage[-1].last:
            damage.pop()  # it is being written
        return Look(path, head, alive, writes, oldest, damage)
    finally:
        os.close(fd)


def writes_in(path: Path) -> Iterator[Kept]:
    """The writes in a spool that are to be made. Raises as `Spool.take`, and FileNotFoundError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for each in _writes(fd, *_begin(fd, path)[1:]):
            if not isinstance(each, Damage):
                yield each.kept
    finally:
        os.close(fd)


class _Write(NamedTuple):
    offset: int
    end: int
    kept: Kept


def _writes(fd: int, offset: int, end: int) -> Iterator[_Write | Damage]:
    """What is to be made, and what is damaged."""
    for each in frames.frames(fd, offset, end):
        if isinstance(each, Damage):
            yield each
        elif not each.made:
            try:
                kept = _kept(each.payload)
            except msgspec.DecodeError:
                yield Damage(each.offset, each.end, False)
            else:
                yield _Write(each.offset, each.end, kept)


def _begin(fd: int, path: Path) -> tuple[Head, int, int]:
    """The head, the offset behind it, and the size of the file."""
    size = os.fstat(fd).st_size
    line = os.pread(fd, len(MAGIC), 0)
    if line != MAGIC:
        known = line.startswith(MAGIC.split()[0])
        what = "a spool in a format that this release does not know" if known else "no spool of settled"
        raise SchemaError(f"{path} is {what}: it begins with {line!r}")
    frame = frames.frame_at(fd, len(MAGIC), size)
    if frame is None:
        raise SchemaError(
            f"{path} is damaged at offset {len(MAGIC)}, in its head: what is behind cannot be told"
        )
    return _head(frame.payload), frame.end, size


def _lock(fd: int) -> bool:
    """Hold the file, if nobody does."""
    import fcntl  # not every system has it, and few programs come to need it

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _sync(folder: Path) -> None:
    """Have the names in the folder on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
