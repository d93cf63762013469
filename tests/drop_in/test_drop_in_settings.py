"""Celery's settings, one by one: honoured, refused with the way out, or without need."""

from __future__ import annotations

import inspect
import json
import logging
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import celery.backends.base
import celery.backends.redis
import kombu.serialization
import kombu.transport.redis
import kombu.utils.json as kombu_json
import pytest
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten

from settled import codec
from settled.app import engine_class
from settled.codec import serializers as codec_serializers
from settled.codec import tags
from settled.errors import ConfigurationError
from settled.integrations.celery import settings as ours
from settled.integrations.celery.settings import EngineSettings, engine_settings

REDIS = "redis://host:6379/0"
SQLITE = "sqlite:///results.db"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "celery-settings.md"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Nothing that a test registers, with kombu or the codec, is there for the next one."""
    registry = kombu.serialization.registry
    tables = (registry._encoders, registry._decoders, registry.type_to_name, registry.name_to_type)
    types = (kombu_json._encoders, kombu_json._decoders)
    codecs = (
        codec_serializers._content_types,
        codec_serializers.NAMES,
        codec_serializers.ENCODERS,
        codec_serializers.DECODERS,
    )
    kept = [(table, dict(table)) for table in (*tables, *types, *codecs)]
    registered = set(codec_serializers.REGISTERED)
    yield
    for table, before in kept:
        table.clear()
        table.update(before)
    codec_serializers.REGISTERED.clear()
    codec_serializers.REGISTERED.update(registered)
    tags.share_types({}, {})


def read(url: str = REDIS, given: dict[str, object] | None = None, **conf: object) -> EngineSettings:
    """Settings of a Celery app, and an engine made with them, which must take them."""
    app = Celery("settings", set_as_current=False)
    app.conf.update(conf)
    settings = engine_settings(app.conf, url, **(given or {}))
    engine = engine_class(settings.url)(
        SimpleNamespace(conf=settings.conf, AsyncResult=None, GroupResult=None),
        url=settings.url,
        **settings.options,
    )
    engine.close()
    return settings


def transport(**options: object) -> dict[str, object]:
    return {"result_backend_transport_options": options}


# -- every setting there is --------------------------------------------------------------------------


def test_every_setting_of_this_celery_has_its_place():
    names = {name for name, _ in flatten({n: NAMESPACES[n] for n in ("result", "redis")})}
    names |= {"accept_content", "result_accept_content"}
    assert names - (ours.HONOURED | ours.NOT_NEEDED) == set()


def test_so_has_every_setting_that_celerys_backends_read_without_listing_it():
    source = "".join(inspect.getsource(module) for module in (celery.backends.base, celery.backends.redis))
    found = set(re.findall(r"""_?get\(\s*['"]((?:redis|result)_\w+)['"]""", source))
    found |= set(re.findall(r"conf\.((?:redis|result)_\w+)", source))
    found -= ours.TRANSPORT_OPTIONS
    assert "redis_client_name" in found
    assert found - (ours.HONOURED | ours.NOT_NEEDED) == set()


def test_so_has_every_transport_option():
    broker = set(kombu.transport.redis.SentinelChannel.from_transport_options)
    assert broker - ours.BROKER_OPTIONS - ours.TRANSPORT_OPTIONS == set()
    source = inspect.getsource(celery.backends.redis)
    results = set(re.findall(r"_?transport_options\.get\(\s*['\"](\w+)['\"]", source))
    assert "master_name" in results
    assert results - ours.TRANSPORT_OPTIONS == set()


def test_the_page_names_them_all():
    page = PAGE.read_text()
    named = set(re.findall(r"`([a-z_]+)`", page))
    assert (ours.HONOURED | ours.NOT_NEEDED | ours.TRANSPORT_OPTIONS) - named == set()


# -- what is read whatever the engine ----------------------------------------------------------------


@pytest.mark.parametrize("url", [REDIS, SQLITE, "memory://"])
def test_an_app_that_sets_nothing(url):
    settings = read(url)
    assert settings == EngineSettings(settings.conf, url, {}, None)
    assert dict(settings.conf) == {
        "result_serializer": "json",
        "result_accept_content": ("json",),
        "result_compression": None,
        "result_expires": 86400.0,
        "result_failure_expires": None,
        "result_chord_expires": None,
        "result_cache_max": -1,
        "result_persistent": None,
        "result_extended": False,
        "result_backend_transport_options": {},
    }


