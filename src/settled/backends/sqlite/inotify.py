"""What Linux tells about a file, through `inotify(7)`."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_MOVE_SELF = 0x800
IN_DELETE_SELF = 0x400
IN_IGNORED = 0x8000
IN_Q_OVERFLOW = 0x4000

LOST = IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF | IN_IGNORED
"""The file may not be the one of that name any more."""

_HEADER = struct.Struct("iIII")


def available() -> bool:
    return sys.platform.startswith("linux") and hasattr(os, "eventfd")


class Inotify:
    """Watches one file. `fileno()` is readable when something has happened to it."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")
        self._watched = -1

    def watch(self, path: str) -> None:
        """Watch the file that now has this name, in place of the one before. Raises OSError."""
        wanted = IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF
        before = self._watched
        self._watched = self._checked(
            self._libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(wanted)), path
        )
        if before not in (-1, self._watched):
            self._libc.inotify_rm_watch(self._fd, before)

    def _checked(self, result: int, what: str) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), what)
        return result

    def fileno(self) -> int:
        return self._fd

    def read(self) -> int:
        """What has happened to the file since the last call: all events' bits, 0 for nothing."""
        try:
            data = os.read(self._fd, 65536)
        except OSError as exc:
            if exc.errno != errno.EAGAIN:
                raise
            return 0
        found = position = 0
        while position < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, position)
            position += _HEADER.size + length
            if watch in (-1, self._watched):
                found |= mask
        return found

    def close(self) -> None:
        os.close(self._fd)
