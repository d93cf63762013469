"""The folder of Celery's filesystem backend: each file is named as the key that it holds."""

from __future__ import annotations

import os
from collections.abc import Iterator

from settled.cli.sources import Batch, Options
from settled.cli.sources.form import CHUNK, Stored, Unreadable, from_payload
from settled.cli.sources.keys import is_chord_key, key_prefixes
from settled.errors import ConfigurationError, StoreError

BATCH = 200

_LOCAL = "file://localhost/"


class FilesystemSource:
    """Reads every file once. Expiry there is the age of files: nothing says of one when it is due."""

    path = None
    chords = 0  # this backend counts none

    def __init__(self, url: str, options: Options) -> None:
        # As Celery reads it: nothing is unquoted.
        start = len(_LOCAL) - 1 if url.lower().startswith(_LOCAL) else len("file://")
        self._folder = url[start:]
        self._prefixes = key_prefixes(options.prefix)
        self._accept = options.accept
        if not os.path.isdir(self._folder):
            raise ConfigurationError(
                f"there is no folder {self._folder!r}: give the URL that result_backend had, as in "
                "file:///var/celery/results"
            )

    def batches(self) -> Iterator[Batch]:
        for prefix, group in ((self._prefixes.task, False), (self._prefixes.group, True)):
            batch: list[Stored | Unreadable] = []
            held = 0
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    name = entry.name.removeprefix(prefix)
                    if name == entry.name or not entry.is_file() or (group and is_chord_key(name)):
                        continue
                    size = entry.stat().st_size
                    if batch and (held + size > CHUNK or len(batch) == BATCH):
                        yield batch
                        batch, held = [], 0
                    batch += self._read(entry.path, name, group)
                    held += size
            yield batch

    def close(self) -> None:
        """Nothing is held open."""

    def _read(self, path: str, name: str, group: bool) -> list[Stored | Unreadable]:
        try:
            with open(path, "rb") as file:
                payload = file.read()
        except FileNotFoundError:
            return []  # it was deleted meanwhile
        except OSError as exc:
            return [Unreadable(name, group, StoreError(f"its file cannot be read: {exc.strerror}"))]
        return [from_payload(name, group, payload, None, self._accept)]
