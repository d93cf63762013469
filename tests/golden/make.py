"""Writes the golden files with kombu and Celery themselves: `python -m tests.golden.make`.

The file names say which writer and serializer: `celery-*` is a record stored by Celery's own
backend, `kombu-*` one value in kombu's form, `failure-*` an exception in Celery's form.
"""

from __future__ import annotations

from pathlib import Path

from celery import Celery
from celery.backends.base import KeyValueStoreBackend
from kombu.serialization import dumps

from tests.golden.values import DONE, FAILURES, PLAIN, RECORD, TAGGED, TASK_ID

HERE = Path(__file__).parent / "payloads"


class Kept(KeyValueStoreBackend):
    """Celery's own backend over a dict, at a fixed time."""

    supports_result_compression = True

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.kept: dict[object, bytes] = {}

    def get(self, key: object) -> bytes | None:
        return self.kept.get(key)

    def set(self, key: object, value: bytes) -> None:
        self.kept[key] = value

    def _get_result_meta(self, *args: object, **kwargs: object) -> dict[str, object]:
        meta: dict[str, object] = super()._get_result_meta(*args, **kwargs)
        return {**meta, "date_done": DONE if meta["date_done"] else None}


def backend_of(serializer: str, compression: str | None = None) -> Kept:
    app = Celery("golden", set_as_current=False)
    app.conf.update(result_serializer=serializer, accept_content=[serializer], result_compression=compression)
    return Kept(app=app, url="kept://")


def stored(backend: Kept) -> bytes:
    (payload,) = backend.kept.values()
    return payload if isinstance(payload, bytes) else payload.encode()


def payloads() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, value in {**PLAIN, **TAGGED}.items():
        found[f"kombu-{name}.json"] = dumps(value, "json")[2].encode()
    for name, value in PLAIN.items():
        if name != "big_int":
            found[f"kombu-{name}.msgpack"] = dumps(value, "msgpack")[2]
    for serializer in ("json", "msgpack", "pickle"):
        backend = backend_of(serializer)
        backend.store_result(TASK_ID, RECORD["result"], "SUCCESS")
        found[f"celery-success.{serializer}"] = stored(backend)
        chord_part = backend.encode([1, TASK_ID, "SUCCESS", 5])
        found[f"celery-part.{serializer}"] = (
            chord_part.encode() if isinstance(chord_part, str) else chord_part
        )
    for compression in ("gzip", "bzip2", "lzma"):
        backend = backend_of("json", compression)
        backend.store_result(TASK_ID, RECORD["result"], "SUCCESS")
        found[f"celery-success.json-{compression}"] = stored(backend)
    for name, exc in FAILURES.items():
        backend = backend_of("json")
        backend.store_result(TASK_ID, exc, "FAILURE", traceback="Traceback ...")
        found[f"failure-{name}.json"] = stored(backend)
    return found


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name, payload in payloads().items():
        (HERE / name).write_bytes(payload)
