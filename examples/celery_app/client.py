"""What a program does with the results of `tasks`. Each step checks what came back, and says it in a line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError
from tasks import BadPage, Counts, count_later, count_words, follow, longest, merge

import settled
from settled.integrations.celery import handle

TIMEOUT = 30.0
"""Seconds that a step may wait for one result; a worker that is there needs a fraction of one."""


class Wrong(Exception):
    """What came back is not what should have."""


class Pages(NamedTuple):
    """The input: real pages by their folder, and a folder for pages of our own."""

    folders: dict[str, list[str]]
    scratch: Path

    @property
    def all(self) -> list[str]:
        return [path for paths in self.folders.values() for path in paths]

    def write(self, name: str, content: bytes) -> str:
        path = self.scratch / name
        path.write_bytes(content)
        return str(path)


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise Wrong(f"{found!r:.200} came back, not {wanted!r:.200}")


def counted(paths: list[str]) -> Counts:
    """What the workers should find, found here: a task can be called like the function that it is."""
    return merge([count_words(path) for path in paths])


def say(counts: Counts) -> str:
    return f"{sum(counts.values()):,} words, {len(counts):,} different ones"


# -- the canvas ----------------------------------------------------------------------------------


def a_group(pages: Pages) -> str:
    parts = group(count_words.s(path) for path in pages.all).delay().get(timeout=TIMEOUT)
    expect(parts, [count_words(path) for path in pages.all])
    return f"{len(parts)} pages counted, each by a task of its own"


def a_chain(pages: Pages) -> str:
    page = pages.all[0]
    words = chain(count_words.s(page), longest.s(3)).delay().get(timeout=TIMEOUT)
    expect(words, longest(count_words(page), 3))
    return f"the longest words of {Path(page).name}: {', '.join(words)}"


def a_chord(pages: Pages) -> str:
    total = chord((count_words.s(path) for path in pages.all), merge.s()).delay().get(timeout=TIMEOUT)
    expect(total, counted(pages.all))
    return f"all pages: {say(total)}"


def nested_chords(pages: Pages) -> str:
    by_folder = [
        chord([count_words.s(path) for path in paths], merge.s()) for paths in pages.folders.values()
    ]
    total = chord(by_folder, merge.s()).delay().get(timeout=TIMEOUT)
    expect(total, counted(pages.all))
    return f"a chord for each of {len(by_folder)} folders, and one of these: {say(total)}"


# -- what goes wrong -----------------------------------------------------------------------------


def retries(pages: Pages) -> str:
    path = pages.scratch / "later.md"
    result = count_later.delay(str(path))
    until(lambda: result.state == "RETRY", "the first retry")
    pages.write(path.name, b"here at last")
    expect(result.get(timeout=TIMEOUT), {"here": 1, "at": 1, "last": 1})
    return "a page that was not there yet: RETRY, then counted"


def a_failure(pages: Pages) -> str:
    path = pages.write("bad.md", b"fine\nnot \xff fine\n")
    try:
        count_words.delay(path).get(timeout=TIMEOUT)
    except BadPage as exc:
        expect((exc.path, exc.line), (path, 2))
        expect(type(exc.__cause__), UnicodeDecodeError)
        expect(exc.__cause__.object, b"not \xff fine")
        return f"BadPage(line={exc.line}), caused by {type(exc.__cause__).__name__}: {exc.__cause__.reason}"
    raise Wrong("a page that is no text was counted")


def a_failed_chord(pages: Pages) -> str:
    bad = count_words.s(pages.write("bad.md", b"\xff")).set(task_id="the-bad-page")
    body = chord([*(count_words.s(path) for path in pages.all[:3]), bad], merge.s()).delay()
    error = body.get(timeout=TIMEOUT, propagate=False)  # get() alone raises what the part has raised
    expect(type(error), ChordError)
    expect("the-bad-page" in str(error), True)
    expect((type(error.__cause__), error.__cause__.line), (BadPage, 1))
    return f"ChordError, caused by {type(error.__cause__).__name__}(line={error.__cause__.line})"


def progress_and_revoke(pages: Pages) -> str:
    path = Path(pages.write("growing.md", b""))
    result = follow.delay(str(path))
    for words, text in enumerate(["one", "two", "three"], start=1):
        with path.open("a") as page:
            page.write(f"{text}\n")
        until(lambda words=words: result.info == {"words": words}, f"word to that page has {words} words")
    expect(result.state, "PROGRESS")
    result.revoke(terminate=True)
    try:
        result.get(timeout=TIMEOUT)
    except TaskRevokedError:
        expect(result.state, "REVOKED")
        return "3 words, told as they were written; then terminated: REVOKED"
    raise Wrong("a task that never ends has ended")


def until(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not look():
        if time.monotonic() > deadline:
            raise Wrong(f"{what} did not come within {TIMEOUT:g} s")
        time.sleep(0.01)


# -- asyncio -------------------------------------------------------------------------------------


def an_await(pages: Pages) -> str:
    return asyncio.run(awaited(pages))


async def awaited(pages: Pages) -> str:
    async with asyncio.timeout(TIMEOUT):
        one = await handle(count_words.delay(pages.all[0]))
        expect(one, count_words(pages.all[0]))

        sent = [handle(count_words.delay(path)) for path in pages.all]
        expect(await settled.gather(*sent), [count_words(path) for path in pages.all])

        of = {handle(count_words.delay(path)): path for path in pages.all}
        async for each in settled.as_completed(of):
            expect(await each, count_words(of.pop(each)))
        expect(of, {})
    return f"one, {len(sent)} by gather, {len(sent)} by as_completed; no thread waited"


STEPS: dict[str, Callable[[Pages], str]] = {
    "group": a_group,
    "chain": a_chain,
    "chord": a_chord,
    "nested chords": nested_chords,
    "retries": retries,
    "failure": a_failure,
    "failed chord": a_failed_chord,
    "progress, revoke": progress_and_revoke,
    "await": an_await,
}


def report(pages: Pages, steps: dict[str, Callable[[Pages], str]] = STEPS) -> bool:
    """Take each step and print its line; whether all was as it should be."""
    right = True
    for name, step in steps.items():
        try:
            line = f"ok     {name:<17} {step(pages)}"
        except Exception as exc:
            right = False
            line = f"WRONG  {name:<17} {type(exc).__name__}: {exc}"
        print(line, flush=True)
    return right
