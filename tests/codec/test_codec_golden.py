"""Payloads that kombu and Celery wrote are read as they meant them, and the other way round."""

from __future__ import annotations

from pathlib import Path

import pytest
from kombu import serialization

from settled import codec
from tests.golden.values import PLAIN, RECORD, TAGGED

GOLDEN = Path(__file__).parents[1] / "golden" / "payloads"
ALL = frozenset(codec.SERIALIZERS)
VALUES = {**PLAIN, **TAGGED}


def golden(pattern: str) -> list[Path]:
    return sorted(GOLDEN.glob(pattern))


@pytest.mark.parametrize("path", golden("kombu-*"), ids=lambda path: path.name)
def test_a_value_that_kombu_wrote(path):
    expected = VALUES[path.stem.removeprefix("kombu-")]
    value = codec.decode(path.read_bytes(), ALL)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize("path", golden("celery-success.*"), ids=lambda path: path.name)
def test_a_record_that_celery_wrote(path):
    payload = path.read_bytes()
    assert codec.decode(payload, ALL) == {**RECORD, "children": None}
    assert codec.serializer_of(payload, "json") == path.suffix[1:].split("-")[0]


@pytest.mark.parametrize("path", golden("celery-part.*"), ids=lambda path: path.name)
def test_a_chord_part_that_celery_wrote(path):
    payload = path.read_bytes()
    assert codec.decode(payload, ALL) == [1, RECORD["task_id"], "SUCCESS", 5]
    assert codec.serializer_of(payload, "json") == path.suffix[1:]


@pytest.mark.parametrize("serializer", codec.SERIALIZERS)
def test_a_record_of_ours_read_by_kombu(serializer):
    payload = codec.encode(RECORD, serializer)
    assert serialization.loads(payload, codec.SERIALIZERS[serializer], "utf-8", force=True) == RECORD


@pytest.mark.parametrize("name", sorted(PLAIN.keys() - {"big_int"}))  # msgpack has no such integer
def test_the_bytes_of_msgpack_are_kombus(name):
    assert (
        codec.encode({"result": PLAIN[name]}, "msgpack")
        == serialization.dumps({"result": PLAIN[name]}, "msgpack")[2]
    )


def test_every_kind_of_golden_file_is_there():
    kinds = {path.name.split("-")[0] for path in golden("*")}
    assert kinds == {"kombu", "celery", "failure"}
