"""The parts of an exception object, read and written past any code of its class.

A user's class may have properties, `__setattr__`, `__new__` and `__init__` of its own; none of them
runs here. Everything goes through the descriptors that the interpreter itself made, and types are
asked for with `type()`, because `isinstance` asks a proxy for its `__class__`, which may raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import Any, Final

from settled.errors import RemoteError
from settled.failure.limits import clean

NOTES: Final = "__notes__"
TRACEBACK: Final = "remote_traceback"

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made at run time, as by a class statement
_BASE: Final = vars(BaseException)
# What every exception has is stored under its own names, and a group's members likewise.
_COMMON: Final = frozenset({object, BaseException, BaseExceptionGroup})


def is_native(cls: type) -> bool:
    """Whether `cls` is one of the interpreter's own static types."""
    return not cls.__flags__ & _HEAP_TYPE


def args_of(exc: BaseException) -> tuple[object, ...]:
    """`exc.args`."""
    args: tuple[object, ...] = _BASE["args"].__get__(exc)
    return args


def linked_by(exc: BaseException, name: str) -> BaseException | None:
    """`__cause__` or `__context__`."""
    linked: BaseException | None = _BASE[name].__get__(exc)
    return linked


def hides_context(exc: BaseException) -> bool:
    """`__suppress_context__`."""
    return bool(_BASE["__suppress_context__"].__get__(exc))


def traceback_of(exc: BaseException) -> TracebackType | None:
    """`__traceback__`."""
    trace: TracebackType | None = _BASE["__traceback__"].__get__(exc)
    return trace


def members_of(exc: BaseException) -> Sequence[BaseException]:
    """The members of an exception group, or of a RemoteError that stands for one."""
    if issubclass(type(exc), BaseExceptionGroup):
        members: tuple[BaseException, ...] = vars(BaseExceptionGroup)["exceptions"].__get__(exc)
        return members
    return exc.exceptions if type(exc) is RemoteError else ()


def set_part(exc: BaseException, name: str, value: object) -> None:
    """Set `args`, `__cause__`, `__context__` or `__suppress_context__`."""
    _BASE[name].__set__(exc, value)


def dict_of(exc: BaseException) -> dict[object, object]:
    """The instance's own `__dict__`, which every exception has, slots or not."""
    own: dict[object, object] = _BASE["__dict__"].__get__(exc)
    return own


def notes_of(exc: BaseException) -> list[object]:
    """The notes, however they were set; empty if they are no list."""
    notes = dict_of(exc).get(NOTES)
    return list(notes) if isinstance(notes, list | tuple) else []


def fields_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Name and descriptor of each slot of `cls` and of each field of its builtin base, nearest first."""
    for base in cls.__mro__:
        if base in _COMMON:
            continue
        kinds = (MemberDescriptorType, GetSetDescriptorType) if is_native(base) else MemberDescriptorType
        for name, descriptor in vars(base).items():
            if isinstance(descriptor, kinds):
                yield name, descriptor


def attributes_of(exc: BaseException) -> dict[str, object]:
    """Slots, fields of the builtin base that are set, and instance attributes, without the notes.

    The text that a UnicodeEncodeError is about is given as bytes where it has lone surrogates.
    """
    found: dict[str, object] = {}
    for name, descriptor in fields_of(type(exc)):
        try:
            value = descriptor.__get__(exc)
        except (AttributeError, TypeError):
            continue  # an empty slot, or a UnicodeError that was never initialised
        if value is not None or not is_native(descriptor.__objclass__):
            found.setdefault(name, value)
    own = list(dict_of(exc).items())
    found.update((name, value) for name, value in own if isinstance(name, str))
    found.pop(NOTES, None)
    found.pop(TRACEBACK, None)
    content = found.get("object")
    if issubclass(type(exc), UnicodeError) and type(content) is str and clean(content) != content:
        found["object"] = content.encode("utf-8", "surrogatepass")
    return found


def set_attributes(exc: BaseException, attributes: dict[str, object]) -> None:
    """Set slots, fields and instance attributes; what does not fit is left out.

    A name that BaseException itself defines is left out: stored data must not shadow its methods.
    """
    rest = dict(attributes)
    for name, descriptor in fields_of(type(exc)):
        if name in rest:
            value = rest.pop(name)
            try:
                descriptor.__set__(exc, value)
            except (AttributeError, TypeError, ValueError, OverflowError):
                continue  # read-only, or not of the type that the field has
    dict_of(exc).update((name, value) for name, value in rest.items() if not hasattr(BaseException, name))
