"""From `--backend` to a backend that this command can work with, and from what was typed to a task id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from settled.app import DEFAULT_URL, App
from settled.backends.base import BaseBackend
from settled.errors import ConfigurationError
from settled.record import Presence, Query, checked_id
from settled.url import parse

EVERYTHING = 2**62
"""A limit that is none."""

SHOWN_MATCHES = 4


def url_of(given: str | None) -> str:
    """The URL that was given, or SETTLED_BACKEND, or sqlite:///settled.db; also as Celery's setting has it."""
    return (given or os.environ.get("SETTLED_BACKEND") or DEFAULT_URL).removeprefix("settled+")


def shared_app(given: str | None) -> App:
    """An app on a store that several processes share. ConfigurationError for one that is not.

    What is stored is kept until somebody deletes it, and says what was called.
    """
    app = App(url_of(given), result_expires=0, result_extended=True)
    if not app.backend.capabilities.shared:
        raise ConfigurationError(
            f"{app.backend.url} is seen by one process only, and here one is needed that several share: "
            "use --backend sqlite:///results.db"
        )
    return app


@contextmanager
def opened(given: str | None) -> Iterator[BaseBackend]:
    """The backend, for a command that reads what is there. ConfigurationError if there is nothing."""
    backend = shared_app(given).backend
    path = getattr(backend, "path", None)
    if isinstance(path, str) and not os.path.exists(path):
        raise ConfigurationError(
            f"there is no store at {path}: give the one that was written with --backend or SETTLED_BACKEND"
        )
    with backend:
        yield backend


def need_queries(backend: BaseBackend) -> None:
    """ConfigurationError if the engine cannot list what it holds."""
    if not backend.capabilities.queries:
        raise ConfigurationError(f"{backend.url} cannot list its records: use `settled show` with a task id")


def find_id(backend: BaseBackend, typed: str) -> str:
    """The whole id for one that may be cut short; as typed where it matches nothing.

    ConfigurationError if several tasks begin like that.
    """
    typed = checked_id(typed)
    if backend.presence(typed) is not Presence.UNKNOWN or not backend.capabilities.queries:
        return typed
    found: list[str] = []
    for row in backend.query(Query(limit=EVERYTHING)):
        if row.task_id.startswith(typed):
            found.append(row.task_id)
            if len(found) > SHOWN_MATCHES:
                break
    if len(found) > 1:
        shown = ", ".join(found[:SHOWN_MATCHES]) + (", ..." if len(found) > SHOWN_MATCHES else "")
        raise ConfigurationError(f"several tasks begin with {typed!r}: {shown}")
    return found[0] if found else typed


def shown_option(given: str | None) -> str:
    """What to add to a command that is suggested, so that it finds the same store."""
    if not given or given == os.environ.get("SETTLED_BACKEND"):
        return ""
    return f" --backend {parse(given).redacted()}"
