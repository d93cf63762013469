"""Exceptions stored and rebuilt: whole, bounded, and safe from what a store may say."""

from __future__ import annotations

import builtins
import json
import sys
import threading
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from celery import Celery
from celery.backends.base import Backend
from hypothesis import given
from hypothesis import strategies as st

from settled import codec, failure
from settled.errors import EncodeError, RemoteError, WorkerLost
from settled.failure import Limits, RemoteTraceback, StandIn, from_wire, show_remote, text_of, to_wire
from tests.golden.values import FAILURES, Shop

ACCEPT = frozenset({"json", "msgpack"})
GOLDEN = Path(__file__).parent / "golden" / "payloads"


def through(data: object, serializer: str = "json") -> object:
    return codec.decode(codec.encode(data, serializer), ACCEPT)


def rebuilt(exc: BaseException, serializer: str = "json") -> Exception:
    return from_wire(through(to_wire(exc), serializer))


def raised(exc: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise exc from cause
    except BaseException as caught:
        return caught


# -- classes of users ----------------------------------------------------------------------------


class KeywordOnly(Exception):
    def __init__(self, *, code: int, note: str = "") -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.note = note


@dataclass(frozen=True)
class Refused(Exception):
    account: str
    cents: int
    at: datetime


class Slotted(OSError):
    __slots__ = ("__secret", "host", "unset")

    def __init__(self, *, host: str) -> None:
        super().__init__(111, "Connection refused", "socket")
        self.host = host
        self.__secret = "s"

    @property
    def secret(self) -> str:
        return self.__secret


class Guarded(OSError):
    """Whatever of this class runs while it is stored or rebuilt fails the test."""

    def __new__(cls, token: object) -> Guarded:
        assert token is Guarded
        return super().__new__(cls, 2, "No such file")

    def __init__(self, token: object) -> None:
        assert token is Guarded
        BaseException.__dict__["__dict__"].__get__(self)["size"] = 3

    def __setattr__(self, name: str, value: object) -> None:
        raise AssertionError(name)

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(name)

    @property
    def errno(self) -> int:
        raise AssertionError("errno")


class Batch(ExceptionGroup):
    def __new__(cls, message: str, members: list[Exception], batch: int) -> Batch:
        made = super().__new__(cls, message, members)
        made.batch = batch
        return made


class Interrupts(BaseExceptionGroup):
    pass


class Outer:
    class Inner(ValueError):
        pass


class Stop(SystemExit):
    pass


# -- whole ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize(
    "exc",
    [
        ValueError("no such row", 7, None, 2.5, {"a": [1]}, b"\xff", datetime(2026, 1, 2, tzinfo=UTC)),
        RuntimeError(),
        KeyError("name"),
        FileNotFoundError(2, "No such file or directory", "a", None, "b"),
        BlockingIOError(11, "busy", 5),
        UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "invalid start byte"),
        UnicodeEncodeError("utf-8", "a\ud800", 1, 2, "surrogates not allowed"),
        UnicodeTranslateError("äöü", 0, 2, "not here"),
        UnicodeError("plain"),
        StopIteration(5),
        ImportError("no", name="n", path="p"),
        ModuleNotFoundError("no", name="n"),
        AttributeError("no", name="n", obj=[1]),
        NameError("no", name="n"),
        SyntaxError("bad", ("file", 1, 3, "a b\n", 1, 4)),
        MemoryError("much"),
        Outer.Inner("nested class"),
        WorkerLost("gone"),
        json.JSONDecodeError("Expecting value", "{", 1),
        KeywordOnly(code=7, note="seven"),
        Refused("a", 150, datetime(2026, 1, 2, tzinfo=UTC)),
        Slotted(host="h"),
        Shop("tea", left=3),
    ],
    ids=lambda exc: exc if isinstance(exc, str) else type(exc).__qualname__,
)
def test_comes_back_as_it_was(exc, serializer):
    back = rebuilt(exc, serializer)
    assert type(back) is type(exc)
    assert back.args == exc.args
    assert str(back) == str(exc)
    assert vars(back) == vars(exc)
    for name in dir(type(exc)):
        if not name.startswith("__") and not callable(getattr(type(exc), name)):
            assert getattr(back, name, "unset") == getattr(exc, name, "unset")
    assert to_wire(back) == to_wire(exc)


