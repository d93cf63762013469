"""Celery's settings for result backends, as the engine reads them. See docs/reference/celery-settings.md."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from celery.app.defaults import DEFAULTS

from settled.app import ENGINES, Settings, engine_class
from settled.codec import compression
from settled.errors import ConfigurationError
from settled.integrations.celery import patience, serializers
from settled.integrations.celery.patience import Conf
from settled.integrations.celery.servers import (
    OPTIONS,
    SENTINELS,
    SOCKETS,
    checked,
    read_location,
    redis_store,
)

log = logging.getLogger("settled.celery")

HONOURED = frozenset(
    """
    result_backend result_serializer result_accept_content accept_content result_compression result_expires
    result_failure_expires result_chord_expires result_cache_max result_persistent result_extended
    result_backend_always_retry result_backend_max_retries result_backend_base_sleep_between_retries_ms
    result_backend_max_sleep_between_retries_ms result_backend_transport_options
    redis_host redis_port redis_db redis_username redis_password redis_backend_use_ssl
    redis_backend_credential_provider
    """.split()
) | frozenset(OPTIONS)
"""What is read here: honoured, or refused with the way out."""

NOT_NEEDED = frozenset(
    """
    result_exchange result_exchange_type result_chord_join_timeout result_chord_retry_interval
    result_backend_thread_safe redis_retry_on_timeout redis_socket_keepalive redis_backend_health_check_interval
    """.split()
)
"""What has nothing to do here, for a reason that the documentation gives."""

TRANSPORT_OPTIONS = frozenset(
    """
    global_keyprefix retry_policy result_chord_ordered master_name sentinel_kwargs min_other_sentinels
    additional_connection_errors
    """.split()
)
"""Keys of `result_backend_transport_options` that mean something to results."""

BROKER_OPTIONS = frozenset(
    """
    ack_emulation body_encoding client_name deadletter_queue fanout_patterns fanout_prefix health_check_interval
    max_connections polling_interval priority_steps queue_order_strategy retry_on_timeout sentinel_fanout_compat sep
    socket_connect_timeout socket_keepalive socket_keepalive_options socket_timeout unacked_index_key unacked_key
    unacked_mutex_expire unacked_mutex_key unacked_restore_interval unacked_restore_limit unacked_restore_throttle
    visibility_timeout
    """.split()
)
"""Keys that only kombu's broker reads; many programs give both the same dict."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an engine is made with.

    conf: to be read as `app.conf`, names as in `settled.app.KNOWN_SETTINGS` and the transport options.
    url: the store's, with its address and credentials whole.
    options: keywords for the engine.
    retry_deadline: what the engine's attribute is to be set to; None leaves it.
    """

    conf: Settings
    url: str
    options: Mapping[str, object] = field(default_factory=dict)
    retry_deadline: float | None = None


def engine_settings(
    conf: Conf,
    url: str,
    *,
    serializer: object = None,
    accept: object = None,
    expires: object = None,
) -> EngineSettings:
    """What Celery's settings mean for the engine behind `url`, which is without its `settled+`.

    kombu's serializers that they name, and its types, are made known to the codec.

    Args:
        serializer, accept, expires: instead of the settings, as Celery's backends take them.

    Raises:
        ConfigurationError: a setting or a part of the URL cannot be honoured; names it and the way out.
    """
    location = read_location(url)
    transport = _transport(conf)
    options: dict[str, object] = {}
    is_redis = ENGINES.get(SOCKETS.get(location.scheme, location.scheme), "").startswith(_REDIS)
    if is_redis:
        url, options = redis_store(location, lambda name: _set(conf, name))
    engine = engine_class(url)
    if "prefix" in engine.url_options and "prefix" not in location.options:
        options |= _prefix(transport)
    if location.scheme in SENTINELS:
        named = _sentinel(transport, tls=url.startswith(("rediss", "valkeys")))
        options |= {name: value for name, value in named.items() if name not in location.options}
    serializers.share_types()
    return EngineSettings(
        Settings(
            {**_values(conf, serializer, accept, expires), "result_backend_transport_options": transport}
        ),
        url,
        options,
        patience.deadline_of(conf, transport, engine.capabilities.keeps, is_redis),
    )


_REDIS = "settled.backends.redis:"


def _set(conf: Conf, name: str) -> object:
    """A setting's value; None where it is Celery's own default: an engine's own defaults are others."""
    value = conf.get(name)
    return None if value == DEFAULTS.get(name) else value


