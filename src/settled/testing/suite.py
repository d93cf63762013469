"""The kit as a pytest class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from settled.testing.checks import CONTRACT
from settled.testing.contract import Check
from settled.testing.store import Store


class Conformance:
    """Subclass it as `class TestMyEngine(Conformance): store_class = MyStore`: one test for each check.

    Which tests there are follows from the engine's declared capabilities alone: none is skipped.
    """

    store_class: ClassVar[type[Store]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "check" in metafunc.fixturenames:
            checks = CONTRACT.for_engine(self.store_class.engine.capabilities)
            metafunc.parametrize("check", [pytest.param(each, id=each.id) for each in checks])

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with self.store_class(tmp_path) as store:
            yield store

    def test_contract(self, check: Check, store: Store) -> None:
        check.run(store)
