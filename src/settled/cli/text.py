"""How things look on a terminal: times, sizes, reasons, columns. Pure text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

SHORT_ID = 12

_DIGEST = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PERIODS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))


def plural(count: int, noun: str) -> str:
    """`1 call`, `2,000 calls`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A length of time in five characters or so: `0.25s`, `12.3s`, `4m07s`, `3h20m`."""
    if seconds < 10:
        return f"{seconds:.2f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 48 else f"{hours // 24}d{hours % 24:02}h"


def remaining(seconds: float) -> str:
    """A length of time that is a guess: no fractions."""
    return f"{max(1, round(seconds))}s" if seconds < 59.5 else duration(seconds)


def age(seconds: float) -> str:
    """How long ago, in the largest unit that fits: `now`, `12s ago`, `3h ago`."""
    if seconds < 1:
        return "now"
    for length, unit in _PERIODS:
        if seconds >= length:
            return f"{int(seconds / length)}{unit} ago"
    return f"{int(seconds)}s ago"


def moment(timestamp: float) -> str:
    """A point in time, in the local zone with its offset."""
    return datetime.fromtimestamp(timestamp, UTC).astimezone().isoformat(sep=" ", timespec="milliseconds")


def size(count: int) -> str:
    """Bytes: `512 B`, `1.5 KiB`, ..."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def short_id(task_id: str) -> str:
    """A digest or UUID by its beginning, which `settled show` accepts; any other id whole."""
    return task_id[:SHORT_ID] if _DIGEST.fullmatch(task_id) else one_line(task_id)


def one_line(text: object) -> str:
    """Text that may hold anything, on one line and without control characters."""
    return _CONTROL.sub(" ", str(text)).strip()


def clip(text: str, width: int) -> str:
    """At most `width` characters, the end replaced by an ellipsis where there are more."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def clip_left(text: str, width: int) -> str:
    """At most `width` characters, the beginning replaced: the end of a path says more."""
    return text if len(text) <= width else "…" + text[len(text) - max(width - 1, 0) :]


def reason(meta: Mapping[str, object]) -> str:
    """Why a task failed: its traceback's last line (before notes), or what the record says of the error."""
    error = meta.get("result")
    lines = [line for line in str(meta.get("traceback") or "").splitlines() if line[:1].strip("+ ")]
    named = str(error.get("exc_type")) if isinstance(error, Mapping) else ""
    for line in reversed(lines):
        if line.partition(":")[0].rpartition(".")[2] == named:
            return one_line(line)
    if lines:
        return one_line(lines[-1])
    if isinstance(error, Mapping):
        shown = error.get("exc_message")
        parts = shown if isinstance(shown, (list, tuple)) else [shown]
        said = ", ".join(str(part) for part in parts if part is not None)
        return one_line(
            f"{error.get('exc_type', 'error')}: {said}" if said else error.get("exc_type", "error")
        )
    return one_line(error)


def call(meta: Mapping[str, object], name: str | None = None) -> str:
    """`module.function('argument')`, as far as the record says."""
    name = str(meta.get("name") or name or "")
    args, kwargs = meta.get("args"), meta.get("kwargs")
    if not name or (args is None and kwargs is None):
        return one_line(name)
    shown = [repr(each) for each in args] if isinstance(args, Sequence) and not isinstance(args, str) else []
    if isinstance(kwargs, Mapping):
        shown += [f"{key}={value!r}" for key, value in kwargs.items()]
    return one_line(f"{name}({', '.join(shown)})")


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with every column but the last as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1:] = [0]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def json_line(fields: Mapping[str, object]) -> str:
    """One JSON object on one line, in ASCII; what JSON cannot hold is shown as text."""
    return json.dumps(fields, default=str, separators=(",", ":"))
