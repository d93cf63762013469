"""A crash-proof `concurrent.futures`: results survive the process, and what is done is not done again."""

from __future__ import annotations

from settled.executor.calls import Call, call
from settled.executor.face import Executor
from settled.executor.handles import Handle
from settled.executor.mapped import Mapped

__all__ = ["Call", "Executor", "Handle", "Mapped", "call"]
