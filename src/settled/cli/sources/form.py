"""What is read from a source: a record or a saved group in Celery's form, or why it cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

import msgspec

from settled import codec, failure
from settled.errors import ConfigurationError, DecodeError, SettledError
from settled.record import Meta, checked_id, holds_exception, meta_of

CHUNK = 16 * 1024 * 1024
"""Bytes that a batch may hold, where the next record would make it more."""


class Stored(msgspec.Struct, frozen=True):
    """A task's record, or with `group` a saved group: what the source holds under one id.

    `payload` are its bytes where the source keeps it whole, and are to be kept as they are; else it is to be
    encoded by `serializer`. `expires` are the seconds that are left of its life, None if it has no end.
    """

    id: str
    group: bool
    meta: Meta
    serializer: str
    payload: bytes | None = None
    expires: float | None = None


class Unreadable(msgspec.Struct, frozen=True):
    """What is there, but cannot be read. `id` may be anything."""

    id: str
    group: bool
    error: SettledError


def read(stored_id: str, group: bool, make: Callable[[], Stored]) -> Stored | Unreadable:
    """What `make` reads, or why it cannot: one damaged record must not cost the others."""
    try:
        checked_id(stored_id, "group id" if group else "task id")
        return make()
    except SettledError as exc:
        return Unreadable(stored_id, group, exc)


def from_payload(
    stored_id: str, group: bool, payload: bytes, expires: float | None, accept: frozenset[str]
) -> Stored | Unreadable:
    """The record in `payload`, as key/value stores hold it."""

    def make() -> Stored:
        meta = codec.decode(payload, accept)
        checked = as_group(meta) if group else as_task(meta, stored_id)
        # YAML does not tell what it is.
        serializer = codec.serializer_of(payload, "yaml" if "yaml" in accept else "json")
        return Stored(stored_id, group, checked, serializer, payload, expires)

    return read(stored_id, group, make)


def as_task(meta: object, task_id: str) -> Meta:
    """A task's record, or DecodeError."""
    checked = meta_of(meta, task_id)
    if not is_unicode(str(checked["status"])):
        raise DecodeError(f"its status is no text that can be stored: {checked['status']!r:.80}")
    return checked


def is_unicode(text: str) -> bool:
    """Whether every store can hold this text: JSON may hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_group(meta: object) -> Meta:
    """A saved group's record, or DecodeError."""
    if not isinstance(meta, dict) or not _names_members(meta.get("result")):
        raise DecodeError(f"this is no saved group: {meta!r:.80}")
    return meta


def _names_members(form: object) -> bool:
    """Whether `form` is `[[group id, parent], [member, ...]]`."""
    return (
        isinstance(form, (list, tuple))
        and len(form) == 2
        and isinstance(form[0], (list, tuple))
        and isinstance(form[1], (list, tuple))
    )


def value_of(content: object, serializer: str, accept: frozenset[str]) -> object:
    """The value of a column that `serializer` has written; of one that was pickled anyway, where accepted.

    A bare value need not tell what it is: 0x31 is 1 in JSON and 49 in msgpack. So the serializer is told.
    """
    if content is None:
        return None
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise DecodeError(f"a column holds {type(content).__name__} in place of encoded bytes")
    payload = bytes(content)
    if not payload:
        raise DecodeError("a column holds no bytes in place of encoded ones")
    # Celery before 5.7 pickles what it stores in a database, whatever the serializer.
    written = "pickle" if codec.serializer_of(payload, serializer) == "pickle" else serializer
    header = codec.MARKER + codec.SERIALIZERS[written].encode() + b"\0"
    return codec.decode(header + payload, accept)


def serializer_named(content_type: object) -> str:
    """The serializer of this content type; ConfigurationError for one that cannot be read."""
    for name, known in codec.SERIALIZERS.items():
        if known == content_type:
            return name
    raise ConfigurationError(
        f"its content type {content_type!r:.80} cannot be read; what can is {', '.join(codec.SERIALIZERS)}"
    )


def wired(meta: Meta) -> Meta:
    """The record with a pickled exception in its wire form. What is in that form already stays as it is."""
    error = meta.get("result")
    if not isinstance(error, BaseException) or not holds_exception(meta):
        return meta
    original = getattr(error, "exc_cls_name", None)  # Celery's stand-in for what could not be pickled
    if isinstance(original, str):
        return {**meta, "result": _stood_for(error, original)}
    return {**meta, "result": failure.to_wire(error)}


def _stood_for(error: BaseException, original: str) -> dict[str, object]:
    return {
        "exc_type": original,
        "exc_message": list(cast("tuple[object, ...]", getattr(error, "exc_args", ()))),
        "exc_module": getattr(error, "exc_module", None),
    }


def moment(value: object) -> datetime | None:
    """A column's point in time, in UTC, as which one without an offset is taken. DecodeError if it is none."""
    if value is None:
        return None
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        # An offset may be that of a database's session, which says nothing of the task.
        return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        raise DecodeError(f"{value!r:.80} is no date") from exc


def iso(value: object) -> str | None:
    """The same in the form of a record's `date_done`."""
    found = moment(value)
    return None if found is None else found.isoformat()
