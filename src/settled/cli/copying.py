"""`settled copy SOURCE TARGET`: what Celery's own backends have stored, into a store of settled's."""

from __future__ import annotations

import os
import shutil
import sys
import time
from argparse import Namespace
from contextlib import closing

from settled import codec
from settled.app import App
from settled.backends.base import BaseBackend
from settled.cli import sources, store, text
from settled.cli.functions import make_importable
from settled.cli.landing import Fate, Landing, Tally
from settled.cli.sources import Options, Source
from settled.errors import ConfigurationError
from settled.url import parse

SAFE = frozenset({"json", "msgpack"})
"""Serializers that are read without being asked: to read them runs nothing."""

SHOWN = 20
"""Records that could not be copied which are named; `--json` names more."""

LONGEST_ID = 80
LONGEST_REASON = 300

REDRAW = 0.1
"""Seconds between two pictures of how far it is."""


def run(arguments: Namespace) -> int:
    """Copy, and say what became of it. Status 1 if something could not be copied."""
    accept = SAFE | (codec.accept_set(arguments.accept) if arguments.accept else frozenset())
    options = Options(
        accept, arguments.prefix, arguments.serializer, arguments.task_table, arguments.group_table
    )
    if "pickle" in accept:
        make_importable(os.getcwd())  # values may be of classes of the project in whose folder this runs
    tally = Tally()
    began = time.monotonic()
    with closing(sources.opened(arguments.source, options)) as source:
        target = _target(arguments.target, accept)
        path = getattr(target, "path", None)
        _check_apart(source.path, path, target.url)
        empty = isinstance(path, str) and not os.path.exists(path)
        with target as backend:
            _copy(source, Landing(backend, tally, arguments.expires, arguments.dry_run, empty), tally)
        seconds = time.monotonic() - began
        if arguments.json:
            print(_json(tally, source, target.url, seconds, arguments))
        else:
            _report(tally, source, arguments.dry_run)
    return 1 if tally.not_copied else 0


def _target(url: str, accept: frozenset[str]) -> BaseBackend:
    """The store to copy to, made if it is not there. ConfigurationError for one that nobody else could see."""
    app = App(store.url_of(url), result_expires=0, result_accept_content=sorted(accept))
    if not app.backend.capabilities.shared:
        raise ConfigurationError(
            f"{app.backend.url} is seen by this process only: copy to sqlite:///results.db, or to redis://"
        )
    return app.backend


def _check_apart(source: str | None, target: object, url: str) -> None:
    """ConfigurationError if both are one file: a source is not written to."""
    if (
        source is not None
        and isinstance(target, str)
        and os.path.realpath(source) == os.path.realpath(target)
    ):
        raise ConfigurationError(f"{url} is the source itself, which is not written to: copy to another file")


def _copy(source: Source, landing: Landing, tally: Tally) -> None:
    try:
        _land_all(source, landing, tally)
    except KeyboardInterrupt:
        _note(f"interrupted; {_copied(tally)}; run it again to go on")
        raise


def _land_all(source: Source, landing: Landing, tally: Tally) -> None:
    shown = sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    drawn = 0.0
    try:
        for batch in source.batches():
            landing.land(batch)
            if shown and time.monotonic() - drawn > REDRAW:
                drawn = time.monotonic()
                _draw(f"{tally.seen:,} read, {_copied(tally)}")
    finally:
        if drawn:
            _draw("")


def _draw(line: str) -> None:
    print(
        f"\r{text.clip(line, shutil.get_terminal_size().columns - 1)}\x1b[K",
        end="",
        file=sys.stderr,
        flush=True,
    )


# -- what is printed -------------------------------------------------------------------------------


def _copied(tally: Tally) -> str:
    tasks, groups = tally.tasks[Fate.COPIED], tally.groups[Fate.COPIED]
    return f"{text.plural(tasks, 'result')} and {text.plural(groups, 'group')} copied"


def _report(tally: Tally, source: Source, dry: bool) -> None:
    for lost in tally.lost[:SHOWN]:
        shown = text.clip(text.one_line(lost.id), LONGEST_ID)
        what = "group" if lost.group else "task"
        _note(f"{what} {shown}: {text.clip(text.one_line(lost.reason), LONGEST_REASON)}")
    if tally.not_copied > SHOWN:
        _note(f"... and {tally.not_copied - SHOWN:,} more")
    if source.chords:
        _note(
            f"{text.plural(source.chords, 'chord')} under way there, which cannot be copied: let its workers finish, "
            "then copy again"
        )
    print(_summary(tally, dry))


def _note(line: str) -> None:
    shown = line.encode("utf-8", "backslashreplace").decode()  # an id may be anything
    print(f"settled copy: {shown}", file=sys.stderr)


def _summary(tally: Tally, dry: bool) -> str:
    tasks, groups = tally.tasks[Fate.COPIED], tally.groups[Fate.COPIED]
    said = [
        f"{'would copy' if dry else 'copied'} {text.plural(tasks, 'result')} and {text.plural(groups, 'group')}"
    ]
    beside = {
        "there already": tally.both(Fate.THERE),
        "kept as the target has them": tally.both(Fate.KEPT),
        "expired": tally.both(Fate.EXPIRED),
    }
    said += [f"{count:,} {what}" for what, count in beside.items() if count]
    if tally.refused:
        said.append(f"{tally.refused:,} refused (pickle or yaml: see --accept)")
    if tally.unfit:
        said.append(f"{tally.unfit:,} not storable")
    return "; ".join([*said, f"{tally.damaged:,} damaged"])


def _json(tally: Tally, source: Source, url: str, seconds: float, arguments: Namespace) -> str:
    counts = {fate.value: {"results": tally.tasks[fate], "groups": tally.groups[fate]} for fate in Fate}
    return text.json_line(
        {
            "source": _redacted(arguments.source),
            "target": url,
            "dry_run": arguments.dry_run,
            "seconds": seconds,
            **counts,
            "refused": tally.refused,
            "damaged": tally.damaged,
            "unfit": tally.unfit,
            "chords": source.chords,
            "lost": [lost._asdict() for lost in tally.lost],
        }
    )


def _redacted(url: str) -> str:
    """The source's URL without secrets; a folder's is none that could have any."""
    return url if url.lower().startswith("file:") else parse(url).redacted()
