"""The conformance kit: every promise of a result backend as a check that any engine can be put to.

    from settled.testing import Conformance, Store

    class MyStore(Store):
        engine = MyBackend
        def url(self): return f"mine://{self.folder}"
        def raw(self, task_id): ...             # the stored bytes, read behind the engine's back
        def plant(self, task_id, payload): ...  # bytes put there

    class TestMyBackend(Conformance):
        store_class = MyStore

`python -m settled.testing report` prints the table of engines and what they were proved to do.
Needs pytest and hypothesis: `pip install 'settled[testing]'`. They are imported when they are used,
so that the processes which the checks start are quick to start.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from settled.testing.app import RecordingApp, Request, Sent
    from settled.testing.contract import Check
    from settled.testing.faults import Faults
    from settled.testing.report import report
    from settled.testing.store import Clock, Store
    from settled.testing.suite import Conformance

_HOME = {
    "Check": "contract",
    "Clock": "store",
    "Conformance": "suite",
    "Faults": "faults",
    "RecordingApp": "app",
    "Request": "app",
    "Sent": "app",
    "Store": "store",
    "report": "report",
}

__all__ = ["Check", "Clock", "Conformance", "Faults", "RecordingApp", "Request", "Sent", "Store", "report"]


if "pytest" in sys.modules:
    # Before any check is imported: a failing assertion then shows what was compared.
    sys.modules["pytest"].register_assert_rewrite("settled.testing.checks", "settled.testing.machine")


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'settled.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"settled.testing.{_HOME[name]}"), name)