def test_no_code_of_the_class_runs():
    wire = to_wire(Guarded(Guarded), "Traceback ...")
    assert wire["settled"]["attributes"] == {"errno": 2, "strerror": "No such file", "size": 3}
    back = from_wire(through(wire))
    assert type(back) is Guarded
    assert to_wire(show_remote(back)) == wire
    assert text_of(back).startswith("Traceback")


def test_a_field_that_was_changed_comes_back_changed():
    exc = UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "invalid start byte")
    exc.start, exc.end, exc.reason = 0, 1, "why not"
    assert str(rebuilt(exc)) == str(exc)


def chain() -> Exception:
    first = raised(KeyError("first"))
    first.add_note("a note")
    second = raised(KeywordOnly(code=2), first)
    try:
        try:
            raise second
        finally:
            raise TypeError("third")
    except TypeError as third:
        third.add_note("one")
        third.add_note("two")
        return third


def same(a: BaseException | None, b: BaseException | None) -> bool:
    if a is None or b is None:
        return a is b
    grouped = isinstance(a, BaseExceptionGroup)
    left, right = [
        (type(exc), exc.args[:1] + exc.args[1 + grouped :], vars(exc).get("__notes__")) for exc in (a, b)
    ]
    return (
        left == right
        and a.__suppress_context__ == b.__suppress_context__
        and same(a.__cause__, b.__cause__)
        and same(*(None if exc.__suppress_context__ else exc.__context__ for exc in (a, b)))
        and all(map(same, getattr(a, "exceptions", ()), getattr(b, "exceptions", ())))
    )


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_cause_context_and_notes_come_back(serializer):
    exc = chain()
    back = rebuilt(exc, serializer)
    assert same(back, exc)
    assert back.__context__.__cause__.__notes__ == ["a note"]
    assert "raise exc from cause" in back.__context__.remote_traceback
    assert not hasattr(back, "remote_traceback")


def test_a_suppressed_context_is_left_out():
    exc = raised(TypeError("shown"))
    exc.__context__ = ValueError("hidden")
    exc.__suppress_context__ = True
    back = rebuilt(exc)
    assert (back.__context__, back.__suppress_context__) == (None, True)


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_groups_come_back(serializer):
    inner = ExceptionGroup("inner", [Shop("tea"), raised(KeyError("k"), chain())])
    exc = Batch("outer", [inner, ValueError(1)], 7)
    back = rebuilt(exc, serializer)
    assert same(back, exc)
    assert (type(back), back.message, back.batch) == (Batch, "outer", 7)
    assert back.args[1] == list(back.exceptions)
    matched, _ = back.split(KeyError)
    assert matched is not None


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_a_group_of_what_must_not_come_out(serializer):
    exc = BaseExceptionGroup("mixed", [ValueError(1), KeyboardInterrupt("k"), SystemExit(3)])
    back = rebuilt(exc, serializer)
    assert type(back) is ExceptionGroup
    assert [type(member) for member in back.exceptions] == [ValueError, RemoteError, RemoteError]
    assert [str(member) for member in back.exceptions] == ["1", "KeyboardInterrupt: k", "SystemExit: 3"]


def test_a_group_class_that_cannot_be_rebuilt_keeps_its_members():
    back = rebuilt(Interrupts("i", [ValueError(1), KeyboardInterrupt()]))
    assert type(back) is RemoteError
    assert [type(member) for member in back.exceptions] == [ValueError, RemoteError]
    assert to_wire(rebuilt(back)) == to_wire(back)
    assert isinstance(rebuilt(back).exceptions[0], ValueError)


@pytest.mark.parametrize(
    "exc", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Stop("s"), BaseException(1)]
)
def test_what_is_no_exception_is_told_by_a_remote_error(exc):
    back = rebuilt(exc)
    assert type(back) is RemoteError
    assert (back.exc_type, back.exc_args) == (type(exc).__qualname__, exc.args)