@pytest.mark.parametrize(
    ("setting", "given", "meant"),
    [
        ("result_serializer", "pickle", "pickle"),
        ("result_serializer", "application/x-msgpack", "msgpack"),
        ("result_serializer", "yaml", "yaml"),
        ("result_accept_content", ["json", "pickle"], ("json", "pickle")),
        ("result_accept_content", ["application/x-yaml"], ("yaml",)),
        ("result_accept_content", "json, msgpack", ("json", "msgpack")),
        ("result_compression", "bzip2", "application/x-bz2"),
        ("result_compression", "application/x-lzma", "application/x-lzma"),
        ("result_compression", "", None),
        ("result_expires", timedelta(hours=1), 3600.0),
        ("result_expires", 90, 90.0),
        ("result_expires", "90", 90.0),
        ("result_expires", 0.5, 0.5),
        ("result_expires", 0, 0.0),
        ("result_expires", None, None),
        ("result_failure_expires", timedelta(minutes=1), 60.0),
        ("result_failure_expires", 0, 0.0),
        ("result_chord_expires", timedelta(days=2), 172800.0),
        ("result_chord_expires", 0, 0.0),
        ("result_cache_max", 100, 100),
        ("result_cache_max", 0, 0),
        ("result_cache_max", None, 0),
        ("result_cache_max", "7", 7),
        ("result_persistent", True, True),
        ("result_extended", True, True),
    ],
)
def test_a_setting_the_engine_reads(setting, given, meant):
    value = read(SQLITE, **{setting: given}).conf[setting]
    assert (
        (set(value), len(value)) == (set(meant), len(meant)) if isinstance(meant, tuple) else value == meant
    )


def test_accept_content_counts_where_that_of_results_is_not_set():
    assert set(read(accept_content=["json", "pickle"]).conf["result_accept_content"]) == {"json", "pickle"}
    settings = read(accept_content=["pickle"], result_accept_content=["json"])
    assert settings.conf["result_accept_content"] == ("json",)


