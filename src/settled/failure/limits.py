"""How much of an exception is kept, and the text that stands for what is not."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on the stored form of one exception and all that hangs on it.

    Sizes are in characters before escaping. In all: at most `max_total` plus 16 Ki for each of
    `max_exceptions`, so 2 Mi by default.
    """

    max_depth: int = 8  # links of cause, context and group membership from the exception itself
    max_exceptions: int = 64  # in all
    max_text: int = 64 * 1024  # per exception: of its args, of its attributes and of its notes, each
    max_traceback: int = 64 * 1024  # per exception
    max_attributes: int = 64  # per exception; the same for its args and its notes
    max_total: int = 1024 * 1024  # of args, attributes, notes and tracebacks of all exceptions


DEFAULT_LIMITS: Final = Limits()


class StandIn(str):
    """Text in place of a value that could not be stored whole: its repr, or its beginning."""

    __slots__ = ()


class RemoteTraceback(str):
    """The note by which `show_remote` makes a remote traceback visible; never stored."""

    __slots__ = ()


class _BoundedRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 16
        self.maxstring = self.maxother = 400

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value[:100]) + ("..." if len(value) > 100 else "")

    def repr_bytearray(self, value: bytearray, level: int) -> str:
        return repr(value[:100]) + ("..." if len(value) > 100 else "")

    def repr_instance(self, x: object, level: int) -> str:
        if not issubclass(type(x), BaseException):
            return super().repr_instance(x, level)
        # Its own repr shows its args whole, and those of every exception among them again at each level.
        args = vars(BaseException)["args"].__get__(x)
        shown = [self.repr1(arg, level - 1) for arg in args[:6]] if level > 0 else ["..."]
        return f"{type(x).__qualname__}({', '.join(shown)})"


_repr = _BoundedRepr()

#: More than the longest text that `describe` gives.
MAX_DESCRIPTION: Final = 1000


def describe(value: object) -> str:
    """The repr of `value`, at most MAX_DESCRIPTION characters, whatever its own `__repr__` does.

    A `__repr__` that itself builds a huge text is run: nothing can be known of it beforehand.
    """
    try:
        return cut(clean(_repr.repr(value)), MAX_DESCRIPTION)
    except Exception:
        return f"<{clean(type(value).__qualname__)[:200]} object whose repr failed>"


def clean(text: str) -> str:
    """`text` with lone surrogates escaped, so that every serializer can store it."""
    if text.isascii():
        return str(text)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def cut(text: str, size: int) -> str:
    """The beginning of `text` in at most `size` characters, saying how much is missing."""
    if len(text) <= size:
        return text
    ending = f"... [{len(text):,} characters in all]"
    return text[: size - len(ending)] + ending if size > len(ending) else text[: max(size, 0)]


def cut_middle(text: str, size: int) -> str:
    """`text` in at most `size` characters, the end kept before the beginning."""
    if len(text) <= size:
        return text
    gap = f"\n... [{len(text):,} characters in all] ...\n"
    room = size - len(gap)
    if room < 1:
        return text[len(text) - max(size, 0) :]
    head = room // 4
    return text[:head] + gap + text[len(text) - (room - head) :]