def _values(conf: Conf, serializer: object, accept: object, expires: object) -> dict[str, object]:
    writes = str(serializer or conf.get("result_serializer") or "json")
    name = serializers.serializer_named(writes)
    return {
        "result_serializer": name,
        "result_accept_content": _accept(conf, accept, writes),
        "result_compression": _compression(conf.get("result_compression")),
        "result_expires": _life(conf.get("result_expires") if expires is None else expires, "result_expires"),
        "result_failure_expires": _life(conf.get("result_failure_expires"), "result_failure_expires"),
        "result_chord_expires": _life(conf.get("result_chord_expires"), "result_chord_expires"),
        "result_cache_max": _cache_max(conf.get("result_cache_max", -1)),
        "result_persistent": conf.get("result_persistent"),
        "result_extended": bool(conf.get("result_extended")),
    }


def _accept(conf: Conf, accept: object, writes: str) -> tuple[str, ...]:
    name = "accept"
    for setting in ("result_accept_content", "accept_content"):
        if accept is None:
            name, accept = setting, conf.get(setting)
    return serializers.accepted(("json",) if accept is None else accept, writes, name)


def _compression(name: object) -> str | None:
    if not name:
        return None
    try:
        return compression.method_of(str(name))
    except ConfigurationError as exc:
        raise ConfigurationError(f"result_compression: {exc}") from exc


def _life(value: object, name: str) -> float | None:
    """Seconds for which a record is kept; None, and 0, for ever."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    number = checked(name, value, float)  # Celery takes text, which an environment gives
    if isinstance(value, bool) or not 0 <= number < float("inf"):
        raise ConfigurationError(
            f"the setting {name}={value!r:.80} must be seconds, 0 or more, or a timedelta; None or 0 keeps for ever"
        )
    return number


def _cache_max(value: object) -> int:
    """-1: none are kept; 0 and None: any number."""
    number = 0 if value is None else checked("result_cache_max", value, int)
    if number < -1:
        raise ConfigurationError(
            f"the setting result_cache_max={number} must be -1 (none are kept), 0 (any number) or more"
        )
    return number


# -- result_backend_transport_options ----------------------------------------------------------------


def _transport(conf: Conf) -> Mapping[str, object]:
    given = conf.get("result_backend_transport_options") or {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"result_backend_transport_options must be a dict, not {given!r:.80}")
    unknown = sorted(str(name) for name in given if name not in TRANSPORT_OPTIONS | BROKER_OPTIONS)
    if unknown:
        log.warning(
            "result_backend_transport_options: %s is not known and is ignored; known are %s",
            ", ".join(unknown),
            ", ".join(sorted(TRANSPORT_OPTIONS)),
        )
    if given.get("additional_connection_errors"):
        log.warning(
            "result_backend_transport_options: additional_connection_errors is ignored: what the server or the "
            "connection raises is classified already, and no other client is used"
        )
    return given


def _prefix(transport: Mapping[str, object]) -> dict[str, object]:
    prefix = transport.get("global_keyprefix")
    if not prefix:
        return {}
    if not isinstance(prefix, str):
        raise ConfigurationError(f"global_keyprefix must be a str, not {prefix!r:.80}")
    return {"prefix": prefix if prefix[-1] in ":_-." else f"{prefix}_"}


def _sentinel(transport: Mapping[str, object], tls: bool) -> dict[str, object]:
    options: dict[str, object] = {}
    if transport.get("master_name"):
        options["master_name"] = transport["master_name"]
    if transport.get("min_other_sentinels"):
        raise ConfigurationError(
            "min_other_sentinels: settled believes the first Sentinel that knows the master; remove the option, and "
            "leave the quorum to the Sentinels"
        )
    given = transport.get("sentinel_kwargs") or {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"sentinel_kwargs must be a dict, not {type(given).__name__}")
    for name, value in given.items():
        if name in ("username", "password"):
            options[f"sentinel_{name}"] = value
        elif name.startswith("ssl") and not tls:
            raise ConfigurationError(
                f"sentinel_kwargs: {name} is for TLS: write rediss+sentinel://, where Sentinels and master use it"
            )
        elif not name.startswith(("ssl", "socket_")):
            raise ConfigurationError(
                f"sentinel_kwargs: settled takes username and password, not {name}: its connections to Sentinels are "
                "otherwise made as those to the master"
            )
    return options