def test_arguments_of_the_backend_count_before_the_settings():
    given = {"serializer": "pickle", "accept": ["pickle"], "expires": timedelta(seconds=5)}
    conf = read(given=given, result_serializer="json", result_expires=9).conf
    assert (conf["result_serializer"], conf["result_accept_content"]) == ("pickle", ("pickle",))
    assert conf["result_expires"] == 5.0


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"result_serializer": "avro"}, r"result_serializer: 'avro' cannot be used here: there are json"),
        ({"result_accept_content": []}, r"result_accept_content names nothing .*empty.*add 'json'"),
        ({"accept_content": ["avro"]}, r"accept_content names nothing .*avro.*add 'json'"),
        ({"accept_content": 5}, r"accept_content must be a list"),
        ({"result_compression": "lz4"}, r"result_compression: unknown compression 'lz4'; known are gzip"),
        ({"result_expires": -1}, r"result_expires=-1 must be seconds.*None or 0"),
        ({"result_expires": "soon"}, r"result_expires='soon' is not usable"),
        ({"result_failure_expires": True}, r"result_failure_expires=True must be seconds"),
        ({"result_cache_max": -5}, r"result_cache_max=-5 must be -1"),
        ({"result_cache_max": "many"}, r"result_cache_max='many' is not usable"),
        ({"result_backend_transport_options": "x"}, "result_backend_transport_options must be a dict"),
        (transport(global_keyprefix=5), "global_keyprefix must be a str"),
        (transport(retry_policy=5), "retry_policy must be a dict"),
        (transport(retry_policy={"max_retries": "x"}), "max_retries='x' is not usable"),
        ({"redis_backend_use_ssl": True}, "redis_backend_use_ssl must be a dict"),
        ({"redis_backend_use_ssl": {"ssl_password": "x"}}, "take no ssl_password; there are ssl_ca_certs"),
        ({"redis_backend_credential_provider": "a.B"}, "redis_backend_credential_provider: .* user name"),
        ({"redis_socket_timeout": "x"}, "redis_socket_timeout='x' is not usable"),
        ({"redis_max_connections": -1}, "redis_max_connections=-1 is not usable"),
        ({"redis_host": "redis://x"}, "redis_host is a URL"),
        ({"redis_port": "x"}, "redis_port='x' is not usable"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_its_name(conf, said):
    with pytest.raises(ConfigurationError, match=said):
        read("redis://", **conf)


@pytest.mark.parametrize(
    "conf",
    [
        {"result_exchange": "x", "result_exchange_type": "topic"},
        {"result_chord_join_timeout": None, "result_chord_retry_interval": 5},
        {"result_backend_thread_safe": False},
        {"redis_retry_on_timeout": True, "redis_socket_keepalive": True},
        {"redis_backend_health_check_interval": 30},
        {"redis_socket_timeout": 120.0, "redis_socket_connect_timeout": None},
        transport(visibility_timeout=3600, fanout_prefix=True, socket_keepalive=True, socket_timeout=3),
    ],
)
def test_what_has_nothing_to_do_here_changes_nothing(conf, caplog):
    before = read()
    settings = read(**conf)
    assert (settings.url, settings.options, settings.retry_deadline) == (before.url, {}, None)
    assert not caplog.records


# -- serializers and types of the program ------------------------------------------------------------


@dataclass(frozen=True)
class Money:
    cents: int


def _dump(value: object) -> str:
    return json.dumps(value, default=lambda money: {"money": money.cents})


def _load(payload: bytes) -> object:
    return json.loads(payload, object_hook=lambda form: Money(form["money"]) if "money" in form else form)


@pytest.mark.parametrize("content_type", ["application/x-mine", "application/json"])
def test_a_serializer_registered_with_kombu(content_type):
    kombu.serialization.register("mine", _dump, _load, content_type)
    conf = read(result_serializer="mine", accept_content=["mine"]).conf
    assert conf["result_serializer"] == "mine"
    accept = codec.accept_set(conf["result_accept_content"])
    assert "mine" in accept
    payload = codec.encode([Money(5)], "mine")
    assert payload == _dump([Money(5)]).encode()
    assert codec.decode(payload, accept, "mine") == [Money(5)]


def test_a_serializer_in_the_place_of_kombus_json():
    kombu.serialization.register("json", _dump, _load, "application/json", "utf-8")
    conf = read().conf
    name = conf["result_serializer"]
    assert name == "json (registered)"
    payload = codec.encode([Money(5)], name)
    assert payload == b'[{"money": 5}]'
    assert codec.decode(payload, codec.accept_set(conf["result_accept_content"]), name) == [Money(5)]
    assert codec.decode(codec.encode({"a": 1}, "json"), frozenset({"json"})) == {"a": 1}


def test_a_decoder_alone_in_the_place_of_kombus():
    kombu.serialization.register("other", None, _load, "application/json", "utf-8")
    conf = read().conf
    accept = codec.accept_set(conf["result_accept_content"])
    assert codec.decode(b'[{"money": 5}]', accept, conf["result_serializer"]) == [Money(5)]


def test_a_serializer_that_can_only_write_is_refused():
    kombu.serialization.register("mine", _dump, None, "application/x-mine")
    with pytest.raises(ConfigurationError, match=r"'mine' cannot be used here: .*encoder and decoder"):
        read(result_serializer="mine")


def test_content_that_nobody_knows_is_ignored_with_one_warning(caplog):
    conf = read(accept_content=["json", "application/data", "text/html"]).conf
    assert conf["result_accept_content"] == ("json",)
    [record] = caplog.records
    assert record.getMessage() == (
        "accept_content: application/data, text/html cannot be read here and is ignored"
    )


def test_yaml_without_its_library(monkeypatch, caplog):
    monkeypatch.setattr(codec_serializers.yaml, "find_spec", lambda _name: None)
    assert read(accept_content=["json", "yaml"]).conf["result_accept_content"] == ("json",)
    assert "application/x-yaml cannot be read here" in caplog.text
    with pytest.raises(ConfigurationError, match=r"result_serializer: 'yaml' .*pip install pyyaml"):
        read(result_serializer="yaml", accept_content=["json", "yaml"])


def test_types_registered_with_kombu_are_stored_in_its_form():
    read()
    kombu_json.register_type(Money, "money", lambda money: money.cents, Money)
    payload = codec.encode({"price": Money(5)}, "json")
    assert kombu_json.loads(payload) == {"price": Money(5)}
    assert codec.decode(kombu_json.dumps({"price": Money(5)}).encode(), frozenset({"json"})) == {
        "price": Money(5)
    }


# -- where the server is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "conf", "complete"),
    [
        ("redis://", {}, "redis://localhost:6379"),
        ("redis://host", {}, "redis://host:6379"),
        ("redis://host:1/2", {"redis_host": "other", "redis_port": 9, "redis_db": 5}, "redis://host:1/2"),
        ("redis://", {"redis_host": "h", "redis_port": "9"}, "redis://h:9"),
        ("redis://host", {"redis_port": 9, "redis_db": 5}, "redis://host:9"),
        ("redis://[::1]/1", {}, "redis://[::1]:6379/1"),
        ("redis://host/0", {"redis_password": "p@:/"}, "redis://:p%40%3A%2F@host:6379/0"),
        ("redis://u@host/0", {"redis_username": "v", "redis_password": "p"}, "redis://u:p@host:6379/0"),
        ("redis://host/0", {"redis_username": "v"}, "redis://v@host:6379/0"),
        ("redis://:p%40w@host/0", {"redis_password": "q"}, "redis://:p%40w@host:6379/0"),
        ("redis://host/0?password=q&username=u", {}, "redis://u:q@host:6379/0"),
        ("redis://host/0?db=3", {}, "redis://host:6379/3"),
        ("redis://host/1?virtual_host=3", {}, "redis://host:6379/1"),
        ("valkey://host/1", {"redis_port": 9}, "valkey://host:9/1"),
        ("socket:///run/r.sock", {}, "unix:///run/r.sock"),
        ("redis+socket:///run/r.sock?virtual_host=2", {"redis_db": 5}, "unix:///run/r.sock?db=2"),
        ("redis+socket:///run/r.sock", {"redis_db": 5, "redis_password": "p"}, "unix://:p@/run/r.sock?db=5"),
        ("redis+cluster://a,b:7/", {"redis_port": 9}, "redis+cluster://a,b:7/"),
        (
            "sentinel://:p@a:1/3;sentinel://b:2/3",
            {"redis_port": 9, "redis_host": "x"},
            "sentinel://:p@a:1,b:2/3",
        ),
        ("sentinel://a:1/3;sentinel://b:2/3", {"redis_password": "p"}, "sentinel://:p@a:1,b:2/3"),
        ("redis://host/0?prefix=a_&index=true", {}, "redis://host:6379/0?prefix=a_&index=true"),
        (
            "redis://host/0?socket_keepalive=true&retry_on_timeout=true&health_check_interval=5&timeout=3&protocol=3",
            {},
            "redis://host:6379/0",
        ),
        ("redis://host/0", {"redis_backend_use_ssl": {}}, "redis://host:6379/0"),
        ("redis://host/0", {"redis_backend_use_ssl": {"ssl_cert_reqs": "none"}}, "rediss://host:6379/0"),
        ("sentinel://a:1/0", {"redis_backend_use_ssl": {"ssl_cert_reqs": "none"}}, "rediss+sentinel://a:1/0"),
        ("rediss://host/0?ssl_cert_reqs=CERT_NONE", {}, "rediss://host:6379/0?ssl_cert_reqs=CERT_NONE"),
        ("sqlite:///a.db", {"redis_host": "x", "redis_backend_use_ssl": True}, "sqlite:///a.db"),
    ],
)
def test_the_url_is_made_whole(url, conf, complete):
    assert read(url, **conf).url.removesuffix("/") == complete.removesuffix("/")


