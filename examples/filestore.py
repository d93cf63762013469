"""A result backend on plain files: a whole engine, in under sixty lines of code.

from settled.app import App
app = App("files:///var/tmp/results")        # through the entry-point group settled.engines
backend = FileStore(app, url="files:///var/tmp/results")
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from settled.backends.base import KeyValueStoreBackend


class FileStore(KeyValueStoreBackend):
    """One file per key. Processes on one machine share it; a lock file makes compare-and-set hold."""

    default_url = "files:///tmp/settled-files"

    @property
    def folder(self) -> Path:
        return Path(self.location.path)

    def path(self, key: bytes) -> Path:
        # Quoting leaves neither "/" nor "+" nor "=" in a name; a long one is spread over folders.
        name = quote_from_bytes(key, safe="")
        *folders, file = [name[i : i + 200] for i in range(0, len(name), 200)]
        return self.folder.joinpath(*(f"{each}+" for each in folders), f"{file}=")

    def get(self, key: bytes) -> bytes | None:
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            return None

    def set(self, key: bytes, value: bytes) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{os.getpid()}-{os.urandom(8).hex()}"
        partial.write_bytes(value)
        partial.replace(path)  # a reader sees the old value or the new one, never half of it

    def delete(self, key: bytes) -> None:
        self.path(key).unlink(missing_ok=True)

    def compare_and_set(self, key: bytes, old: bytes | None, new: bytes) -> bool:
        with self.locked():
            unchanged = self.get(key) == old
            if unchanged:
                self.set(key, new)
            return unchanged

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        for path in self.folder.rglob("*="):
            key = unquote_to_bytes(
                "".join(path.relative_to(self.folder).parts).replace("+", "").removesuffix("=")
            )
            if key.startswith(prefix):
                yield key

    @contextmanager
    def locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
