"""A crash-proof `concurrent.futures`: results survive the process, and what is done is not done again."""

from __future__ import annotations

from settled.executor.calls import Call, call
from settled.executor.face import Executor
from settled.executor.handles import Handle
from settled.executor.mapped import Mapped
from settled.executor.pulse import end_with_parent

__all__ = ["Call", "Executor", "Handle", "Mapped", "call", "end_with_parent"]