@pytest.mark.parametrize(
    ("url", "conf"),
    [
        ("redis://host:1/2", {"redis_host": "other", "redis_port": 9, "redis_db": 5}),
        ("redis://", {"redis_host": "h", "redis_port": 9, "redis_db": 5}),
        ("redis://u@host", {"redis_port": 9, "redis_username": "v", "redis_password": "p", "redis_db": 5}),
        ("redis://host/0?db=3", {"redis_db": 5}),
        ("redis://host/1?virtual_host=3", {}),
        ("redis://:p%40w@host?socket_timeout=7", {"redis_password": "q", "redis_socket_timeout": 9}),
        ("socket:///run/r.sock?virtual_host=2", {"redis_db": 5}),
        ("socket:///run/r.sock", {"redis_db": 5, "redis_password": "p"}),
        ("redis://h", {"redis_socket_timeout": 9, "redis_client_name": "me", "redis_max_connections": 3}),
    ],
)
def test_it_is_the_server_that_celerys_own_backend_would_use(url, conf):
    app = Celery("settings", set_as_current=False)
    app.conf.update(conf)
    theirs = celery.backends.redis.RedisBackend(app=app, url=url).connparams
    settings = read(url, **conf)
    engine = engine_class(settings.url)(
        SimpleNamespace(conf=settings.conf, AsyncResult=None, GroupResult=None),
        url=settings.url,
        **settings.options,
    )
    location = engine.location
    assert theirs.get("host") == location.host
    assert theirs.get("port") == location.port
    assert theirs.get("path", "") == (location.path if location.scheme == "unix" else "")
    assert (theirs.get("username"), theirs.get("password")) == (location.username, location.password)
    database = engine.options.get("db") if location.scheme == "unix" else location.path.strip("/")
    assert theirs["db"] == int(database or 0)
    for name in ("socket_timeout", "client_name", "max_connections"):
        if theirs[name] not in (None, 120.0):
            assert theirs[name] == engine.options[name]


