"""The tagged forms in which kombu's JSON carries what JSON lacks.

A tagged value is a dict of exactly two keys, `{"__type__": tag, "__value__": plain form}`.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

TYPE = "__type__"
VALUE = "__value__"


def tag(value: object) -> object:
    """The form in which kombu stores `value`, which JSON has no form for; it may need tagging in turn.

    Raises:
        TypeError: there is none.
        Exception: whatever the value's own `__json__` method raises.
    """
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
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
    if _is_lazy_text(value):
        return str(value)
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
    decoder = _UNTAG.get(name) if isinstance(name, str) else None
    if decoder is None:
        return form
    try:
        return decoder(form[VALUE])
    except Exception:
        return form
