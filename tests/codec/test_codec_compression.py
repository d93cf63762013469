"""Compressed payloads, as Celery writes and reads them."""

from __future__ import annotations

import bz2
import lzma
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from types import ModuleType

import kombu.compression
import pytest
from celery.backends.base import compress_payload, decompress_payload
from kombu import serialization

import settled
from settled import codec
from settled.codec import compression
from settled.errors import ConfigurationError, DecodeError
from tests.golden.values import RECORD

ALL = frozenset(codec.SERIALIZERS)
STANDARD = ["gzip", "zlib", "bzip2", "bzip", "lzma", "xz", "application/x-gzip"]
EXTRA = ["brotli", "zstd", "zstandard", "application/zstd"]
CHORD_PART = [1, str(RECORD["task_id"]), "SUCCESS", {"rows": [1, 2.5, "three"]}]


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where neither brotli nor zstd is installed."""
    compression._library.cache_clear()
    monkeypatch.setattr(compression, "find_spec", lambda _name: None)
    yield
    compression._library.cache_clear()


def _installed(method: str) -> str:
    if method in EXTRA:
        pytest.importorskip("backports.zstd" if "z" in method else "brotli")
    return method


@pytest.mark.parametrize("method", [*STANDARD, *EXTRA])
@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle", "yaml"])
@pytest.mark.parametrize("value", [RECORD, CHORD_PART], ids=["record", "part"])
def test_celery_reads_what_we_compress_and_we_what_it_does(method, serializer, value):
    payload = codec.encode(value, serializer)
    packed = compression.compress(payload, _installed(method))
    assert packed.startswith(compression.MARKER)
    assert decompress_payload(packed) == payload
    content_type = codec.SERIALIZERS[serializer]
    assert serialization.loads(decompress_payload(packed), content_type, "utf-8", force=True) == value
    _, _, theirs = serialization.dumps(value, serializer)
    assert codec.decode(compress_payload(theirs, method), ALL, serializer) == value
    assert codec.serializer_of(packed, serializer) == serializer


@pytest.mark.parametrize("method", STANDARD)
def test_the_bytes_are_celerys(method):
    assert compression.compress(b"{}" * 99, method) == compress_payload(b"{}" * 99, method)


def test_every_method_of_kombu_is_known():
    names = {name for name in kombu.compression._aliases if "/" not in name}
    assert names <= compression.METHODS.keys()
    assert {compression.METHODS[name] for name in names} == set(kombu.compression.encoders())


def test_a_header_inside_compression():
    assert codec.decode(compression.compress(codec.encode(5, "msgpack"), "gzip"), ALL) == 5


def test_an_unknown_compression_to_write():
    with pytest.raises(ConfigurationError, match="'lz4'; known are gzip, zlib"):
        compression.compress(b"{}", "lz4")


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize(
    ("method", "requirement"), [("brotli", r"brotli>=1\.2"), ("zstd", r"backports\.zstd")]
)
def test_a_library_that_is_missing_is_named_on_both_sides(method, requirement):
    with pytest.raises(ConfigurationError, match=f"pip install '{requirement}'"):
        settled.connect("memory://", result_compression=method)
    content_type = compression.METHODS[method].encode()
    with pytest.raises(DecodeError, match=f"pip install '{requirement}'"):
        codec.decode(compression.MARKER + content_type + b"\0body", ALL)


def test_a_brotli_that_cannot_stop_at_a_limit_is_as_good_as_none(monkeypatch):
    old = ModuleType("brotli")
    old.Decompressor = object  # type: ignore[attr-defined]
    monkeypatch.setattr(compression, "find_spec", lambda name: name if name == "brotli" else None)
    monkeypatch.setitem(sys.modules, "brotli", old)
    compression._library.cache_clear()
    with pytest.raises(ConfigurationError, match=r"'brotli>=1\.2'"):
        compression.method_of("brotli")
    compression._library.cache_clear()


@pytest.mark.parametrize("name", [b"application/x-lz4", b"", b"\xff"])
def test_an_unknown_compression_to_read(name):
    with pytest.raises(DecodeError, match=r"compressed as .*application/x-gzip"):
        codec.decode(compression.MARKER + name + b"\0body", ALL)


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma", "brotli", "zstd"])
@pytest.mark.parametrize(
    "damage",
    [lambda body: body[:-5], lambda body: body + b"more", lambda body: b"\0" + body, lambda body: b""],
)
def test_a_damaged_body(method, damage):
    packed = compression.compress(b'{"a": 1}' * 40, _installed(method))
    start = packed.index(b"\0", len(compression.MARKER)) + 1
    with pytest.raises(DecodeError, match="damaged application/"):
        codec.decode(packed[:start] + damage(packed[start:]), ALL)


@pytest.mark.parametrize(
    ("content_type", "pack"),
    [
        (b"application/x-gzip", zlib.compress),
        (b"application/x-bz2", bz2.compress),
        (b"application/x-lzma", lzma.compress),
    ],
)
def test_a_bomb_is_refused_before_it_goes_off(content_type, pack):
    body = compression.MARKER + content_type + b"\0" + pack(b" " * 100_001)
    assert compression.decompress(body, 100_001) == b" " * 100_001
    with pytest.raises(DecodeError, match="holds more than 100,000"):
        compression.decompress(body, 100_000)


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma", "brotli", "zstd"])
def test_a_bomb_takes_little_more_memory_than_its_limit(method):
    content = b" " * 64_000_000
    body = compression.compress(content, _installed(method))
    assert compression.decompress(body, len(content)) == content
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="holds more than 100,000"):
            compression.decompress(body, 100_000)
        assert tracemalloc.get_traced_memory()[1] < 16_000_000  # lzma's window takes half of that
    finally:
        tracemalloc.stop()


def test_compression_inside_compression_is_refused():
    twice = compression.compress(compression.compress(b"{}", "gzip"), "gzip")
    with pytest.raises(DecodeError):
        codec.decode(twice, ALL)


def test_a_backend_compresses_what_it_writes_and_reads_without_the_setting(tmp_path):
    url = f"sqlite:///{tmp_path}/results.db"
    packing, plain = settled.connect(url, result_compression="gzip"), settled.connect(url)
    packing.store_result("a", "x" * 5000, "SUCCESS")
    packing.save_group("g", packing.app.GroupResult("g", [packing.app.AsyncResult("a")]))
    try:
        assert plain.get_result("a") == "x" * 5000
        assert plain.restore_group("g").results[0].id == "a"
        assert len(packing.encode("x" * 5000)) < 200
        assert {row.size < 400 for row in plain.query()} == {True}
    finally:
        packing.close()
        plain.close()


def test_a_backend_names_a_compression_that_is_unknown():
    with pytest.raises(ConfigurationError, match="unknown compression 'lz4'; known are gzip"):
        settled.connect("memory://", result_compression="lz4")
