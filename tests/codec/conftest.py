"""The codec by itself: without the types that a Celery app in the same process has it share."""

from __future__ import annotations

import pytest

from settled.codec import tags


@pytest.fixture(autouse=True)
def _no_types_of_a_program():
    writers, readers = tags._writers, tags._readers
    tags.share_types({}, {})
    yield
    tags.share_types(writers, readers)
