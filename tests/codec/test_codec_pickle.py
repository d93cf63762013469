"""pickle: only when accepted, and whatever it raises is a DecodeError."""

from __future__ import annotations

import pickle
import threading

import pytest
from kombu.serialization import registry

from settled import codec
from settled.errors import ContentRefused, DecodeError, EncodeError

ACCEPT = frozenset({"pickle"})
CONTENT_TYPE = codec.SERIALIZERS["pickle"]


class Raises:
    """Unpickling it calls `call(*args)`."""

    def __init__(self, call: object, *args: object) -> None:
        self.made = (call, args)

    def __reduce__(self) -> object:
        return self.made


def leave(kind: type[BaseException]) -> None:
    raise kind("raised by the pickle")


def test_goes_both_ways():
    record = {"status": "SUCCESS", "result": {1, 2}, "children": [(1, 2)]}
    payload = codec.encode(record, "pickle")
    assert codec.decode(payload, ACCEPT) == record
    assert registry.loads(payload, CONTENT_TYPE, "binary", force=True) == record
    assert codec.decode(registry.dumps(record, "pickle")[2], ACCEPT) == record
    assert payload[:2] == b"\x80\x04"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tells_itself(protocol):
    assert codec.serializer_of(pickle.dumps([1], protocol), "json") == "pickle"


@pytest.mark.parametrize("protocol", [0, 1])
def test_an_old_protocol_is_read_if_it_is_the_default(protocol):
    payload = pickle.dumps({"a": [1]}, protocol)
    assert codec.decode(payload, ACCEPT, "pickle") == {"a": [1]}


def test_is_refused_unless_accepted():
    payload = codec.encode({"status": "SUCCESS"}, "pickle")
    with pytest.raises(
        ContentRefused, match=r"is pickle .* accepted is json, msgpack: add 'pickle' to `accept`"
    ):
        codec.decode(payload, frozenset({"json", "msgpack"}))


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, LookupError, RecursionError])
def test_whatever_it_raises_is_a_decode_error(kind):
    with pytest.raises(DecodeError, match="raised by the pickle") as caught:
        codec.decode(pickle.dumps(Raises(leave, kind), 4), ACCEPT)
    assert type(caught.value.__cause__) is kind


def test_the_users_own_interrupt_passes():
    with pytest.raises(KeyboardInterrupt):
        codec.decode(pickle.dumps(Raises(leave, KeyboardInterrupt), 4), ACCEPT)


@pytest.mark.parametrize("payload", [b"\x80\x04", b"\x80\x04.", b"\x80\x04cno_such_module\nX\n."])
def test_a_damaged_payload(payload):
    with pytest.raises(DecodeError, match="cannot be loaded"):
        codec.decode(payload, ACCEPT)


class Stubborn:
    def __reduce__(self) -> object:
        raise LookupError("stays here")


@pytest.mark.parametrize(
    ("data", "path", "type_name"),
    [
        ({"result": {"rows": [1, threading.Lock()]}}, "result['rows'][1]", "_thread.lock"),
        ({"result": (Stubborn(),)}, "result[0]", f"{__name__}.Stubborn"),
        ({"result": {Stubborn(): 1}}, "result", "dict"),
        ({"result": {2: lambda: None}}, "result[2]", "function"),
        (Stubborn(), "value", f"{__name__}.Stubborn"),
    ],
)
def test_the_error_says_where_and_what(data, path, type_name):
    with pytest.raises(EncodeError, match="cannot store") as caught:
        codec.encode(data, "pickle")
    assert (caught.value.path, caught.value.type_name) == (path, type_name)
    assert caught.value.__cause__ is not None


def test_a_circle_with_something_unstorable_in_it_is_refused():
    value: dict[str, object] = {}
    value["again"] = {"back": value, "lock": threading.Lock()}
    with pytest.raises(EncodeError, match="cannot store"):
        codec.encode(value, "pickle")
