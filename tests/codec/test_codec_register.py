"""Serializers and types that a program has registered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import kombu.utils.json as kombu_json
import pytest

import settled
from settled import codec
from settled.codec import serializers, tags
from settled.errors import ConfigurationError, ContentRefused, DecodeError, EncodeError

MINE = frozenset({"mine"})


@dataclass(frozen=True)
class Money:
    cents: int


class Tip(Money):
    pass


class Point:
    pass


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    for name in list(serializers.REGISTERED):
        serializers.NAMES.pop(serializers._content_types.pop(name))
        del serializers.ENCODERS[name], serializers.DECODERS[name]
    serializers.REGISTERED.clear()


def _dump(value: object) -> str:
    def default(item: object) -> object:
        if isinstance(item, Money):
            return {"money": item.cents}
        raise TypeError(f"not {item!r}")

    return json.dumps(value, default=default)


def _load(payload: bytes) -> object:
    def hook(form: dict[str, Any]) -> object:
        return Money(form["money"]) if "money" in form else form

    return json.loads(payload, object_hook=hook)


def _register() -> None:
    codec.register("mine", "application/x-mine", _dump, _load)


def test_a_registered_serializer_writes_and_reads():
    _register()
    payload = codec.encode({"price": Money(5)}, "mine")
    assert payload == b'{"price": {"money": 5}}'
    assert codec.decode(payload, MINE, "mine") == {"price": Money(5)}
    assert codec.decode(payload.decode(), MINE | {"json"}, "mine") == {"price": Money(5)}
    assert codec.serializer_of(payload, "mine") == "mine"
    assert codec.accept_set("application/x-mine, json") == {"mine", "json"}


def test_its_payload_is_not_taken_for_json_though_json_is_accepted():
    _register()
    payload = codec.encode({"price": Money(5)}, "mine")
    assert codec.decode(payload, MINE | {"json"}, "mine") == {"price": Money(5)}
    assert codec.decode(payload, MINE | {"json"}, "json") == {"price": {"money": 5}}


def test_our_headers_come_before_it():
    _register()
    packed = codec.compression.compress(codec.encode([Money(1)], "mine"), "gzip")
    assert codec.decode(packed, MINE, "mine") == [Money(1)]
    assert codec.decode(codec.encode(5, "msgpack"), MINE | {"msgpack"}, "mine") == 5


def test_it_must_be_accepted():
    _register()
    with pytest.raises(ContentRefused, match=r"payload is mine \(application/x-mine\)"):
        codec.decode(b"{}", frozenset({"json"}), "mine")


def test_registering_again_replaces_it():
    _register()
    codec.register("mine", "application/x-other", lambda _value: b"\xff", lambda _payload: 7)
    assert codec.encode("x", "mine") == b"\xff"
    assert codec.decode(b"\xff", MINE, "mine") == 7
    assert codec.SERIALIZERS["mine"] == "application/x-other"
    with pytest.raises(ConfigurationError, match="unknown serializer 'application/x-mine'"):
        codec.accept_set("application/x-mine")


@pytest.mark.parametrize(
    ("name", "content_type", "said"),
    [
        ("json", "application/x-mine", "'json' is built in"),
        ("mine", "application/json", "is that of 'json'"),
    ],
)
def test_what_is_built_in_cannot_be_replaced(name, content_type, said):
    with pytest.raises(ConfigurationError, match=said):
        codec.register(name, content_type, _dump, _load)


def test_what_its_encoder_refuses_is_named_with_its_path():
    _register()
    with pytest.raises(EncodeError, match=r"result\[1\]: cannot store .*Point with serializer 'mine'"):
        codec.encode({"result": [1, Point()]}, "mine")
    codec.register("mine", "application/x-mine", lambda _value: 5, _load)  # type: ignore[arg-type,return-value]
    with pytest.raises(EncodeError, match="no bytes of it but int"):
        codec.encode({}, "mine")


def test_what_its_decoder_raises_never_comes_out():
    def leave(_payload: bytes) -> object:
        raise SystemExit(3)

    codec.register("mine", "application/x-mine", _dump, leave)
    with pytest.raises(DecodeError, match=r"damaged mine payload of 2 bytes: SystemExit\(3\)"):
        codec.decode(b"{}", MINE, "mine")


def test_a_backend_uses_it(tmp_path):
    _register()
    backend = settled.connect(f"sqlite:///{tmp_path}/results.db", result_serializer="mine")
    try:
        backend.store_result("a", {"price": Money(5)}, "SUCCESS")
        backend.store_result("a", None, "STARTED")
        assert backend.get_result("a") == {"price": Money(5)}
        assert [row.state for row in backend.query()] == ["SUCCESS"]
    finally:
        backend.close()


# -- types -----------------------------------------------------------------------------------------


def _share(**given: object) -> None:
    tags.share_types(given.get("writers", {}), given.get("readers", {}))  # type: ignore[arg-type]


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
def test_a_registered_type_is_stored_in_its_tagged_form_and_read_back(serializer):
    _share(writers={Money: ("money", lambda m: {"cents": m.cents})}, readers={"money": lambda f: Money(**f)})
    value = {"result": [Money(5), Tip(6), {"a": Money(7)}]}
    payload = codec.encode(value, serializer)
    accept = frozenset({serializer})
    assert codec.decode(payload, accept, serializer) == {"result": [Money(5), Money(6), {"a": Money(7)}]}


def test_the_forms_are_kombus_both_ways(monkeypatch):
    writers, readers = dict(kombu_json._encoders), dict(kombu_json._decoders)
    monkeypatch.setattr(kombu_json, "_encoders", writers)
    monkeypatch.setattr(kombu_json, "_decoders", readers)
    tags.share_types(writers, readers)
    # Registered after the tables were shared.
    kombu_json.register_type(Money, "money", lambda m: m.cents, Money)
    value = {"result": [Money(5), datetime(2026, 1, 2)]}  # noqa: DTZ001
    assert codec.decode(kombu_json.dumps(value).encode(), frozenset({"json"})) == value
    assert kombu_json.loads(codec.encode(value, "json")) == value


def test_a_type_may_take_the_place_of_a_known_one():
    _share(
        writers={datetime: ("datetime", lambda at: at.year)},
        readers={"datetime": lambda year: ("year", year)},
    )
    payload = codec.encode([datetime(2026, 1, 2)], "json")  # noqa: DTZ001
    assert payload == b'[{"__type__":"datetime","__value__":2026}]'
    assert codec.decode(payload, frozenset({"json"})) == [("year", 2026)]


def test_a_type_without_a_tag_is_stored_as_its_form():
    _share(writers={Money: (None, lambda m: [m.cents, datetime(2026, 1, 2)])})  # noqa: DTZ001
    for serializer in ("json", "msgpack"):
        payload = codec.encode(Money(5), serializer)
        assert codec.decode(payload, frozenset({serializer})) == [5, datetime(2026, 1, 2)]  # noqa: DTZ001


def test_a_method_of_the_value_comes_first():
    class Own(Money):
        def __json__(self) -> object:
            return "own"

    _share(writers={Money: ("money", lambda m: m.cents)})
    assert codec.encode(Own(5), "json") == b'"own"'


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
@pytest.mark.parametrize("error", [TypeError("not today"), ValueError("not today")])
def test_a_writer_that_fails_is_named_with_the_path(serializer, error):
    def fail(_value: object) -> object:
        raise error

    _share(writers={Money: ("money", fail)})
    with pytest.raises(
        EncodeError, match=r"result\[0\]: .*Money .*writer registered for its type failed.*not today"
    ):
        codec.encode({"result": [Money(5)]}, serializer)
    _share(writers={Money: ("money", lambda _m: {"of": [Point()]})})
    with pytest.raises(EncodeError, match=r"result\[0\].*<its form>.*Point"):
        codec.encode({"result": [Money(5)]}, serializer)


def test_a_writer_that_makes_the_same_again_ends():
    _share(writers={Money: (None, lambda m: m)})
    for serializer in ("json", "msgpack"):
        with pytest.raises(EncodeError, match="nested too deeply"):
            codec.encode(Money(5), serializer)


def test_a_form_that_its_reader_refuses_is_handed_out_as_it_is():
    _share(readers={"money": lambda form: Money(form["cents"])})
    form = {"__type__": "money", "__value__": 5}
    assert codec.decode(json.dumps(form).encode(), frozenset({"json"})) == form
