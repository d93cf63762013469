"""Which wrong engine proves which check."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from settled.backends.base import BaseBackend

E = TypeVar("E", bound=type[BaseBackend])

WRONG: dict[str, type[BaseBackend]] = {}
"""Check id -> an engine with one defect, which that check has to find."""


def breaks(*check_ids: str) -> Callable[[E], E]:
    """The decorated engine is wrong in what these checks are about."""

    def add(engine: E) -> E:
        for check_id in check_ids:
            assert check_id not in WRONG, f"{check_id} has its wrong engine already"
            WRONG[check_id] = engine
        return engine

    return add
