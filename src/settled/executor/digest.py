"""A digest of a call: the same in every process for the same function, source and arguments.

What it covers: the function's module and qualified name, its source (its bytecode where there is
no source, and for lambdas, several of which may share a line), defaults and closure, and the
arguments in a canonical form in which the order of sets and of dicts does not count. What it does
not cover: what the function calls and the globals it reads. An object is taken as the pieces that
`pickle` would take it to.
"""

from __future__ import annotations

import copyreg
import inspect
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Final, cast

from settled.errors import ConfigurationError

DIGEST_BYTES: Final = 16

_SCALARS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_MAIN: Final = {"__mp_main__": "__main__"}  # the program's own module, as spawned workers name it

# Reading a source takes about a millisecond and a submit a few microseconds. A cache for this
# process: the source of a function is that of its file for as long as the function lives.
_sources: weakref.WeakKeyDictionary[FunctionType, bytes] = weakref.WeakKeyDictionary()


def digest_of(fn: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """32 hex digits for the call `fn(*args, **kwargs)`.

    Raises ConfigurationError, naming the type, if part of it has no stable form.
    """
    form = _Form()
    try:
        form.callable(fn)
        form.feed(tuple(args))
        if kwargs:
            form.feed(dict(kwargs))
    except (_Shapeless, RecursionError) as exc:
        raise ConfigurationError(
            f"no digest can be made of this call of {name_of(fn)}: {exc}. Give it key='...', or key=None "
            "to run it each time"
        ) from exc
    return form.hexdigest()


def digest_of_ids(kind: str, ids: Iterable[str]) -> str:
    """32 hex digits for these ids, in this order."""
    digest = blake2b(kind.encode(), digest_size=DIGEST_BYTES)
    for each in ids:
        digest.update(b"\0" + each.encode())
    return digest.hexdigest()


def name_of(fn: object) -> str:
    """ "module.qualname" of a callable: the task's name. Of what is inside a partial, else of the type."""
    while isinstance(fn, partial):
        fn = fn.func
    named: object = fn if hasattr(fn, "__qualname__") else type(fn)
    module = getattr(named, "__module__", None) or type(getattr(fn, "__self__", fn)).__module__
    return f"{_MAIN.get(module, module)}.{getattr(named, '__qualname__', '')}"


class _Shapeless(Exception):
    """Part of the call has no stable form."""


class _Form:
    """Feeds values to a hash; each by a tag, a length and its content, so that no two look alike."""

    def __init__(self, open_: dict[int, int] | None = None) -> None:
        self._hash = blake2b(digest_size=DIGEST_BYTES)
        self._open: dict[int, int] = {} if open_ is None else open_

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def callable(self, fn: object) -> None:
        """What is called, with the source of what then runs."""
        if isinstance(fn, partial):
            self._put("partial", b"")
            self.callable(fn.func)
            self.feed(fn.args)
            self.feed(fn.keywords)
        elif isinstance(fn, MethodType):
            self.callable(fn.__func__)
            self.feed(fn.__self__)
        elif isinstance(fn, type):
            self.feed(fn)
            self._put("source", _source_of_class(fn))
        elif isinstance(fn, FunctionType | BuiltinFunctionType):
            self.feed(fn)
        else:
            self.feed(type(fn).__call__)
            self.feed(fn)

    def feed(self, value: object) -> None:
        kind = type(value)
        if kind in _SCALARS:
            self._put(kind.__name__, _text(value))
        elif kind is tuple or kind is list:
            self._sequence(value)  # type: ignore[arg-type]
        elif id(value) in self._open:
            self._put("cycle", str(len(self._open) - self._open[id(value)]).encode())
        else:
            self._open[id(value)] = len(self._open)
            self._compound(value)
            del self._open[id(value)]

    def _compound(self, value: object) -> None:
        if type(value) is dict:
            pairs = sorted(self._apart(key) + self._apart(item) for key, item in value.items())
            self._put("dict", b"".join(pairs))
        elif isinstance(value, set | frozenset):
            self._put(type(value).__name__, b"".join(sorted(self._apart(item) for item in value)))
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, BuiltinFunctionType):
            self._builtin(value)
        elif isinstance(value, type):
            self._put("class", name_of(value).encode())
        elif isinstance(value, CodeType):
            self._code(value)
        else:
            self._object(value)

    def _put(self, tag: str, content: bytes) -> None:
        self._hash.update(b"%s %d " % (tag.encode(), len(content)))
        self._hash.update(content)

    def _apart(self, value: object) -> bytes:
        part = _Form(self._open)
        part.feed(value)
        return part._hash.digest()

    def _sequence(self, value: Sequence[object]) -> None:
        tag = type(value).__name__
        if set(map(type, value)) <= _SCALARS:
            self._put(f"{tag} of scalars", _text(value))
            return
        if id(value) in self._open:
            self._put("cycle", str(len(self._open) - self._open[id(value)]).encode())
            return
        self._open[id(value)] = len(self._open)
        self._put(tag, str(len(value)).encode())
        for item in value:
            self.feed(item)
        del self._open[id(value)]

    def _function(self, fn: FunctionType) -> None:
        source = _sources.get(fn)
        if source is None:
            source = _sources[fn] = _source_of(fn)
        self._put("function", source)
        for held in (fn.__defaults__, fn.__kwdefaults__):
            if held is not None:
                self.feed(held)
        for cell in fn.__closure__ or ():
            try:
                self.feed(cell.cell_contents)
            except ValueError:  # not filled yet
                self._put("empty", b"")

    def _builtin(self, fn: BuiltinFunctionType) -> None:
        self._put("builtin", name_of(fn).encode())
        if fn.__self__ is not None and not isinstance(fn.__self__, ModuleType):
            self.feed(fn.__self__)

    def _code(self, code: CodeType) -> None:
        self._put("code", code.co_code)
        self.feed((code.co_names, code.co_varnames, code.co_freevars, code.co_flags))
        self.feed(code.co_consts)

    def _object(self, value: object) -> None:
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            form: object = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        except Exception as exc:
            raise _Shapeless(f"{type(value).__module__}.{type(value).__qualname__}: {exc}") from exc
        if isinstance(form, str):
            self._put("global", f"{type(value).__module__}.{form}".encode())
            return
        if not isinstance(form, tuple):
            raise _Shapeless(f"{type(value).__qualname__} reduces to {type(form).__name__}")
        self._put("object", str(len(form)).encode())
        for place, piece in enumerate(form):
            # Items of subclasses of list and dict come as iterators; those of a dict in any order.
            if place == 3 and piece is not None:
                piece = list(cast("Iterable[object]", piece))
            elif place == 4 and piece is not None:
                piece = dict(cast("Iterable[tuple[object, object]]", piece))
            self.feed(piece)


def _text(value: object) -> bytes:
    try:
        return repr(value).encode("utf-8", "surrogatepass")
    except ValueError:  # an int of more digits than Python likes to show
        if isinstance(value, int):
            return hex(value).encode()
        return b",".join(_text(item) for item in value)  # type: ignore[attr-defined]


def _source_of(fn: FunctionType) -> bytes:
    """The function's name with a digest of its source, or of its bytecode."""
    form = _Form()
    try:
        if fn.__name__ == "<lambda>":
            raise OSError("several may share a line")
        # Of the code: of a decorated function the function itself would give what it wraps.
        form._put("source", inspect.getsource(fn.__code__).encode("utf-8", "surrogatepass"))
    except (OSError, TypeError, IndexError, SyntaxError):
        form.feed(fn.__code__)
    return f"{name_of(fn)} {form.hexdigest()}".encode()


def _source_of_class(cls: type) -> bytes:
    try:
        return inspect.getsource(cls).encode("utf-8", "surrogatepass")
    except (OSError, TypeError):
        return b""
