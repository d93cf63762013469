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
Needs pytest and hypothesis: `pip install 'settled[testing]'`.
"""

from __future__ import annotations

import pytest

# Before the checks are imported: their assertions then show what was compared.
pytest.register_assert_rewrite("settled.testing.checks", "settled.testing.app", "settled.testing.threads")

from settled.testing.app import RecordingApp, Request, Sent  # noqa: E402
from settled.testing.contract import Check  # noqa: E402
from settled.testing.faults import Faults  # noqa: E402
from settled.testing.report import report  # noqa: E402
from settled.testing.store import Clock, Store  # noqa: E402
from settled.testing.suite import Conformance  # noqa: E402

__all__ = ["Check", "Clock", "Conformance", "Faults", "RecordingApp", "Request", "Sent", "Store", "report"]