def test_a_class_that_is_not_here_is_told_by_a_remote_error(monkeypatch):
    exc = raised(Shop("tea", 3), KeyError("k"))
    exc.add_note("n")
    wire = through(to_wire(exc))
    monkeypatch.delitem(sys.modules, "tests.golden.values")
    back = from_wire(wire)
    assert type(back) is RemoteError
    assert (back.exc_type, back.exc_module, back.exc_args) == ("Shop", "tests.golden.values", ("tea", 3))
    assert (back.bases, back.attributes) == (("builtins.Exception",), {"item": "tea", "left": 3})
    assert (back.__notes__, type(back.__cause__)) == (["n"], KeyError)
    assert str(back) == "Shop: tea, 3"
    again = to_wire(back)
    assert again == wire
    monkeypatch.undo()
    assert same(from_wire(again), exc)


class Impostor(Exception):
    pass


Impostor.__qualname__ = "Impostor.of.another"


class Local:
    def make(self) -> Exception:
        class Inside(Exception):
            pass

        return Inside("x")


@pytest.mark.parametrize("exc", [Impostor("x"), Local().make()])
def test_a_class_that_is_not_found_under_its_own_name(exc):
    assert type(rebuilt(exc)) is RemoteError


def test_an_attribute_that_cannot_be_stored_is_told():
    exc = Shop("tea")
    exc.lock, exc.text, exc.obj = threading.Lock(), "text", object()
    exc.args = ("tea", {1, 2}, {1: "int key"})
    wire = to_wire(exc)
    assert sorted(wire["settled"]["stand_ins"]) == ["args.1", "args.2", "attributes.lock"]
    back = from_wire(through(wire))
    assert isinstance(back.lock, StandIn)
    assert back.lock.startswith("<unlocked _thread.lock")
    assert not isinstance(back.text, StandIn)
    assert not hasattr(back, "obj")
    assert back.args == ("tea", "{1, 2}", "{1: 'int key'}")
    assert to_wire(back) == wire


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("\ud800", "\\ud800"),
        (2**64, repr(2**64)),
        ([1, ["\ud800"]], "[1, ['\\ud800']]"),
        ({"\ud800": 1}, "{'\\ud800': 1}"),
        (bytearray(b"x" * 200), "bytearray(b'" + "x" * 100 + "')..."),
        (2j, "2j"),
        (KeyError("k", [1]), "KeyError('k', [1])"),
        (
            ValueError(KeyError(TypeError(OSError(RuntimeError("x"))))),
            "ValueError(KeyError(TypeError(OSError(RuntimeError(...)))))",
        ),
    ],
)
def test_what_not_every_serializer_carries_is_told(value, text):
    for serializer in ("json", "msgpack"):
        back = rebuilt(ValueError(value), serializer)
        assert back.args == (text,)
        assert isinstance(back.args[0], StandIn)


def test_what_one_serializer_carries():
    exc = ValueError("\ud800", 2**64)
    assert from_wire(through(to_wire(exc, storable=failure.storable_in("json")))).args == exc.args
    assert failure.storable_in("msgpack") is failure.portable


class BadRepr:
    def __repr__(self) -> str:
        raise LookupError("no")


class BadMapping(dict):
    def items(self):
        raise LookupError("no")


class Proxy:
    """Like a framework's `request` outside of a request."""

    @property
    def __class__(self):
        raise RuntimeError("outside of a request")


class TypeNamedList:
    pass


TypeNamedList.__name__ = "list"


@pytest.mark.parametrize(
    "make", [BadRepr, lambda: BadMapping(a=BadRepr()), TypeNamedList, lambda: [BadRepr()] * 40, Proxy]
)
def test_a_repr_that_fails(make):
    value = make()
    back = rebuilt(ValueError(value))
    assert isinstance(back.args[0], StandIn)
    assert len(back.args[0]) < 1000


def test_a_storable_that_fails_means_no():
    def storable(value: object) -> bool:
        raise LookupError(value)

    assert to_wire(ValueError(1), storable=storable)["exc_message"] == ["1"]


