"""Turning a value into the types a serializer has, and saying where in the value that fails.

The path in an EncodeError comes from here. JSON takes this way only to explain a failure, msgpack
and YAML whenever a value is not plain.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Literal

from settled.codec.tags import tag, writer_of
from settled.errors import EncodeError

_LEAST_INT = -(2**63)
_GREATEST_INT = 2**64 - 1
_SHOWN_SEGMENTS = 12
_SHOWN_KEY = 60

Plain = Literal["json", "msgpack", "yaml"]
_OWN_KEYS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "json": ((), ""),
    "msgpack": ((bytes,), ", or bytes"),
    "yaml": ((bytes, date), ", bytes or a date"),
}
"""What a serializer's keys may be beyond JSON's, and how a message says so."""


def type_name(value: object) -> str:
    """The qualified name of a value's type, without `builtins`."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def encode_error(path: str, value: object, serializer: str, reason: str) -> EncodeError:
    """An EncodeError whose message, `path` and `type_name` say what could not be stored and where."""
    error = EncodeError(f"{path}: cannot store {type_name(value)} with serializer {serializer!r}: {reason}")
    error.path = path
    error.type_name = type_name(value)
    return error


def segment(key: object) -> str:
    """The step into a container at `key`, as in Python source, bounded in length."""
    if isinstance(key, str):
        shown = repr(str(key[:_SHOWN_KEY])) + ("..." if len(key) > _SHOWN_KEY else "")
    elif isinstance(key, int | float | bool | type(None)) and not _is_long(key):
        shown = str(key)
    else:
        shown = f"<{type_name(key)}>"
    return f"[{shown}]"


def _is_long(key: object) -> bool:
    return isinstance(key, int) and key.bit_length() > 128


def render(path: list[str]) -> str:
    """`path` as a reader would write it: a record's own keys stand as names."""
    if not path:
        return "value"
    first, *rest = path
    name = first[2:-2] if first.startswith("['") else ""
    start = name if name.isidentifier() else f"value{first}"
    if len(rest) > _SHOWN_SEGMENTS:
        rest = [*rest[:_SHOWN_SEGMENTS], "..."]
    return start + "".join(rest)


def culprit(
    value: object, failure: Exception, attempt: Callable[[object], object]
) -> tuple[list[str], object, Exception]:
    """The innermost part of a container on which `attempt` fails by itself: its path, itself, its failure."""
    path: list[str] = []
    seen = {id(value)}
    while True:
        found = _first_failing(value, attempt)
        # A circle whose every member fails leads back to where it began.
        if found is None or id(found[1]) in seen:
            return path, value, failure
        key, value, failure = found
        seen.add(id(value))
        path.append(segment(key))


def _first_failing(
    value: object, attempt: Callable[[object], object]
) -> tuple[object, object, Exception] | None:
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        try:
            attempt(item)
        except Exception as exc:
            return key, item, exc
    return None


class Lowering:
    """One pass over one value; not to be used twice.

    The form of the result: None, bool, int, float, str, list, dict; for msgpack and YAML also bytes, and
    for YAML datetime, date and set.
    """

    def __init__(self, serializer: Plain) -> None:
        self.serializer = serializer
        self._path: list[str] = []
        self._open: set[int] = set()

    def lower(self, data: object) -> object:
        """`data` made of the serializer's own types.

        Raises:
            EncodeError: part of it has no form.
        """
        try:
            return self._lower(data)
        except RecursionError as exc:
            raise encode_error(render(self._path), data, self.serializer, "nested too deeply") from exc
        except _Unstorable as exc:
            path = render(self._path)
            raise encode_error(path, exc.value, self.serializer, exc.reason) from exc.__cause__
        except Exception as exc:  # a subclass of dict or list with methods that fail
            raise encode_error(render(self._path), data, self.serializer, f"{exc!r:.200}") from exc

    def error_for(self, data: object, failure: Exception) -> EncodeError:
        """The EncodeError for `data`, which an encoder refused with `failure`."""
        try:
            self.lower(data)
        except EncodeError as exc:
            return exc
        # Only the encoder's own limits (its nesting depth) are left.
        reason = "nested too deeply" if isinstance(failure, RecursionError) else str(failure)
        return encode_error("value", data, self.serializer, reason)

    def _lower(self, value: object) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return self._int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, dict | list | tuple):
            return self._container(value)
        if self.serializer != "json" and isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        if self.serializer == "yaml":
            if isinstance(value, date):
                return value
            if isinstance(value, set):
                return {self._key(item) for item in value}
        return self._tagged(value)

    def _text(self, value: str) -> str:
        if self.serializer == "msgpack":
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as exc:
                raise _Unstorable(value, "it holds a lone surrogate, which UTF-8 cannot") from exc
        return str.__str__(value)

    def _int(self, value: int) -> int:
        if self.serializer == "msgpack" and not _LEAST_INT <= value <= _GREATEST_INT:
            raise _Unstorable(value, "msgpack integers have 64 bits; send it as str")
        digits = sys.get_int_max_str_digits()
        if digits and abs(value).bit_length() * math.log10(2) > digits:
            raise _Unstorable(value, f"it has more than {digits:,} digits (sys.set_int_max_str_digits)")
        return int(value)

    def _container(self, value: dict[object, object] | list[object] | tuple[object, ...]) -> object:
        if id(value) in self._open:
            raise _Unstorable(value, "it contains itself")
        self._open.add(id(value))
        if isinstance(value, dict):
            keys = [self._key(key) for key in value]
            lowered: object = dict(zip(keys, self._items(value.items()), strict=True))
        else:
            lowered = self._items(enumerate(value))
        self._open.discard(id(value))
        return lowered

    def _items(self, items: Iterable[tuple[object, object]]) -> list[object]:
        lowered = []
        for key, item in items:
            self._path.append(segment(key))
            lowered.append(self._lower(item))
            self._path.pop()
        return lowered

    def _key(self, key: object) -> object:
        own, named = _OWN_KEYS[self.serializer]
        if isinstance(key, own):
            return key
        if key is not None and not isinstance(key, str | int | float):
            raise _Unstorable(key, f"a key must be str, int, float, bool or None{named}")
        return self._lower(key)

    def _tagged(self, value: object) -> object:
        own = hasattr(value, "__json__")
        registered = not own and writer_of(value) is not None
        failed = "its __json__() failed" if own else "the writer registered for its type failed"
        try:
            form = tag(value)
        except RecursionError:
            raise
        except TypeError as exc:
            if own or registered:
                raise _Unstorable(value, f"{failed}: {exc}") from exc
            raise _Unstorable(value, "convert it to plain types, or give it a __json__ method") from None
        except Exception as exc:
            raise _Unstorable(value, f"{failed}: {exc!r:.200}") from exc
        if own or registered:
            self._path.append(".__json__()" if own else ".<its form>")
            form = self._lower(form)
            self._path.pop()
        return form


class _Unstorable(Exception):
    def __init__(self, value: object, reason: str) -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason
