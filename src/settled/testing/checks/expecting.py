"""What a call raised."""

from __future__ import annotations

from collections.abc import Callable


def raised(call: Callable[[], object]) -> Exception:
    """The exception that `call` raises; AssertionError if it returns."""
    try:
        answer = call()
    except Exception as exc:
        return exc
    raise AssertionError(f"nothing was raised; what came back is {answer!r:.200}")
