"""Classes by name, and instances of them, without running any code of theirs.

Nothing is imported and no attribute of a module is computed: a class is found by walking namespaces
that are already there. An instance is made by the `__new__` and `__init__` of its nearest builtin base.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from settled.failure.limits import StandIn
from settled.failure.parts import is_native, set_attributes, set_part

_MAX_QUALNAME: Final = 1000
_MAX_PLACE: Final = 1_000_000  # of a line in its file, of a character in its line
_MODULE: Final = vars(ModuleType)
_TYPE: Final = vars(type)
_UNICODE: Final[dict[type, type]] = {
    UnicodeEncodeError: str,
    UnicodeDecodeError: bytes,
    UnicodeTranslateError: str,
}


def find_class(module: object, qualname: str) -> type[Exception] | None:
    """The Exception subclass that calls itself `qualname` of `module` and is found there, or None."""
    found: object = sys.modules.get(module) if isinstance(module, str) else None
    if not issubclass(type(found), ModuleType) or len(qualname) > _MAX_QUALNAME:
        return None
    # Past `__getattr__` and `__getattribute__` of lazy modules and metaclasses, which may import.
    namespace = _MODULE["__dict__"].__get__(found)
    for name in qualname.split("."):
        found = namespace.get(name)
        if not issubclass(type(found), type):
            return None
        namespace = _TYPE["__dict__"].__get__(found)
    names = _TYPE["__module__"].__get__(found), _TYPE["__qualname__"].__get__(found)
    # An alias, such as a module's `import os`, leads to classes that have another name.
    if names != (module, qualname) or Exception not in _TYPE["__mro__"].__get__(found):
        return None
    return found  # type: ignore[return-value]


def new_exception(
    cls: type[Exception],
    args: tuple[object, ...],
    attributes: dict[str, object],
    members: Sequence[Exception] = (),
) -> Exception:
    """An instance of `cls` with these `args` and attributes; for a group, with these members.

    Raises:
        Exception: it cannot be made from these.
    """
    base = next(base for base in cls.__mro__ if base.__module__ == "builtins" and is_native(base))
    if base is BaseExceptionGroup:
        message = args[0] if args and isinstance(args[0], str) else ""
        args = (message, list(members), *args[2:])
        exc: Exception = BaseExceptionGroup.__new__(cls, message, members)  # type: ignore[type-var]
    elif base in _UNICODE:
        exc, args, attributes = _new_unicode_error(base, cls, args, attributes)
    else:
        if base is SyntaxError and len(args) == 2 and isinstance(args[1], list):
            args = (args[0], tuple(args[1]))
        exc = _new(base, cls, args)
    set_part(exc, "args", args)
    set_attributes(exc, attributes)
    if base is SyntaxError:
        _check_syntax_error(exc)
    return exc


def _new(base: type[BaseException], cls: type[Exception], args: tuple[object, ...]) -> Exception:
    """By the builtin `base`, which takes what it can from `args`, such as errno and strerror."""
    try:
        exc = base.__new__(cls, *args)
        base.__init__(exc, *args)
    except (TypeError, ValueError, OverflowError):
        exc = base.__new__(cls)
    return exc if type(exc) is cls else base.__new__(cls)


def _check_syntax_error(exc: Exception) -> None:
    """Clear the fields with which the traceback module fails, or draws carets without end."""
    fields = vars(SyntaxError)
    for name in ("filename", "text"):
        if not isinstance(fields[name].__get__(exc), str):
            fields[name].__set__(exc, None)
    for name in ("lineno", "offset", "end_lineno", "end_offset"):
        value = fields[name].__get__(exc)
        if not isinstance(value, int) or not -1 <= value <= _MAX_PLACE:
            fields[name].__set__(exc, None)


def _new_unicode_error(
    base: type[BaseException],
    cls: type[Exception],
    args: tuple[object, ...],
    attributes: dict[str, object],
) -> tuple[Exception, tuple[object, ...], dict[str, object]]:
    """The exception, its args, and the attributes that are not its fields.

    CPython's `__str__` trusts the fields' types and reads memory at `start`, so they are checked here.
    """
    names = ("encoding", "object", "start", "end", "reason")[base is UnicodeTranslateError :]
    rest = {name: value for name, value in attributes.items() if name not in names}
    fields = tuple(attributes[name] for name in names) if attributes.keys() >= set(names) else args
    *encoding, content, start, end, reason = fields
    if _UNICODE[base] is bytes and isinstance(content, str):
        content = content.encode("utf-8", "replace")  # a StandIn
    elif _UNICODE[base] is str and isinstance(content, bytes):
        content = content.decode("utf-8", "surrogatepass")  # as `attributes_of` gives it
    if not (isinstance(start, int) and isinstance(end, int) and start >= 0 and end >= 0):
        raise ValueError(f"{base.__name__} cannot have start {start!r:.80} and end {end!r:.80}")
    fields = (*encoding, content, start, end, reason)
    exc = base.__new__(cls, *fields)
    base.__init__(exc, *fields)  # refuses fields of other types
    if len(args) == len(fields) and any(isinstance(arg, StandIn) for arg in args):
        args = fields
    return exc, args, rest
