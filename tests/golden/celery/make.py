"""Writes `forms.json` with Celery's own Redis backend, on a server: `python -m tests.golden.celery.make`.

What Celery has stored, byte for byte, in each of its forms. Ids and dates are fixed. A form's name says what it
is: state or kind, serializer, then `packed` where it is compressed and `extended` where it is.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from celery import Celery
from celery.app.task import Context
from celery.backends.redis import RedisBackend
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult, GroupResult

from tests.golden.values import DONE, TASK_ID
from tests.servers import Server

FORMS = Path(__file__).parent / "forms.json"

VALUE = {"rows": [1, 2.5, "ü", None, True], "nested": {"deep": [[]]}}
TRACE = "Traceback (most recent call last):\n  ...\nKeyError: 'missing'\n"

RESULTS: Mapping[str, object] = {
    "STARTED": {"pid": 4711, "hostname": "one@host"},
    "PROGRESS": {"done": 3, "of": 4},
    "RETRY": KeyError("missing", 3),
    "SUCCESS": VALUE,
    "FAILURE": KeyError("missing", 3),
    "REVOKED": TaskRevokedError("terminated"),
}
"""What is stored in each state."""

SERIALIZERS = ("json", "msgpack", "pickle", "yaml")
PACKED = (None, "zlib", "bzip2", "lzma")

GROUP = "5f0c1a52-0000-4000-8000-00000000000a"
PARENT = "5f0c1a52-0000-4000-8000-00000000000b"
MEMBERS = [f"5f0c1a52-0000-4000-8000-00000000000{number}" for number in range(3)]


class Dated(RedisBackend):
    """Celery's own, at a fixed time."""

    def _get_result_meta(self, *args: object, **kwargs: object) -> dict[str, object]:
        meta: dict[str, object] = super()._get_result_meta(*args, **kwargs)
        return {**meta, "date_done": DONE if meta["date_done"] else None}


def request_of(app: Celery) -> Context:
    """The request of a task as a worker has it: of a group, with a parent, children and stamps."""
    request = Context(
        {
            "id": TASK_ID,
            "task": "shop.tasks.count",
            "args": [1, "two"],
            "kwargs": {"three": 3},
            "hostname": "one@host",
            "retries": 2,
            "delivery_info": {"routing_key": "slow"},
            "group": GROUP,
            "parent_id": PARENT,
            "stamped_headers": ["customer"],
            "stamps": {"customer": ["acme"]},
        }
    )
    request.children.extend([app.AsyncResult(MEMBERS[0]), group_of(app)])
    return request


def group_of(app: Celery) -> GroupResult:
    return GroupResult(
        GROUP,
        [AsyncResult(MEMBERS[1], app=app), AsyncResult(MEMBERS[2], app=app)],
        parent=AsyncResult(PARENT, app=app),
    )


def app_of(serializer: str, packed: str | None, extended: bool) -> Celery:
    app = Celery("golden", broker="memory://", set_as_current=False)
    app.conf.update(
        result_serializer=serializer,
        result_compression=packed,
        result_extended=extended,
        accept_content=list(SERIALIZERS),
        result_backend_thread_safe=True,
    )
    return app


def stored(server: Server) -> Iterator[tuple[str, bytes]]:
    """What each form is on the server: (name, payload)."""
    for serializer, packed, extended in itertools.product(SERIALIZERS, PACKED, (False, True)):
        app = app_of(serializer, packed, extended)
        backend = Dated(app=app, url=server.url)
        said = " ".join(
            [serializer, *([f"packed-{packed}"] if packed else []), *["extended"][: int(extended)]]
        )
        for state, result in RESULTS.items():
            if packed in (None, "zlib") or state == "SUCCESS":
                trace = TRACE if state in ("RETRY", "FAILURE") else None
                backend.store_result(TASK_ID, result, state, traceback=trace, request=request_of(app))
                yield f"{state} {said}", backend.client.get(backend.get_key_for_task(TASK_ID))
                backend.forget(TASK_ID)
        if not extended and packed in (None, "zlib"):
            backend.save_group(GROUP, group_of(app))
            yield f"group {said}", backend.client.get(backend.get_key_for_group(GROUP))
            for state in ("SUCCESS", "FAILURE"):
                yield f"part-{state} {said}", part(backend, state)
        backend.client.connection_pool.disconnect()
        app.close()


def part(backend: Dated, state: str) -> bytes:
    """A part of a chord of two, as it lies among the parts."""
    request = Context({"id": TASK_ID, "group": GROUP, "group_index": 1, "chord": {"task": "body"}})
    backend.set_chord_size(GROUP, 2)
    backend.on_chord_part_return(request, state, RESULTS[state])
    (payload,) = backend.client.zrange(backend.get_key_for_group(GROUP, ".j"), 0, -1)
    backend.client.flushdb()
    return bytes(payload)


def written(payload: bytes) -> dict[str, str]:
    """As it stands in the file: readable where it is text."""
    try:
        return {"text": payload.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(payload).decode()}


def read() -> dict[str, bytes]:
    """The forms by their names."""
    forms = json.loads(FORMS.read_text())
    return {
        name: form["text"].encode() if "text" in form else base64.b64decode(form["base64"])
        for name, form in forms.items()
    }


if __name__ == "__main__":
    with Server.start("redis7") as running:
        forms = {name: written(payload) for name, payload in stored(running)}
    FORMS.write_text(json.dumps(forms, indent=1, ensure_ascii=False) + "\n")