# -- bounded -------------------------------------------------------------------------------------


def characters(wire: object) -> int:
    return len(json.dumps(wire, ensure_ascii=False, default=repr))


def long_chain(length: int) -> Exception:
    exc = ValueError("the first")
    for i in range(length):
        following = ValueError(i)
        following.__cause__ = exc
        exc = following
    return exc


def deep_group(depth: int) -> Exception:
    exc: Exception = ValueError("x" * 100_000)
    for i in range(depth):
        exc = ExceptionGroup(f"level {i}", [exc, ValueError("x" * 100_000)])
    return exc


def many_notes() -> Exception:
    exc = ValueError()
    exc.__notes__ = [f"note {i}" for i in range(100_000)]
    return exc


def many_attributes() -> Exception:
    exc = ValueError()
    vars(exc).update({f"name_{i}" * 20: "x" * 2000 for i in range(10_000)})
    return exc


def everything() -> Exception:
    members = []
    for _ in range(100):
        member = raised(many_attributes(), ValueError("y" * 10_000))
        member.args = ("z" * 70_000,) * 100
        member.__notes__ = ["n" * 1000] * 1000
        members.append(member)
    return ExceptionGroup("m" * 10**6, members)


HUGE = {
    "message": lambda: ValueError("x" * 10**7),
    "bytes": lambda: ValueError(b"x" * 10**7),
    "args": lambda: ValueError(*range(100_000)),
    "list": lambda: ValueError([[0] * 1000] * 1000),
    "int": lambda: ValueError(10**100_000),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"x" * 10**6, 10**6 - 1, 10**6, "why"),
    "nesting": lambda: ValueError(long_list(10_000)),
    "notes": many_notes,
    "attributes": many_attributes,
    "chain": lambda: long_chain(10_000),
    "group": lambda: ExceptionGroup("many", [ValueError("x" * 1000) for _ in range(20_000)]),
    "groups": lambda: deep_group(500),
    "everything": everything,
}


