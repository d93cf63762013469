"""`settled doctor`: whether the store can be reached, and what waits for it in spools."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from settled.backends import spool
from settled.backends.base import BaseBackend
from settled.backends.outbox import Drained, drain
from settled.backends.spool import DAMAGED, REFUSED, SPOOL, Look
from settled.cli import store, text
from settled.errors import SettledError, StoreError

LABEL = 10
DUE_LIMIT = 1000
SHOWN_REFUSED = 20

NOBODY = "nobody"
"""A task id that is read to see whether the store answers."""


class Reached(NamedTuple):
    """One read of the store: how many seconds it took, or why there was no answer; and the chords due."""

    seconds: float
    error: str | None
    due: int | None


class Spools(NamedTuple):
    """What is in the folder of spools: of this store, what cannot be read and why, and whose the rest is."""

    folder: Path
    looks: list[Look]
    unreadable: dict[Path, str]
    others: Counter[str]


def run(arguments: Namespace) -> int:
    """Say how the store is. Status 0 if there is nothing to do, 1 if it is away or something waits for it."""
    with store.opened(arguments.backend) as backend:
        reached = _reach(backend)
        found = _find(backend)
        drained: dict[Path, Drained] = {}
        if arguments.drain and reached.error is None:
            error = _drain(backend, found.looks, drained)
            reached = reached._replace(error=error)
            found = _find(backend)
        show = _json if arguments.json else _lines
        for line in show(backend, reached, found, drained):
            print(line)
    return 1 if reached.error is not None or found.unreadable or any(map(_waits, found.looks)) else 0


def _waits(look: Look) -> bool:
    """Whether somebody has to do something about it: a live process drains its own spool."""
    return look.path.suffix != SPOOL or not look.alive


# -- looking, draining -----------------------------------------------------------------------------


def _reach(backend: BaseBackend) -> Reached:
    """One try: whoever asks how the store is does not want to wait for it."""
    began = time.perf_counter()
    try:
        backend.do_read((NOBODY,))
        seconds = time.perf_counter() - began
        due = len(backend.do_due_chords(DUE_LIMIT)) if backend.capabilities.chords else None
    except StoreError as exc:
        return Reached(time.perf_counter() - began, str(exc), None)
    return Reached(seconds, None, due)


def _find(backend: BaseBackend) -> Spools:
    """The spools, in the order in which they are to be made."""
    found = Spools(spool.folder(backend.options.get("spool")), [], {}, Counter())
    url = spool.store_of(backend.location)
    for path in spool.found(found.folder):
        ours = spool.is_of(path, url)
        try:
            look = spool.look(path)
        except (SettledError, OSError) as exc:
            if ours:
                found.unreadable[path] = str(exc)
            continue
        if look is not None and ours:
            found.looks.append(look)
        elif look is not None:
            found.others[look.head.url] += 1
    found.looks.sort(key=lambda look: look.head.at)
    return found


def _drain(backend: BaseBackend, looks: Sequence[Look], drained: dict[Path, Drained]) -> str | None:
    """Drain the spools of processes that have ended, into `drained`; why that came to an early end."""
    for look in looks:
        if look.path.suffix == SPOOL:
            try:
                done = drain(backend, look.path)
            except StoreError as exc:
                return str(exc)
            if done is not None:
                drained[look.path] = done
    return None


# -- what is printed -------------------------------------------------------------------------------


def _lines(
    backend: BaseBackend, reached: Reached, found: Spools, drained: dict[Path, Drained]
) -> Iterator[str]:
    yield _field("store", backend.url)
    if reached.error is None:
        yield _field("reached", f"in {reached.seconds * 1000:.2f} ms")
    else:
        yield _field("away", text.one_line(reached.error))
    yield _field("engine", f"{type(backend).__name__}: {', '.join(_abilities(backend))}")
    if reached.due is not None:
        more = " or more" if reached.due >= DUE_LIMIT else ""
        yield _field("chords", f"{reached.due:,}{more} complete and not sent")
    for path, done in drained.items():
        refused = f", {done.refused:,} refused" if done.refused else ""
        yield _field("drained", f"{text.plural(done.made, 'write')} of {path.name}{refused}")
    count = text.plural(len(found.looks) + len(found.unreadable), "file")
    yield _field("spools", f"{count} in {text.one_line(found.folder)}")
    yield from _table(found.looks)
    for path, why in found.unreadable.items():
        yield f"{path.name}  cannot be read: {text.one_line(why)}"
    for url, number in sorted(found.others.items()):
        yield _field("others", f"{text.plural(number, 'file')} of {text.one_line(url)}")


def _abilities(backend: BaseBackend) -> list[str]:
    declared = msgspec.structs.asdict(backend.capabilities)
    said = [name for name, value in declared.items() if value is True]
    return said if declared["expiry"] == "none" else [*said, f"expiry by {declared['expiry']}"]


def _table(looks: Sequence[Look]) -> Iterator[str]:
    if not looks:
        return
    now = time.time()
    rows = [("FILE", "WRITES", "OLDEST", "OF"), *(_cells(look, now) for look in looks)]
    header, *lines = text.columns(rows)
    yield header
    for line, look in zip(lines, looks, strict=True):
        yield line
        yield from (f"    {damage}" for damage in look.damage)
        if look.path.suffix == REFUSED:
            yield from _refused(look)


def _cells(look: Look, now: float) -> tuple[str, str, str, str]:
    process = f"process {look.head.pid} on {text.one_line(look.head.host)}"
    if look.path.suffix == REFUSED:
        said = "what the store refused"
    elif look.path.suffix == DAMAGED:
        said = f"{process}: damaged"
    else:
        said = f"{process}, which {'lives' if look.alive else 'has ended'}"
    oldest = "" if look.oldest is None else text.age(now - look.oldest)
    return look.path.name, f"{look.writes:,}", oldest, said


def _refused(look: Look) -> Iterator[str]:
    for number, kept in enumerate(spool.writes_in(look.path)):
        if number == SHOWN_REFUSED:
            yield f"    ... and {look.writes - number:,} more"
            return
        yield f"    {text.one_line(kept.write.task_id)}  {text.one_line(kept.refused)}"


def _json(
    backend: BaseBackend, reached: Reached, found: Spools, drained: dict[Path, Drained]
) -> Iterator[str]:
    yield text.json_line(
        {
            "store": backend.url,
            "reached": reached.error is None,
            "seconds": reached.seconds,
            "error": reached.error,
            "engine": type(backend).__name__,
            "capabilities": msgspec.structs.asdict(backend.capabilities),
            "chords_due": reached.due,
            "drained": [{"file": path, **done._asdict()} for path, done in drained.items()],
            "folder": found.folder,
            "spools": [_fields(look) for look in found.looks],
            "unreadable": [{"file": path, "error": why} for path, why in found.unreadable.items()],
            "others": found.others,
        }
    )


def _fields(look: Look) -> dict[str, object]:
    refused = spool.writes_in(look.path) if look.path.suffix == REFUSED else ()
    return {
        "file": look.path,
        "kind": look.path.suffix[1:],
        "writes": look.writes,
        "oldest": look.oldest,
        "pid": look.head.pid,
        "host": look.head.host,
        "alive": look.alive,
        "damage": [str(damage) for damage in look.damage],
        "refused": [{"task_id": kept.write.task_id, "reason": kept.refused} for kept in refused],
    }


def _field(label: str, value: object) -> str:
    return f"{label:<{LABEL}}{value}"
