"""Tracebacks as text, in Python's own form, of bounded size."""

from __future__ import annotations

import traceback

from settled.failure.limits import DEFAULT_LIMITS, Limits, clean, cut, cut_middle, describe
from settled.failure.parts import notes_of, traceback_of


def text_of(exc: BaseException, limits: Limits = DEFAULT_LIMITS) -> str:
    """The traceback of `exc` as Python shows it, with causes, context, groups and notes.

    At most `limits.max_traceback` characters, cut in the middle. Where more than
    `limits.max_exceptions` hang together, or what is linked cannot be shown, that of `exc` alone.
    Reads source lines through linecache. Never raises an Exception.
    """
    try:
        whole = _hang_together(exc, limits.max_exceptions)
        text = "".join(traceback.format_exception(exc)) if whole else _alone(exc, limits)
    except Exception:  # a user's attribute that raises, a SyntaxError with fields of other types
        text = _alone(exc, limits)
    return cut_middle(clean(text), limits.max_traceback)


def _hang_together(exc: BaseException, most: int) -> bool:
    """Whether `exc` and all that is shown with it are at most `most` exceptions."""
    seen = {id(exc)}
    found = [exc]
    for one in found:
        linked = [one.__cause__, None if one.__suppress_context__ else one.__context__]
        if isinstance(one, BaseExceptionGroup):
            linked += one.exceptions[: most + 1]
        fresh = [other for other in linked if other is not None and id(other) not in seen]
        found += fresh
        seen.update(map(id, fresh))
        if len(found) > most:
            return False
    return True


def _alone(exc: BaseException, limits: Limits) -> str:
    frames = traceback.format_tb(traceback_of(exc))
    cls = type(exc)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    notes = [cut(str(note), 1000) for note in notes_of(exc)[: limits.max_attributes] if isinstance(note, str)]
    lines = [f"{name}: {_message(exc)}", *notes, "[What it is linked with is not shown.]"]
    return "Traceback (most recent call last):\n" + "".join(frames) + "\n".join(lines) + "\n"


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:
        return describe(exc)