def long_list(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("name", HUGE)
def test_the_size_is_bounded(name):
    exc = HUGE[name]()
    wire = to_wire(exc, "t" * 10**7)
    assert characters(wire) <= Limits().max_total + Limits().max_exceptions * 16 * 1024
    back = from_wire(through(wire))
    assert type(back) is type(exc)
    assert len(text_of(exc)) <= Limits().max_traceback
    if name not in ("unicode", "chain", "group", "groups", "everything"):
        assert to_wire(back) == through(wire)


def test_a_long_message_keeps_its_beginning():
    back = rebuilt(ValueError("x" * 10**7))
    assert back.args[0].startswith("xxx")
    assert back.args[0].endswith("... [10,000,000 characters in all]")


def test_what_is_left_out_is_told():
    many = rebuilt(many_notes())
    assert many.__notes__[-1] == "... and 99,937 more"
    wire = to_wire(long_chain(20))
    for _ in range(8):
        wire = wire["settled"]["cause"]
    assert wire["settled"]["cut"] == ["cause"]
    group = rebuilt(ExceptionGroup("g", [ValueError(i) for i in range(100)]))
    assert len(group.exceptions) == 64
    assert str(group.exceptions[-1]) == "omitted: 37 more exceptions were not stored"


def test_a_group_of_which_nothing_fits_is_still_one():
    back = from_wire(to_wire(ExceptionGroup("g", [ValueError(1)]), limits=Limits(max_depth=0)))
    assert isinstance(back, ExceptionGroup)
    assert str(back.exceptions[0]) == "omitted: 1 more exceptions were not stored"


@pytest.mark.parametrize("size", [0, 1, 20, 60])
def test_small_limits_hold(size):
    limits = Limits(max_text=size, max_traceback=size, max_attributes=2)
    exc = raised(Shop("x" * 100), raised(KeyError("k")))
    wire = to_wire(exc, "t" * 100, limits=limits)
    assert len(wire["settled"].get("traceback", "")) <= size
    assert len(wire["exc_message"][0]) <= size
    assert len(text_of(exc, limits)) <= size


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_circle_ends(link):
    first, second = ValueError(1), ValueError(2)
    setattr(first, link, second)
    setattr(second, link, first)
    wire = to_wire(first)
    name = link.strip("_")
    assert wire["settled"][name]["settled"]["cut"] == [name]
    assert getattr(from_wire(wire), link).args == (2,)
    assert "ValueError: 2" in text_of(first)


def test_names_are_bounded_and_odd_attributes_left_out():
    odd = type("N" * 10_000, (ValueError,), {"__module__": "m" * 10_000})("x")
    vars(odd).update({"k" * 1000: 1, "\ud800": 2, 7: 3, "fine": 4})
    wire = to_wire(odd)
    assert (len(wire["exc_type"]), len(wire["exc_module"])) == (256, 256)
    assert wire["settled"]["attributes"] == {"fine": 4}


def test_notes_of_any_kind():
    exc = ValueError()
    exc.__notes__ = ("tuple", 7, "\ud800", Proxy())
    assert rebuilt(exc).__notes__[:3] == ["tuple", "7", "\\ud800"]
    exc.__notes__ = "no list"
    assert not hasattr(rebuilt(exc), "__notes__")


# -- the remote traceback ------------------------------------------------------------------------


def test_the_remote_traceback_is_an_attribute():
    exc = raised(Shop("tea"))
    text = text_of(exc)
    back = from_wire(through(to_wire(exc, text)))
    assert back.remote_traceback == text
    assert from_wire(to_wire(exc, text), "of the record").remote_traceback == "of the record"
    assert not hasattr(back, "__notes__")
    assert to_wire(back) == to_wire(exc, text)


def test_the_remote_traceback_is_shown_and_not_stored():
    back = from_wire(to_wire(ValueError("x")), "Traceback of the worker")
    back.add_note("own")
    assert show_remote(show_remote(back)) is back
    assert len(back.__notes__) == 2
    assert isinstance(back.__notes__[1], RemoteTraceback)
    shown = "".join(traceback.format_exception(back))
    assert shown.endswith("ValueError: x\nown\n\nThe remote traceback:\nTraceback of the worker\n")
    assert to_wire(back)["settled"]["notes"] == ["own"]


def test_without_a_remote_traceback_nothing_is_shown():
    assert not hasattr(show_remote(ValueError()), "__notes__")


def test_text_of_is_pythons_own():
    exc = raised(ExceptionGroup("g", [raised(chain()), KeyError("k")]), ValueError("\ud800"))
    assert text_of(exc) == "".join(traceback.format_exception(exc)).replace("\ud800", "\\ud800")


class BadText(Exception):
    def __str__(self) -> str:
        raise LookupError("no")


def test_text_of_what_python_cannot_show():
    exc = SyntaxError("bad")
    exc.text, exc.offset = "a b", "one"
    assert text_of(exc) == (
        "Traceback (most recent call last):\nSyntaxError: bad\n[What it is linked with is not shown.]\n"
    )


@pytest.mark.parametrize("exc", [BadText("b"), ValueError("v"), Shop("s")])
def test_text_of_what_is_linked_with_too_much(exc):
    exc.__cause__ = long_chain(100)
    exc.add_note("a note")
    text = text_of(raised(exc, exc.__cause__))
    assert text.startswith("Traceback (most recent call last):\n  File")
    assert "a note\n[What it is linked with is not shown.]" in text


# -- Celery's ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_that_celery_wrote(name):
    exc = FAILURES[name]
    record = codec.decode((GOLDEN / f"failure-{name}.json").read_bytes(), ACCEPT)
    back = from_wire(record["result"], record["traceback"])
    assert type(back) is type(exc)
    assert str(back) == str(exc)
    assert back.remote_traceback == "Traceback ..."


@pytest.mark.parametrize("exc", [ValueError("a", 1), KeyError("k"), Shop("tea", 3), OSError(2, "No")])
@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_celery_reads_what_we_write(exc, serializer):
    app = Celery("reader", set_as_current=False)
    app.conf.update(result_serializer=serializer, accept_content=[serializer])
    backend = Backend(app=app)
    back = backend.exception_to_python(backend.decode(codec.encode(to_wire(exc), serializer)))
    assert (type(back), back.args) == (type(exc), exc.args)


@pytest.mark.parametrize(
    ("message", "args"), [("text", ("text",)), (None, ()), (["a", 1], ("a", 1)), (("a",), ("a",)), (7, (7,))]
)
def test_the_message_may_have_any_form(message, args):
    back = from_wire({"exc_type": "ValueError", "exc_message": message, "exc_module": "builtins"})
    assert (type(back), back.args) == (ValueError, args)


def test_an_exception_from_a_pickle():
    exc = ValueError(1)
    assert from_wire(exc) is exc
    assert str(from_wire(SystemExit(3))) == "SystemExit: 3"


# -- hostile -------------------------------------------------------------------------------------


def wire_of(exc_type: object, exc_module: object, *args: object, **own: object) -> dict[str, object]:
    return {"exc_type": exc_type, "exc_message": list(args), "exc_module": exc_module, "settled": own}


class Lazy(ModuleType):
    def __getattribute__(self, name: str) -> object:
        raise AssertionError("loaded")


class Picky(type):
    def __getattribute__(cls, name: str) -> object:
        raise AssertionError("computed")

    def __instancecheck__(cls, instance: object) -> bool:
        raise AssertionError("asked")


@pytest.mark.parametrize(
    ("exc_type", "module"),
    [
        ("SystemExit", "builtins"),
        ("KeyboardInterrupt", "builtins"),
        ("BaseException", "builtins"),
        ("object", "builtins"),
        ("eval", "builtins"),
        ("system", "os"),
        ("Popen", "subprocess"),
        ("os.error", "subprocess"),
        ("builtins.SystemExit", "codecs"),
        ("sys.modules", "os"),
        ("__builtins__.ValueError", "os"),
        ("OSError.__subclasses__", "builtins"),
        ("ValueError.__class__", "builtins"),
        ("ValueError.__base__", "builtins"),
        ("IOError", "builtins"),
        ("error", "os"),
        ("ValueError", "no.such.module"),
        ("ValueError", "antigravity"),
        ("", "builtins"),
        (".", "builtins"),
        ("..ValueError", "builtins"),
        ("ValueError" * 1000, "builtins"),
        ("a." * 100_000, "builtins"),
        ("ValueError", None),
        ("ValueError", 7),
        ("ValueError", ["builtins"]),
        ("ValueError", ""),
        ("RemoteError", "settled.errors"),
        ("Lazy.anything", "lazy_for_test"),
        ("Stop", __name__),
        ("Picky", __name__),
        ("not_a_module", "odd_for_test"),
    ],
)
def test_what_must_not_be_reached(exc_type, module, monkeypatch):
    monkeypatch.setitem(sys.modules, "lazy_for_test", Lazy("lazy_for_test"))
    monkeypatch.setitem(sys.modules, "odd_for_test", Outer)
    loaded = set(sys.modules)
    back = from_wire(wire_of(exc_type, module, "echo", cause=wire_of(exc_type, module)))
    assert type(back) is RemoteError
    assert type(back.__cause__) is RemoteError
    assert set(sys.modules) == loaded
    assert str(back)


def test_a_class_with_a_metaclass_is_found_without_asking_it(monkeypatch):
    namespace = {"__module__": __name__, "__qualname__": "Odd"}
    odd = type.__call__(Picky, "Odd", (ValueError,), namespace)
    monkeypatch.setitem(globals(), "Odd", odd)
    try:
        back = from_wire(wire_of("Odd", __name__, "x"))
    finally:
        monkeypatch.undo()
    assert type(back) in (odd, RemoteError)


@pytest.mark.parametrize("field", ["args", "attributes"])
@pytest.mark.parametrize(
    ("exc_type", "values"),
    [
        ("UnicodeDecodeError", ("utf-8", b"a", -(10**6), -(10**6) + 1, "r")),
        ("UnicodeDecodeError", ("utf-8", 7, 0, 1, "r")),
        ("UnicodeDecodeError", ("utf-8", b"a", 10**30, 10**30 + 1, "r")),
        ("UnicodeDecodeError", ("utf-8", b"a", "0", "1", "r")),
        ("UnicodeDecodeError", (None, b"a", 0, 1, ["r"])),
        ("UnicodeEncodeError", ("utf-8", [1], 0, 1, "r")),
        ("UnicodeEncodeError", ("utf-8", b"\xff\xff", 0, 1, "r")),
        ("UnicodeEncodeError", ("utf-8", "a", -5, -4, "r")),
        ("UnicodeTranslateError", ("utf-8", "a", 0, "1", "r")),
        ("UnicodeDecodeError", ()),
    ],
)
def test_a_unicode_error_whose_fields_would_crash_the_interpreter(field, exc_type, values):
    if field == "args":
        back = from_wire(wire_of(exc_type, "builtins", *values))
    else:
        names = ("encoding", "object", "start", "end", "reason")
        fields = dict(zip(names, values, strict=False))
        back = from_wire(wire_of(exc_type, "builtins", attributes=fields))
    assert type(back) is RemoteError
    assert str(back)


@pytest.mark.parametrize(
    ("exc_type", "args", "attributes"),
    [
        ("OSError", [2, "No such file"], {}),
        ("OSError", [[], {}], {"errno": {}, "characters_written": "many"}),
        ("BlockingIOError", [1, "a", "b"], {"characters_written": 10**30}),
        ("SyntaxError", ["m", [1, 2]], {"lineno": "x", "text": 7}),
        ("SyntaxError", ["m", "info"], {}),
        ("SyntaxError", ["m", ["f", 1, 1, "a b", 1, 10**9]], {}),
        ("SyntaxError", ["m", [7, 10**30, -5, "a b", 1, 2]], {}),
        ("StopIteration", [], {"value": [1]}),
        ("ImportError", [{}], {"name": 7}),
        ("KeyError", [[], []], {}),
        ("ExceptionGroup", [], {}),
        ("ExceptionGroup", [7, "x"], {"message": 1, "exceptions": 2}),
        ("AttributeError", ["a"], {"obj": "x", "name": 7}),
    ],
)
def test_a_builtin_with_odd_fields(exc_type, args, attributes):
    members = [wire_of("ValueError", "builtins")] if "Group" in exc_type else None
    back = from_wire(wire_of(exc_type, "builtins", *args, attributes=attributes, exceptions=members))
    assert type(back) is getattr(builtins, exc_type)
    assert isinstance(str(back), str)
    assert text_of(back)


def test_a_group_without_members_is_told_by_a_remote_error():
    assert type(from_wire(wire_of("ExceptionGroup", "builtins", "m", []))) is RemoteError


def test_stored_attributes_do_not_shadow_methods():
    attributes = {"with_traceback": 1, "add_note": 2, "args": 3, "__class__": 4, "__cause__": 5, "own": 6}
    back = from_wire(wire_of("ValueError", "builtins", "x", attributes=attributes))
    assert vars(back) == {"own": 6}


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        "text",
        [],
        {},
        {"exc_type": 7},
        {"exc_type": None, "exc_module": "builtins"},
        {"exc_message": "m"},
        long_list(10_000),
        "x" * 10**7,
        object(),
        BadMapping(exc_type="ValueError"),
    ],
    ids=lambda data: type(data).__name__,
)
def test_damaged_data_says_so(data):
    back = from_wire(data)
    assert type(back) is RemoteError
    assert len(str(back)) < 1100


