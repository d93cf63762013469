"""An exception as a dict that every serializer can store."""

from __future__ import annotations

import traceback as traceback_module
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Final, cast
from uuid import UUID

from settled.errors import RemoteError
from settled.failure.limits import (
    DEFAULT_LIMITS,
    Limits,
    RemoteTraceback,
    StandIn,
    clean,
    cut,
    cut_middle,
    describe,
)
from settled.failure.parts import (
    TRACEBACK,
    args_of,
    attributes_of,
    dict_of,
    hides_context,
    linked_by,
    members_of,
    notes_of,
    traceback_of,
)

MAX_NAME: Final = 256
MAX_BASES: Final = 16
_MAX_NESTING: Final = 32
_MAX_INT_BITS: Final = 14_000  # about 4,200 digits, below Python's limit for int to str
_TOP: Final = frozenset({BaseException, object})


def portable(value: object) -> bool:
    """Whether json and msgpack alike can store `value`, which is made of the types they share."""
    if isinstance(value, str):
        return value.isascii() or clean(value) == value
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    if isinstance(value, dict):
        return all(portable(key) and portable(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(portable, value))
    return True


def storable_in(serializer: str) -> Callable[[object], bool]:
    """The `storable` of `to_wire` that keeps most for one serializer; `portable` suits them all."""
    return portable if serializer == "msgpack" else _anything


def _anything(_value: object) -> bool:
    return True


def to_wire(
    exc: BaseException,
    traceback: str | None = None,
    storable: Callable[[object], bool] = portable,
    limits: Limits = DEFAULT_LIMITS,
) -> dict[str, object]:
    """`exc`, with its causes, context, notes, attributes and members, as the dict of `settled.failure`.

    Args:
        exc: any exception. A RemoteError is stored as the exception it stands for.
        traceback: text to store with `exc` itself; its causes' and members' are taken from them.
        storable: asked about each value that is within the limits and made of None, bool, int,
            float, str, bytes, datetime, date, time, Decimal, UUID, list, tuple and dict with str
            keys. A value that is anything else, too long, or not storable, becomes a StandIn.
        limits: how much to keep.

    Returns: a dict of plain values, of bounded size (see Limits). Never raises for an Exception
        that `exc` or its attributes raise.
    """
    return _Writer(storable, limits).write(exc, 0, traceback)


class _Unfit(Exception):
    pass


class _Portion:
    """The characters that one part of one exception may still take, within the whole's."""

    def __init__(self, whole: _Portion | None, size: int) -> None:
        self._whole = whole
        self._left = size

    @property
    def left(self) -> int:
        return self._left if self._whole is None else min(self._left, self._whole.left)

    def take(self, size: int) -> None:
        self._left -= size
        if self._whole is not None:
            self._whole.take(size)


class _Writer:
    def __init__(self, storable: Callable[[object], bool], limits: Limits) -> None:
        self._storable = storable
        self._limits = limits
        self._room = limits.max_exceptions
        self._whole = _Portion(None, limits.max_total)
        self._open: set[int] = set()

    def write(self, exc: BaseException, depth: int, traceback: str | None) -> dict[str, object]:
        self._room -= 1
        self._open.add(id(exc))
        names, args, attributes = _names_of(exc), args_of(exc), attributes_of(exc)
        if type(exc) is RemoteError:
            names, args, attributes = _names_of_remote(exc), exc.exc_args, exc.attributes
        stand_ins: list[str] = []
        own: dict[str, object] = {"bases": names[2]}
        message = self._args(exc, args, stand_ins)
        own["attributes"] = self._attributes(attributes, stand_ins)
        own["notes"] = self._notes(exc, stand_ins)
        own["traceback"] = self._traceback(exc, depth, traceback)
        own["suppress_context"] = hides_context(exc)
        self._links(exc, depth, own)
        own["stand_ins"] = stand_ins
        self._open.discard(id(exc))
        said = {key: value for key, value in own.items() if value or key == "bases"}
        return {"exc_type": names[0], "exc_message": message, "exc_module": names[1], "settled": said}

    def _portion(self) -> _Portion:
        return _Portion(self._whole, self._limits.max_text)

    def _args(self, exc: BaseException, args: tuple[object, ...], stand_ins: list[str]) -> list[object]:
        portion = self._portion()
        if issubclass(type(exc), BaseExceptionGroup) and len(args) > 1:
            # The members are stored as such; this is what Celery's own reader shows.
            shown = [cut(describe(member), 200) for member in members_of(exc)[:16]]
            args = (args[0], shown, *args[2:])
        return [self._fit(arg, portion, f"args.{i}", stand_ins) for i, arg in enumerate(self._first(args))]

    def _first(self, values: Iterable[object]) -> list[object]:
        values = list(values)
        most = self._limits.max_attributes
        if len(values) <= most:
            return values
        return [*values[: most - 1], StandIn(f"... and {len(values) - most + 1:,} more")]

    def _attributes(self, attributes: dict[str, object], stand_ins: list[str]) -> dict[str, object]:
        portion = self._portion()
        kept: dict[str, object] = {}
        for name, value in attributes.items():
            if len(kept) == self._limits.max_attributes or portion.left <= len(name):
                break
            if len(name) > MAX_NAME or clean(name) != name:
                continue
            portion.take(len(name))
            marks: list[str] = []
            fitted = self._fit(value, portion, f"attributes.{name}", marks)
            # The object an AttributeError was about: of use as itself, misleading as text.
            if name == "obj" and marks:
                continue
            kept[name] = fitted
            stand_ins += marks
        return kept

    def _notes(self, exc: BaseException, stand_ins: list[str]) -> list[object]:
        notes = [note for note in notes_of(exc) if type(note) is not RemoteTraceback]
        portion = self._portion()
        return [
            self._fit(_as_note(note), portion, f"notes.{i}", stand_ins)
            for i, note in enumerate(self._first(notes))
        ]

    def _traceback(self, exc: BaseException, depth: int, given: str | None) -> str | None:
        text = given if given is not None else dict_of(exc).get(TRACEBACK)
        trace = traceback_of(exc)
        if text is None and depth and trace is not None:
            frames = traceback_module.format_tb(trace)
            text = "Traceback (most recent call last):\n" + "".join(frames)
        if not isinstance(text, str):
            return None
        text = cut_middle(clean(text), min(self._limits.max_traceback, self._whole.left))
        self._whole.take(len(text))
        return text

    def _links(self, exc: BaseException, depth: int, own: dict[str, object]) -> None:
        context = None if hides_context(exc) else linked_by(exc, "__context__")
        cut_links = []
        for name, linked in (("cause", linked_by(exc, "__cause__")), ("context", context)):
            if linked is not None and self._may_follow(linked, depth):
                own[name] = self.write(linked, depth + 1, None)
            elif linked is not None:
                cut_links.append(name)
        own["cut"] = cut_links
        members = members_of(exc)
        written = []
        for member in members:
            if not self._may_follow(member, depth):
                break
            written.append(self.write(member, depth + 1, None))
        own["exceptions"] = written
        own["omitted"] = len(members) - len(written)

    def _may_follow(self, linked: BaseException, depth: int) -> bool:
        return depth < self._limits.max_depth and self._room > 0 and id(linked) not in self._open

    def _fit(self, value: object, portion: _Portion, name: str, stand_ins: list[str]) -> object:
        if self._is_kept(value, portion):
            return value
        stand_ins.append(name)
        text = cut(_shown(value), portion.left)
        portion.take(len(text))
        return text

    def _is_kept(self, value: object, portion: _Portion) -> bool:
        """Whether `value` is stored as it is; if so its size is taken from `portion`."""
        if type(value) is StandIn:
            return False
        try:
            left = _left_after(value, portion.left, 0)
            if not self._storable(value):
                return False
        except Exception:  # _Unfit, or a subclass of a plain type whose methods fail
            return False
        portion.take(portion.left - left)
        return True


def _as_note(note: object) -> object:
    return note if issubclass(type(note), str) else describe(note)


def _shown(value: object) -> str:
    return clean(str.__str__(cast(str, value))) if issubclass(type(value), str) else describe(value)


def _left_after(value: object, left: int, depth: int) -> int:
    """`left` less the characters that `value` takes.

    Raises:
        _Unfit: that is less than nothing, or part of `value` is of no type that serializers share.
    """
    left -= _size(value)
    parts: Iterable[object] = ()
    if isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise _Unfit  # JSON would make str of it in silence
        parts = (part for item in value.items() for part in item)
    if left < 0 or depth > _MAX_NESTING:
        raise _Unfit
    for part in parts:
        left = _left_after(part, left, depth + 1)
    return left


def _size(value: object) -> int:
    """About how many characters `value` takes by itself, without what it contains."""
    if isinstance(value, str):
        return len(value) + 2
    if value is None or isinstance(value, float | list | tuple | dict):
        return 4
    if isinstance(value, int) and value.bit_length() <= _MAX_INT_BITS:
        return 1 + value.bit_length() // 3
    if isinstance(value, bytes):
        return 48 + 2 * len(value)
    if isinstance(value, datetime | date | time | UUID):
        return 96
    if isinstance(value, Decimal):
        return 48 + len(str(value))
    raise _Unfit


def _names_of(exc: BaseException) -> tuple[str, str | None, list[str]]:
    """Name, module and bases of the class of `exc`."""
    cls = type(exc)
    bases = [f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__[1:] if base not in _TOP]
    return _name(cls.__qualname__), _name(cls.__module__), [_name(base) for base in bases[:MAX_BASES]]


def _names_of_remote(exc: RemoteError) -> tuple[str, str | None, list[str]]:
    module = None if exc.exc_module is None else _name(exc.exc_module)
    return _name(exc.exc_type), module, [_name(base) for base in exc.bases[:MAX_BASES]]


def _name(name: object) -> str:
    return clean(str(name)[:MAX_NAME])