@pytest.mark.parametrize(
    ("url", "conf", "options"),
    [
        (REDIS, {"redis_socket_timeout": 30}, {"socket_timeout": 30.0}),
        (REDIS, {"redis_socket_timeout": None}, {}),
        (REDIS, {"redis_socket_connect_timeout": "3"}, {"socket_connect_timeout": 3.0}),
        (
            REDIS,
            {"redis_max_connections": 7, "redis_client_name": "me"},
            {"max_connections": 7, "client_name": "me"},
        ),
        (
            "redis://h/0?socket_timeout=2&max_connections=4",
            {"redis_socket_timeout": 30, "redis_max_connections": 7},
            {},
        ),
        (REDIS, transport(global_keyprefix="app"), {"prefix": "app_"}),
        (REDIS, transport(global_keyprefix="app:"), {"prefix": "app:"}),
        ("redis://h/0?prefix=mine.", transport(global_keyprefix="app:"), {}),
        (SQLITE, transport(global_keyprefix="app", master_name="x"), {}),
        (REDIS, transport(master_name="x"), {}),
        (
            REDIS,
            {
                "redis_backend_use_ssl": {
                    "ssl_cert_reqs": ssl.CERT_OPTIONAL,
                    "ssl_ca_certs": "/ca",
                    "ssl_keyfile": None,
                }
            },
            {"ssl_cert_reqs": "optional", "ssl_ca_certs": "/ca"},
        ),
        (REDIS, {"redis_backend_use_ssl": {"ssl_cert_reqs": 0}}, {"ssl_cert_reqs": "none"}),
        (
            "rediss://h/0?ssl_cert_reqs=required",
            {
                "redis_backend_use_ssl": {
                    "ssl_cert_reqs": "CERT_NONE",
                    "ssl_certfile": "/c",
                    "ssl_check_hostname": False,
                }
            },
            {"ssl_certfile": "/c", "ssl_check_hostname": False},
        ),
        (
            "sentinel://a:1/0",
            transport(
                master_name="x", sentinel_kwargs={"password": "s", "username": "u", "socket_timeout": 1}
            ),
            {"master_name": "x", "sentinel_password": "s", "sentinel_username": "u"},
        ),
        ("sentinel://a:1/0?master_name=y", transport(master_name="x"), {}),
        ("rediss+sentinel://a:1/0", transport(sentinel_kwargs={"ssl": True}), {}),
    ],
)
def test_settings_that_become_options(url, conf, options):
    assert read(url, **conf).options == options