class Raising(dict):
    def get(self, key: object, default: object = None) -> object:
        raise LookupError(key)


def test_data_whose_methods_fail():
    assert from_wire(Raising()).exc_type == "unreadable failure"


@pytest.mark.parametrize(
    "own",
    [
        7,
        {
            "cause": 7,
            "context": [],
            "notes": 3,
            "exceptions": {},
            "bases": "b",
            "stand_ins": 1,
            "attributes": [],
        },
        {"notes": [7, None], "bases": [1], "stand_ins": [[], 3], "attributes": {"a": 1}, "traceback": 7},
        {"omitted": "many", "suppress_context": "yes", "exceptions": [7, None, "x"]},
    ],
)
def test_odd_details_do_not_matter(own):
    back = from_wire(
        {"exc_type": "ValueError", "exc_message": ["m"], "exc_module": "builtins", "settled": own}
    )
    assert (type(back), back.args) == (ValueError, ("m",))


@pytest.mark.parametrize("link", ["cause", "context", "exceptions"])
def test_endless_links_end(link):
    wire = wire_of("ValueError", "builtins", "last")
    for _ in range(10_000):
        wire = wire_of(
            "ExceptionGroup", "builtins", "m", [], **{link: [wire] if link == "exceptions" else wire}
        )
    back = from_wire(wire)
    assert isinstance(back, Exception)
    assert text_of(back)


