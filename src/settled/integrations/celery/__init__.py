"""Settled as the result backend of a Celery app: `result_backend = "settled+redis://..."`."""

from typing import TYPE_CHECKING

from settled.integrations.celery.backend import Backend

if TYPE_CHECKING:
    from settled.integrations.celery.handles import handle

__all__ = ["Backend", "handle"]


def __getattr__(name: str) -> object:
    if name == "handle":
        from settled.integrations.celery.handles import handle  # loads asyncio, which no worker needs

        return handle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
