"""Exceptions from their stored form, which may be damaged, or hostile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from settled.errors import RemoteError
from settled.failure.instances import find_class, new_exception
from settled.failure.limits import RemoteTraceback, StandIn, describe
from settled.failure.parts import NOTES, TRACEBACK, dict_of, notes_of, set_part
from settled.failure.writing import to_wire

#: Deeper nesting, and more exceptions, than any writer of ours stores.
MAX_READ_DEPTH: Final = 32
MAX_READ: Final = 1024
_MAX_NESTING: Final = 100
_MAX_VALUES: Final = 1_000_000


def from_wire(data: object, traceback: str | None = None) -> Exception:
    """The exception stored as `data`, by `to_wire` or by Celery.

    Its class is used if it is already imported, is a subclass of Exception and is found under its
    own name; its `__new__` and `__init__` do not run. Otherwise, and for SystemExit and its like, a
    RemoteError tells of it. A BaseExceptionGroup comes back as an ExceptionGroup.

    `remote_traceback` of the exception is `traceback` or, if that is None, the text stored with it;
    see `show_remote`.

    Never raises: of damaged data a RemoteError says so. An Exception (from a pickle) is returned as
    it is.
    """
    try:
        exc = _Reader().read(data, 0)
    except Exception:  # whatever it is, the data is not what any writer stores
        exc = _damaged(data)
    if traceback is not None:
        dict_of(exc)[TRACEBACK] = traceback
    return exc


def show_remote(exc: Exception) -> Exception:
    """`exc` with its `remote_traceback` as a last note, so that it is seen when nobody catches it.

    For the place that raises it to the caller. The note is a RemoteTraceback, is added once, and is
    never stored.
    """
    text = dict_of(exc).get(TRACEBACK)
    notes = notes_of(exc)
    if isinstance(text, str) and not any(isinstance(note, RemoteTraceback) for note in notes):
        dict_of(exc)[NOTES] = [*notes, RemoteTraceback(f"\nThe remote traceback:\n{text}")]
    return exc


def _damaged(data: object) -> RemoteError:
    return RemoteError("unreadable failure", None, (describe(data),))


class _Reader:
    def __init__(self) -> None:
        self._room = MAX_READ

    def read(self, data: object, depth: int) -> Exception:
        self._room -= 1
        if isinstance(data, Exception):
            return data
        if isinstance(data, BaseException):
            data = to_wire(data)
        if not isinstance(data, dict) or not isinstance(data.get("exc_type"), str):
            return _damaged(data)
        own = data.get("settled")
        if not isinstance(own, dict):
            own = {}
        exc = self._exception(data, own, depth)
        notes = [note for note in _list(own.get("notes")) if isinstance(note, str)]
        if notes:
            dict_of(exc)[NOTES] = list(_marked("notes", enumerate(notes), own).values())
        if isinstance(own.get("traceback"), str):
            dict_of(exc)[TRACEBACK] = own["traceback"]
        self._link(exc, own, depth)
        return exc

    def _exception(self, data: dict[str, object], own: dict[str, object], depth: int) -> Exception:
        module, name = data.get("exc_module"), str(data["exc_type"])
        members = self._members(own, depth)
        args = tuple(_marked("args", enumerate(_args(data.get("exc_message"))), own).values())
        stored = own.get("attributes")
        named = [(key, value) for key, value in stored.items()] if isinstance(stored, dict) else []
        attributes = {
            key: value for key, value in _marked("attributes", named, own).items() if isinstance(key, str)
        }
        cls = (
            ExceptionGroup
            if (module, name) == ("builtins", "BaseExceptionGroup")
            else find_class(module, name)
        )
        if cls is not None and cls is not RemoteError:
            try:
                return new_exception(cls, args, attributes, members)
            except Exception:
                cls = None  # the class is here, and no instance of it can be made of what is stored
        bases = [base for base in _list(own.get("bases")) if isinstance(base, str)]
        exc = RemoteError(name, module if isinstance(module, str) else None, args, bases, attributes)
        if members:
            exc.exceptions = members
        return exc

    def _members(self, own: dict[str, object], depth: int) -> list[Exception]:
        members = [self._linked(member, depth) for member in _list(own.get("exceptions"))[: self._room]]
        omitted = own.get("omitted")
        if isinstance(omitted, int) and omitted > 0:
            members.append(RemoteError("omitted", None, (f"{omitted:,} more exceptions were not stored",)))
        return members

    def _linked(self, data: object, depth: int) -> Exception:
        if depth >= MAX_READ_DEPTH or self._room <= 0:
            return RemoteError("omitted", None, ("nested too deeply, or too many exceptions",))
        return self.read(data, depth + 1)

    def _link(self, exc: Exception, own: dict[str, object], depth: int) -> None:
        for name in ("cause", "context"):
            if isinstance(own.get(name), dict):
                set_part(exc, f"__{name}__", self._linked(own[name], depth))
        set_part(exc, "__suppress_context__", own.get("suppress_context") is True)


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _args(message: object) -> Sequence[object]:
    """Celery writes the args; releases before 4 wrote one text."""
    if isinstance(message, list | tuple):
        return message
    return () if message is None else (message,)


def _marked(
    part: str, named: Iterable[tuple[object, object]], own: dict[str, object]
) -> dict[object, object]:
    """The values, each text that stands for another value as a StandIn, none nested without end."""
    marks = {mark for mark in _list(own.get("stand_ins")) if isinstance(mark, str)}
    marked: dict[object, object] = {}
    for name, value in named:
        if isinstance(value, str) and f"{part}.{name}" in marks:
            marked[name] = StandIn(value)
        else:
            marked[name] = value if _is_shallow(value) else StandIn(describe(value))
    return marked


def _is_shallow(value: object) -> bool:
    """Whether `value` can be shown and compared without reaching the interpreter's limits."""
    level = [value]
    count = 0
    for _ in range(_MAX_NESTING):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list | tuple):
                below += item
        count += len(below)
        if not below:
            return True
        if count > _MAX_VALUES:
            return False
        level = below
    return False
