"""What `settled map` says when it is through: results on standard output, the rest on standard error."""

from __future__ import annotations

import json
import pprint
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence

from settled.backends.base import BaseBackend
from settled.cli import store, text
from settled.cli.feeding import Feed
from settled.cli.progress import Tally
from settled.record import Meta, holds_exception
from settled.states import SUCCESS

SHOWN_FAILURES = 10

READ_BATCH = 500

WIDEST_INPUT = 60


def failures(backend: BaseBackend, feed: Feed, inputs: Sequence[str], given: str | None) -> Iterator[str]:
    """The first failures in the order of the inputs, each with its reason, and where the others are."""
    places = sorted(feed.failed)
    shown = places[:SHOWN_FAILURES]
    metas = backend.read_many([feed.task_ids[place] for place in shown])
    rows = []
    for place in shown:
        task_id = feed.task_ids[place]
        reason = feed.unstored.get(place) or text.reason(metas.get(task_id, {}))
        name = text.clip_left(text.one_line(inputs[place]), WIDEST_INPUT)
        rows.append((f"  {text.short_id(task_id)}", name, reason))
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    for line in text.columns(rows) if rows else ():
        yield text.clip(line, width) if width else line
    option = store.shown_option(given)
    if len(places) > len(shown):
        yield f"  ... and {len(places) - len(shown):,} more: settled ls --state FAILURE{option}"
    elif rows:
        yield f"  the whole traceback: settled show {text.short_id(feed.task_ids[shown[0]])}{option}"


def summary(tally: Tally) -> str:
    """One line: how many succeeded and failed, how many of them now."""
    succeeded = tally.done - tally.failed
    said = f"{text.plural(tally.total, 'call')}: {succeeded:,} succeeded, {tally.failed:,} failed"
    if tally.done < tally.total:
        said += f", {tally.total - tally.done:,} left"
    ran = f"{tally.done - tally.kept:,} run in {text.duration(tally.elapsed)}"
    return f"{said} ({ran}, {tally.kept:,} done before)" if tally.kept else f"{said} ({ran})"


def results(backend: BaseBackend, feed: Feed, inputs: Sequence[str], as_json: bool) -> Iterator[str]:
    """A line for each input, in order: the successes, or with `as_json` all of them."""
    for start in range(0, len(inputs), READ_BATCH):
        task_ids = feed.task_ids[start : start + READ_BATCH]
        metas = backend.read_many(task_ids)
        for place, task_id in enumerate(task_ids, start):
            meta = metas.get(task_id, {"status": "UNKNOWN", "result": feed.unstored.get(place)})
            if as_json:
                yield text.json_line({"input": inputs[place], "task_id": task_id, **_outcome(meta)})
            elif meta["status"] == SUCCESS:
                yield f"{text.one_line(inputs[place])}\t{_cell(meta.get('result'))}"


def reduced(task_id: str, meta: Meta, as_json: bool) -> str:
    """The value of the reduce."""
    if as_json:
        return text.json_line({"reduce": meta.get("name"), "task_id": task_id, **_outcome(meta)})
    value = meta.get("result")
    return value if isinstance(value, str) else pprint.pformat(value, sort_dicts=False)


def _outcome(meta: Mapping[str, object]) -> dict[str, object]:
    if holds_exception(meta):
        return {"state": meta["status"], "reason": text.reason(meta)}
    return {"state": meta["status"], "value": meta.get("result")}


def _cell(value: object) -> str:
    """A str as it is where that is one cell of one line; anything else as JSON."""
    if isinstance(value, str) and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False, default=repr)
