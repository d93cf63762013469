"""Which calls are the same call."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settled import Executor, call
from settled.errors import ConfigurationError
from settled.executor.digest import digest_of, name_of
from tests.executor import work


@dataclass(frozen=True)
class Point:
    x: int
    tags: frozenset = frozenset()


class Colour(Enum):
    RED = 1
    BLUE = 2


def of(*args, fn=work.double, **kwargs):
    return digest_of(fn, args, kwargs)


VALUES = [
    None,
    True,
    1,
    1.0,
    "1",
    b"1",
    10**5000,
    -0.0,
    float("inf"),
    1j,
    (),
    [],
    {},
    set(),
    (1,),
    [1],
    {1},
    frozenset({1}),
    {"a": 1},
    {"a": "1"},
    ["a", ["b"]],
    ["a", "b"],
    [["a"], "b"],
    ("ab",),
    ("a", "b"),
    [1, 1],
    [[1], 1],
    [[1, 1]],
    date(2026, 1, 2),
    datetime(2026, 1, 2, tzinfo=UTC),
    Decimal("1"),
    Fraction(1, 2),
    UUID(int=1),
    Path("/a"),
    Path("/b"),
    Point(1),
    Point(2),
    Point(1, frozenset("ab")),
    Colour.RED,
    Colour.BLUE,
    OrderedDict(a=1),
    defaultdict(list, a=1),
    range(3),
    slice(1, 2),
    bytearray(b"1"),
    len,
    math.sin,
    str,
    int,
    "abc".upper,
    "abd".upper,
    work.double,
    work.add,
    work.Scaler(2),
    work.Scaler(3),
    work.Scaler,
    "\ud800",
    "é",
]


def test_different_arguments_have_different_digests():
    digests = [of(value) for value in VALUES]
    assert len(set(digests)) == len(VALUES)
    assert all(len(digest) == 32 for digest in digests)


PROGRAM = textwrap.dedent("""
    from tests.executor.test_identity import *
    sets = [{"ape", "bee"}, {"b": 1, "a": {"z", "y"}}, Point(1, frozenset("abcdef")), {("a", 1), ("b", 2)}]
    partial = functools.partial(work.add, y={"p", "q"})
    functions = [work.double, partial, work.Scaler(3), work.Scaler(3).scale, sorted]
    print([of(value) for value in VALUES + sets] + [of(1, fn=fn) for fn in functions])