def test_the_number_of_exceptions_is_bounded():
    wire = wire_of("ValueError", "builtins", "m")
    for _ in range(5):
        wire = wire_of("ExceptionGroup", "builtins", "m", [], exceptions=[wire] * 20)
    assert 0 < count(from_wire(wire)) < 3000


def count(exc: BaseException) -> int:
    return 1 + sum(map(count, getattr(exc, "exceptions", ())))


def test_values_nested_without_end_become_text():
    circle: list[object] = []
    circle.append([circle, circle])
    wide = [[0] * 1000] * 1001
    args = [long_list(10_000), {"a": long_list(200)}, circle, wide, long_list(50)]
    back = from_wire(wire_of("ValueError", "builtins", *args, attributes={"deep": long_list(10_000), 7: 1}))
    assert [type(arg) for arg in back.args] == [StandIn, StandIn, StandIn, StandIn, list]
    assert isinstance(back.deep, StandIn)
    assert len(str(back)) < 3000


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
BUILTINS = [
    name for name, cls in vars(builtins).items() if isinstance(cls, type) and issubclass(cls, BaseException)
]
FIELDS = [
    "errno",
    "filename",
    "object",
    "start",
    "end",
    "encoding",
    "reason",
    "lineno",
    "text",
    "name",
    "value",
]
WIRES = st.recursive(
    JUNK,
    lambda inner: st.fixed_dictionaries(
        {
            "exc_type": st.sampled_from(BUILTINS) | JUNK,
            "exc_message": st.lists(JUNK, max_size=5) | JUNK,
            "exc_module": st.just("builtins") | JUNK,
        },
        optional={
            "settled": st.fixed_dictionaries(
                {},
                optional={
                    "attributes": st.dictionaries(st.sampled_from(FIELDS) | st.text(), JUNK, max_size=4)
                    | JUNK,
                    "cause": inner,
                    "context": inner,
                    "exceptions": st.lists(inner, max_size=3) | JUNK,
                    "notes": st.lists(JUNK, max_size=3) | JUNK,
                    "omitted": JUNK,
                    "stand_ins": st.lists(st.just("args.0") | JUNK, max_size=2),
                    "suppress_context": JUNK,
                    "traceback": JUNK,
                },
            )
        },
    ),
    max_leaves=4,
)


@given(WIRES)
def test_anything_stored_comes_back_as_an_exception(data):
    back = from_wire(data)
    assert isinstance(back, Exception)
    str(back)
    assert text_of(back)
    again = through(to_wire(show_remote(back)), "msgpack")
    assert isinstance(from_wire(again), Exception)


ARGS = st.lists(JUNK | st.dates() | st.decimals(allow_nan=False) | st.uuids(), max_size=4)


@given(
    ARGS.filter(lambda args: args == args), st.dictionaries(st.from_regex(r"\A[a-z]{9}\Z"), JUNK, max_size=3)
)
def test_args_and_attributes_come_back(args, attributes):
    exc = Shop("x")
    exc.args = tuple(args)
    vars(exc).update(attributes)
    back = rebuilt(exc)
    assert repr(to_wire(back)) == repr(to_wire(exc))


def test_an_encode_error_comes_back_with_its_path():
    with pytest.raises(EncodeError) as caught:
        codec.encode({"result": {1}}, "json")
    back = rebuilt(caught.value)
    assert (type(back), back.path, back.type_name) == (EncodeError, "result", "set")
