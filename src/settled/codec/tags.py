"""The tagged forms in which kombu's JSON carries what JSON lacks.

A tagged value is a dict of exactly two keys, `{"__type__": tag, "__value__": plain form}`.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

import msgspec

TYPE = "__type__"
VALUE = "__value__"

Writer: TypeAlias = tuple[str | None, Callable[..., object]]
"""A tag, and what makes the plain form of a value; without a tag the form stands by itself."""

# By nature one table per process, as kombu's own: what a type's form is cannot depend on who asks.
_writers: Mapping[type, Writer] = {}
_readers: Mapping[str, Callable[..., object]] = {}


def share_types(writers: Mapping[type, Writer], readers: Mapping[str, Callable[..., object]]) -> None:
    """Store and read values of a program's own types as these tables say, in place of earlier ones.

    They are kombu's (`kombu.utils.json.register_type` fills them), and looked at anew for each value,
    so that a type may be registered later. They go before the forms known here, in their order.

    Args:
        writers: type -> its tag or None, and what makes a plain form of a value of it. Subclasses follow.
        readers: tag -> what makes a value of a plain form.
    """
    global _writers, _readers
    _writers, _readers = writers, readers


def writer_of(value: object) -> Writer | None:
    """How a program's own tables store `value`; None if they do not name its type."""
    # A copy, made in one step: a type may be registered meanwhile.
    for kind, writer in tuple(_writers.items()):
        if isinstance(value, kind):
            return writer
    return None


def tag(value: object) -> object:
    """The form in which kombu stores `value`, which JSON has no form for; it may need tagging in turn.

    Raises:
        TypeError: there is none.
        Exception: whatever the value's own `__json__` method or its type's writer raises.
    """
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
    if _writers and not _is_lazy_text(value) and (writer := writer_of(value)) is not None:
        name, form = writer
        return form(value) if name is None else {TYPE: name, VALUE: form(value)}
    if isinstance(value, datetime):  # before date, of which it is a subclass
        return {TYPE: "datetime", VALUE: value.isoformat()}
    if isinstance(value, date):
        return {TYPE: "date", VALUE: value.isoformat()}
    if isinstance(value, time):
        return {TYPE: "time", VALUE: value.isoformat()}
    if isinstance(value, Decimal):
        return {TYPE: "decimal", VALUE: str(value)}
    if isinstance(value, UUID):
        return {TYPE: "uuid", VALUE: {"hex": value.hex}}
    if isinstance(value, bytes):
        return _tag_bytes(value)
    return _seldom_form(value)


def _seldom_form(value: object) -> object:
    if _is_lazy_text(value):
        return str(value)
    if isinstance(value, msgspec.Raw):  # a fragment, in a record that is not plain for other reasons
        return msgspec.json.decode(value)
    raise TypeError(f"no form for {type(value).__name__}")


def _tag_bytes(value: bytes) -> object:
    try:
        return {TYPE: "bytes", VALUE: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {TYPE: "base64", VALUE: base64.b64encode(value).decode("ascii")}


def _is_lazy_text(value: object) -> bool:
    """Whether `value` is Django's lazily translated text, which kombu stores as str."""
    # A program that holds such a value has imported Django; nothing is imported here.
    functional = sys.modules.get("django.utils.functional")
    promise = getattr(functional, "Promise", None)
    return isinstance(promise, type) and isinstance(value, promise)


def _uuid(form: dict[str, str]) -> UUID:
    # Not UUID(**form), as kombu has it: that would take any argument the store names.
    return UUID(hex=form["hex"])


_UNTAG: dict[str, Callable[..., object]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda form: datetime.fromisoformat(form).date(),
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": _uuid,
    "bytes": lambda form: form.encode("utf-8"),
    "base64": lambda form: base64.b64decode(form.encode("ascii")),
}


def untag(form: dict[str, object]) -> object:
    """The value that `form` stands for, or `form` itself if it is not tagged.

    A dict that looks tagged but has an unknown tag or a value that the tag cannot have (a user's
    own dict may look so) is handed back as it is: one odd value must not make a record unreadable.
    kombu raises there.
    """
    if len(form) != 2 or TYPE not in form or VALUE not in form:
        return form
    name = form[TYPE]
    if not isinstance(name, str):
        return form
    decoder = _readers.get(name) or _UNTAG.get(name)
    if decoder is None:
        return form
    try:
        return decoder(form[VALUE])
    except Exception:
        return form


def untag_all(value: object, seen: dict[int, object] | None = None) -> object:
    """`value`, read by a serializer that leaves tags as they are, with every tagged dict resolved.

    `seen` lets what occurs twice be looked at once: YAML can name a part again, and again in that.
    """
    if not isinstance(value, list | dict):
        return value
    if seen is not None and id(value) in seen:
        return seen[id(value)]
    raised: object
    if isinstance(value, list):
        raised = [untag_all(item, seen) for item in value]
    else:
        raised = untag({key: untag_all(item, seen) for key, item in value.items()})
    if seen is not None:
        seen[id(value)] = raised
    return raised