@pytest.mark.parametrize(
    ("url", "conf", "said"),
    [
        ("None", {}, "result_backend names no store: write 'settled"),
        ("redis", {}, "result_backend names no store"),
        ("db+sqlite:///var/a.db", {}, r"write 'settled\+sqlite:///var/a.db'$"),
        (
            "db+postgresql://u:secret@h/d",
            {},
            r"settled\+db\+postgresql:// is no store of settled: write .*sqlite",
        ),
        ("cache+memcached://h/", {}, "is no store of settled"),
        ("mongodb://h", {}, "no engine for mongodb://"),
        ("redis://h/0?credential_provider=a.B", {}, "credential_provider in the URL: "),
        ("redis://h/0?sockettimeout=5", {}, "did you mean 'socket_timeout'"),
        ("redis://h/0?ssl_ca_certs=x", {}, "write rediss://"),
        (
            "socket:///run/r.sock",
            {"redis_backend_use_ssl": {"ssl_cert_reqs": "none"}},
            "no TLS over a socket",
        ),
        ("sentinel://a:1/0", transport(min_other_sentinels=1), "min_other_sentinels: "),
        (
            "sentinel://a:1/0",
            transport(sentinel_kwargs={"ssl": True}),
            r"ssl is for TLS: write rediss\+sentinel://",
        ),
        ("sentinel://a:1/0", transport(sentinel_kwargs={"db": 1}), "takes username and password, not db"),
        ("sentinel://a:1/0", transport(sentinel_kwargs=5), "sentinel_kwargs must be a dict"),
    ],
)
def test_a_url_that_cannot_be_honoured(url, conf, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        read(url, **conf)
    assert "secret" not in str(caught.value)


def test_transport_options_that_are_lost_are_told_of(caplog):
    caplog.set_level(logging.WARNING)
    settings = read(
        **transport(additional_connection_errors=["a.B"], chord_order=1, result_chord_ordered=False)
    )
    lost, ignored = (record.getMessage() for record in caplog.records)
    assert "chord_order is not known" in lost
    assert "additional_connection_errors is ignored" in ignored
    options = settings.conf["result_backend_transport_options"]
    assert options["result_chord_ordered"] is False  # type: ignore[index]


# -- how long to try again ---------------------------------------------------------------------------


ALWAYS = {"result_backend_always_retry": True}


@pytest.mark.parametrize(
    ("url", "conf", "deadline"),
    [
        (SQLITE, {}, None),
        (SQLITE, {"result_backend_max_retries": 3}, None),
        (SQLITE, ALWAYS, float("inf")),
        (SQLITE, {**ALWAYS, "result_backend_max_retries": 3}, 10.0),
        # 10 ms doubled up to 10 s: 20 + 40 + ... + 5,120 ms, then 10 s for each of the other eleven.
        (SQLITE, {**ALWAYS, "result_backend_max_retries": 20}, 120.22),
        (
            SQLITE,
            {
                **ALWAYS,
                "result_backend_max_retries": 10**12,
                "result_backend_base_sleep_between_retries_ms": 1000,
                "result_backend_max_sleep_between_retries_ms": 1000,
            },
            1e12,
        ),
        (SQLITE, transport(retry_policy={"max_retries": 3}), None),
        (REDIS, ALWAYS, None),
        (REDIS, transport(retry_policy={"timeout": 5.0}), 5.0),
        (REDIS, transport(retry_policy={"max_retries": 3}), 2.0),
        (REDIS, transport(retry_policy={"max_retries": 0}), 0.0),
        (REDIS, transport(retry_policy={"max_retries": 5, "interval_start": 1, "interval_max": 3}), 12.0),
        (REDIS, transport(retry_policy={"max_retries": None}), None),
        (REDIS, transport(retry_policy={"max_retries": None, "timeout": 60}), 60.0),
    ],
)
def test_how_long_an_engine_tries_again(url, conf, deadline):
    found = read(url, **conf).retry_deadline
    assert found == (None if deadline is None else pytest.approx(deadline))


# -- both backends on one store ----------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "gzip", "xz"])
@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle", "yaml", "mine"])
def test_celerys_backend_and_ours_read_each_other(server, serializer, compression):
    kombu.serialization.register("mine", _dump, _load, "application/x-mine")
    conf = {
        "result_serializer": serializer,
        "result_accept_content": [serializer],
        "result_compression": compression,
        "result_expires": 300,
        **transport(global_keyprefix="app"),
    }
    backends = []
    for prefix in ("", "settled+"):
        app = Celery("settings", set_as_current=False)
        app.conf.update(conf, result_backend=prefix + server.url)
        backends.append(app.backend)
    celerys, settleds = backends
    value = {"rows": [1, 2.5, "three"] * 50, "total": 3}
    for writer, reader in ((celerys, settleds), (settleds, celerys)):
        task_id = f"by-{type(writer).__module__}"
        writer.store_result(task_id, value, "SUCCESS")
        meta = reader.get_task_meta(task_id)
        assert (meta["status"], meta["result"], meta["task_id"]) == ("SUCCESS", value, task_id)
        key = f"app_celery-task-meta-{task_id}".encode()
        assert 0 < server.ask("TTL", key) <= 300
        assert server.ask("GET", key).startswith(b"\0celery-compressed\0") == bool(compression)
        writer.store_result(f"{task_id}-late", None, "STARTED")
        reader.store_result(f"{task_id}-late", ValueError("no"), "FAILURE")
        assert writer.get_task_meta(f"{task_id}-late", cache=False)["status"] == "FAILURE"
    settleds.store_result(f"by-{type(celerys).__module__}", None, "STARTED")
    assert celerys.get_task_meta(f"by-{type(celerys).__module__}", cache=False)["status"] == "SUCCESS"
    settleds.engine.close()
