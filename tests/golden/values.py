"""What the golden files hold. Imported by the script that writes them and by the tests that read them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

TASK_ID = "d3b07384-d9a0-4c9b-8f6e-1234567890ab"
DONE = "2026-01-02T03:04:05.678901+00:00"

PLAIN: dict[str, object] = {
    "none": None,
    "true": True,
    "int": -7,
    "big_int": 2**80,
    "float": 0.1,
    "large_float": 1e300,
    "text": 'a "quoted" line\nÄ 漢 🎉',
    "empty": {"list": [], "dict": {}, "text": ""},
    "nested": {"rows": [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": []}], "total": 2},
}

TAGGED: dict[str, object] = {
    "datetime_naive": datetime(2026, 1, 2, 3, 4, 5, 678901),  # noqa: DTZ001
    "datetime_utc": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "datetime_offset": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
    "date": date(2026, 1, 2),
    "time": time(3, 4, 5, 678901),
    "decimal": Decimal("123456789.123456789123456789"),
    "uuid": UUID(TASK_ID),
    "bytes_text": "Ä".encode(),
    "bytes_binary": b"\xff\x00\xfe",
    "all_in_one": {"at": date(2026, 1, 2), "raw": [b"\xff", b"a"], "price": Decimal("1.50")},
}

RECORD: dict[str, object] = {
    "status": "SUCCESS",
    "result": {"rows": [1, 2.5, "three"], "total": 3},
    "traceback": None,
    "children": [],
    "date_done": DONE,
    "task_id": TASK_ID,
}


class Shop(Exception):
    """An exception with an `__init__` of its own, as a Celery worker may raise it."""

    def __init__(self, item: str, left: int = 0) -> None:
        super().__init__(item, left)
        self.item = item
        self.left = left


FAILURES: dict[str, Exception] = {
    "value_error": ValueError("no such row", 7),
    "key_error": KeyError("name"),
    "no_args": RuntimeError(),
    "os_error": FileNotFoundError(2, "No such file or directory"),
    "unicode_error": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "own_init": Shop("tea", 3),
    "unstorable_arg": LookupError({"a", "b"} - {"b"}),
}