""")


def test_a_digest_is_the_same_in_every_process():
    printed = set()
    for seed in ("1", "2", "77"):
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, check=True
        )
        printed.add(run.stdout)
    assert len(printed) == 1


def test_the_order_of_a_dict_and_of_keywords_does_not_count():
    assert of({"a": 1, "b": [2]}) == of({"b": [2], "a": 1})
    assert of(a=1, b=2) == of(b=2, a=1)
    assert of(1, 2) != of(2, 1)
    assert of((1, 2)) != of(1, 2)
    assert of(y=1) != of({"y": 1})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@given(plain, plain)
def test_equal_digests_mean_equal_values(one, other):
    same = repr(one) == repr(other)
    assert (of(one) == of(other)) is same or one == other


def test_values_that_contain_themselves_have_a_digest():
    knot: list[object] = [1]
    knot.append(knot)
    other: list[object] = [1, [1]]
    assert of(knot) == of(knot) != of(other)
    table: dict[str, object] = {}
    table["self"] = table
    assert of(table) == of(table)


def functions_of_one_name():
    def f(x):
        return x

    first = f

    def f(x):
        return x + 0

    return first, f


def test_the_source_counts_and_the_name_alone_does_not():
    first, second = functions_of_one_name()
    assert first.__qualname__ == second.__qualname__
    assert of(1, fn=first) != of(1, fn=second)
    assert of(1, fn=first) == of(1, fn=functions_of_one_name()[0])


def test_lambdas_on_one_line_differ():
    one, two, again = (lambda x: x + 1), (lambda x: x + 2), (lambda x: x + 1)
    assert of(1, fn=one) == of(1, fn=again) != of(1, fn=two)


def closing_over(n, *, default=0):
    def inner(x, extra=default):
        return x + n + extra

    return inner


def test_closures_and_defaults_count():
    assert of(1, fn=closing_over(1)) == of(1, fn=closing_over(1))
    assert (
        len({of(1, fn=closing_over(1)), of(1, fn=closing_over(2)), of(1, fn=closing_over(1, default=5))}) == 3
    )


def twice(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args), fn(*args)

    return wrapper


def test_what_a_decorator_wraps_counts_and_so_does_the_decorator():
    assert len({of(1, fn=twice(work.double)), of(1, fn=twice(work.add)), of(1, fn=work.double)}) == 3
    assert of(1, fn=twice(work.double)) == of(1, fn=twice(work.double))


def test_functions_without_source_go_by_their_bytecode():
    def made(text):
        names = {"__name__": "made"}
        exec(text, names)
        return names["f"]

    assert (
        of(fn=made("def f(): return 1"))
        == of(fn=made("def f(): return 1"))
        != of(fn=made("def f(): return 2"))
    )
    nested = "def f(): return [x for x in {1, 'a', 'b'} if x == %d]"
    assert of(fn=made(nested % 1)) != of(fn=made(nested % 2))


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (work.double, "tests.executor.work.double"),
        (functools.partial(functools.partial(work.double), 1), "tests.executor.work.double"),
        (work.Scaler(1), "tests.executor.work.Scaler"),
        (work.Scaler(1).scale, "tests.executor.work.Scaler.scale"),
        (len, "builtins.len"),
        ("a".upper, "builtins.str.upper"),
        (str, "builtins.str"),
    ],
)
def test_the_name_of_a_call(fn, name):
    assert call(fn).name == name_of(fn) == name


@pytest.mark.parametrize("make", [lambda: (x for x in ()), lambda: sys, threading.Lock])
def test_what_has_no_stable_form_asks_for_a_key(make):
    value = make()
    with pytest.raises(ConfigurationError, match=r"(generator|module|lock).*key="):
        of(value)
    assert call(work.double, value, key="given").task_id() == "given"


def test_every_kind_of_callable_has_a_digest_of_its_own():
    kinds = [
        work.double,
        functools.partial(work.double),
        functools.partial(work.add, y=1),
        work.Scaler,
        sorted,
    ]
    kinds += [
        work.Scaler(2),
        work.Scaler(3),
        work.Scaler(2).scale,
        work.Scaler(3).scale,
        "a".upper,
        "b".upper,
    ]
    assert len({of(1, fn=kind) for kind in kinds}) == len(kinds)
    assert of(1, fn=work.Scaler(2).scale) == of(1, fn=work.Scaler(2).scale)


def test_very_deep_arguments_ask_for_a_key():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ConfigurationError, match="key="):
        of(deep)


def test_finished_calls_are_not_done_again(url, log):
    for _ in range(2):
        with Executor(lambda: ThreadPoolExecutor(2), url) as executor:
            assert list(executor.map(work.logged, [log] * 20, range(20))) == list(range(0, 40, 2))
            assert executor.submit(work.logged, log, 3).result(20) == 6
    assert len(work.runs(log)) == 20


def test_a_stored_failure_is_not_done_again_unless_more_retries_allow_it(url, log):
    with Executor(lambda: ThreadPoolExecutor(1), url, backoff=work.no_pause) as executor:
        for _ in range(2):
            with pytest.raises(ConnectionError, match="run 1"):
                executor.submit(work.fail_until, log, 2).result(20)
        with pytest.raises(ConnectionError, match="run 2"):
            executor.submit(work.fail_until, log, 2, retries=1).result(20)
        assert executor.submit(work.fail_until, log, 2, retries=5).result(20) == 3
        assert executor.submit(work.fail_until, log, 2).result(20) == 3
    assert len(work.runs(log)) == 3


def test_without_a_key_every_call_runs(threads, log):
    handles = [threads.submit(work.logged, log, 1, key=None) for _ in range(3)]
    assert [handle.result(20) for handle in handles] == [2, 2, 2]
    assert len(work.runs(log)) == len({handle.id for handle in handles}) == 3


def test_an_executor_can_be_told_that_nothing_is_idempotent(url, log):
    with Executor(lambda: ThreadPoolExecutor(2), url, idempotent=False) as executor:
        assert [executor.submit(work.logged, log, 1).result(20) for _ in range(2)] == [2, 2]
        assert [executor.submit(work.logged, log, 1, key="same").result(20) for _ in range(2)] == [2, 2]
    assert len(work.runs(log)) == 3


def test_a_forgotten_result_is_made_again(threads, log):
    handle = threads.submit(work.logged, log, 1)
    assert handle.result(20) == 2
    handle.forget()
    assert threads.submit(work.logged, log, 1, timeout=50).result(20) == 2
    assert len(work.runs(log)) == 2


def test_expires_is_given_to_the_record(threads):
    threads.submit(work.double, 1, key="kept", expires=0).result(20)
    threads.submit(work.double, 1, key="brief", expires=1000).result(20)
    rows = {row.task_id: row for row in threads.backend.query()}
    assert rows["kept"].expires is None
    assert rows["brief"].expires - rows["brief"].done == pytest.approx(1000, abs=5)
    assert (rows["brief"].name, rows["brief"].attempt) == ("tests.executor.work.double", 0)
