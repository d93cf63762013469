"""Values come back as they were, or say why they do not."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

from settled import codec
from settled.codec import compression
from settled.errors import ContentRefused, EncodeError
from settled.record import Settle
from settled.states import FAILURE, PENDING, SUCCESS
from settled.testing.checks.expecting import raised
from settled.testing.contract import check
from settled.testing.store import Store

PLAIN: tuple[object, ...] = (
    None, True, False, 0, -1, 2**53 + 1, 0.1, -1e300, "", "text", "naïve ☃ \U0001f600", "line\nline\ttab \0 nul",
    [], {}, [[], {}], {"": None, "a": {"b": [1, {"c": "d"}]}}, [1, "1", 1.5, None, True],
)  # fmt: skip

TAGGED: tuple[object, ...] = (
    datetime(2026, 11, 22, 20, 17, 5, 123456, tzinfo=UTC),
    datetime(2026, 11, 22, 20, 17, 5, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(2026, 11, 22, 20, 17, 5),  # noqa: DTZ001 - naive ones are stored too
    date(2026, 11, 22),
    time(20, 17, 5),
    Decimal("0.10000000000000000000001"),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    b"\x00\xff bytes",
)

HARD: tuple[object, ...] = (
    math.inf,
    -math.inf,
    1.7976931348623157e308,
    5e-324,
    2**70,
    -(2**200),
    "\ud800 lone",
)


def _kept(store: Store, values: tuple[object, ...]) -> None:
    for number, value in enumerate(values):
        store.backend.mark_as_done(f"task-{number}", {"value": value})
    for number, value in enumerate(values):
        read = store.backend.get_result(f"task-{number}")
        assert isinstance(read, dict)
        assert read["value"] == value
        assert type(read["value"]) is type(value)


@check("values")
def plain_values_come_back(store: Store) -> None:
    """None, bool, int, float, str, list and dict come back equal and of the same type."""
    _kept(store, PLAIN)


@check("values")
def tagged_values_come_back(store: Store) -> None:
    """datetime, date, time, Decimal, UUID and bytes come back equal and of the same type."""
    _kept(store, TAGGED)


@check("values")
def hard_values_come_back(store: Store) -> None:
    """Infinities, NaN, huge ints and lone surrogates come back as they were."""
    _kept(store, HARD)
    store.backend.mark_as_done("nan", math.nan)
    read = store.backend.get_result("nan")
    assert isinstance(read, float)
    assert math.isnan(read)


@check("values")
def none_is_a_value(store: Store) -> None:
    """A task whose value is None is SUCCESS and ready."""
    store.backend.mark_as_done("task", None)
    assert store.backend.get_state("task") == SUCCESS
    assert store.backend.wait_for("task", timeout=0) is None


@check("values")
def what_cannot_be_stored_fails_its_task(store: Store) -> None:
    """A value that cannot be stored settles its task as FAILURE, naming the path in it and the type."""
    settled = store.backend.mark_as_done("task", {"rows": [1, 2, object()]})
    assert settled.state == FAILURE
    error = raised(lambda: store.backend.wait_for("task", timeout=store.patience))
    assert isinstance(error, EncodeError)
    assert "['rows'][2]" in str(error)
    assert "object" in str(error)


@check("values")
def notes_that_cannot_be_stored_are_refused(store: Store) -> None:
    """In an unready state a value that cannot be stored raises EncodeError, and nothing is stored."""
    error = raised(lambda: store.backend.store_result("task", object(), "PROGRESS"))
    assert isinstance(error, EncodeError)
    assert store.backend.get_state("task") == PENDING


@check("values")
def every_serializer_is_read(store: Store) -> None:
    """A payload says which serializer wrote it: a reader that accepts it needs no other setting."""
    backend = store.open(result_serializer="json", result_accept_content=["json", "msgpack", "pickle"])
    for name in ("json", "msgpack", "pickle"):
        meta = {"status": SUCCESS, "result": {"by": name}, "task_id": name}
        backend.do_settle(Settle(name, SUCCESS, codec.encode(meta, name)))
        assert backend.wait_for(name, timeout=store.patience) == {"by": name}


@check("values")
def what_is_not_accepted_is_refused(store: Store) -> None:
    """A payload in a serializer that is not accepted raises ContentRefused, naming task and serializer."""
    meta = {"status": SUCCESS, "result": 1, "task_id": "packed"}
    for name in ("pickle", "msgpack"):
        store.backend.do_settle(Settle(f"by-{name}", SUCCESS, codec.encode(meta, name)))
        for read in (
            store.backend.get_result,
            lambda task_id: store.backend.wait_for(task_id, store.patience),
        ):
            error = raised(lambda read=read, name=name: read(f"by-{name}"))  # type: ignore[misc]
            assert isinstance(error, ContentRefused)
            assert name in str(error)
            assert f"by-{name}" in str(error)


@check("values")
def each_serializer_writes_what_it_reads(store: Store) -> None:
    """With `result_serializer` set to msgpack or pickle, values and failures come back as with json."""
    for name in ("msgpack", "pickle"):
        backend = store.open(result_serializer=name)
        backend.mark_as_done(f"value-{name}", {"a": [1, None, "x"], "b": 2.5})
        backend.mark_as_failure(f"failure-{name}", KeyError("missing"))
        assert backend.get_result(f"value-{name}") == {"a": [1, None, "x"], "b": 2.5}
        assert isinstance(backend.get_result(f"failure-{name}"), KeyError)


@check("values")
def compressed_records_are_read_without_the_setting(store: Store) -> None:
    """With `result_compression` set records are compressed, read by a backend without it, and guarded as others."""
    for method in ("gzip", "bzip2", "lzma"):
        writer = store.open(result_compression=method)
        reader = store.open() if store.capabilities.shared else writer
        value = {"rows": ["naïve ☃"] * 100}
        assert writer.mark_as_done(method, value)
        payload = writer.do_read((method,))[method]
        assert isinstance(payload, bytes)
        assert payload.startswith(compression.MARKER)
        assert reader.get_result(method) == value
        assert not writer.mark_as_started(method)
        assert reader.get_state(method) == SUCCESS
