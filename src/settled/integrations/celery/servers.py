"""Where a Redis server is: Celery's URL and its `redis_*` settings, as the engine wants them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from settled.errors import ConfigurationError
from settled.url import Location, count, parse, seconds

T = TypeVar("T")

Read: TypeAlias = Callable[[str], object]
"""One setting by its name; None where it is not set, or set to Celery's own default."""

SOCKETS = {"redis+socket": "unix", "socket": "unix"}
"""Celery's schemes for sockets."""

SENTINELS = frozenset(
    {"sentinel", "redis+sentinel", "rediss+sentinel", "valkey+sentinel", "valkeys+sentinel"}
)
_WITH_TLS = {
    "redis": "rediss",
    "valkey": "valkeys",
    "sentinel": "rediss+sentinel",
    "redis+sentinel": "rediss+sentinel",
    "valkey+sentinel": "valkeys+sentinel",
    "redis+cluster": "rediss+cluster",
    "valkey+cluster": "valkeys+cluster",
}

OPTIONS: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "redis_socket_timeout": ("socket_timeout", seconds),
    "redis_socket_connect_timeout": ("socket_connect_timeout", seconds),
    "redis_max_connections": ("max_connections", count),
    "redis_client_name": ("client_name", str),
}
"""Setting -> the engine's option and what reads its value."""

NOT_NEEDED = frozenset(
    """
    socket_keepalive socket_keepalive_options retry_on_timeout retry_on_error health_check_interval timeout protocol
    legacy_responses socket_read_size encoding encoding_errors decode_responses lib_name lib_version
    """.split()
)
"""What redis-py takes in a URL and the engine has no need of: answers are bytes, within `socket_timeout`, and one
layer tries again after every error that may pass."""

TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_CERT_REQS = {ssl.CERT_REQUIRED: "required", ssl.CERT_OPTIONAL: "optional", ssl.CERT_NONE: "none"}

NO_CREDENTIAL_PROVIDER = (
    "{name}: settled's connections log in with a user name and a password and ask no credential provider: write "
    "them into the URL or into redis_username and redis_password, or give the server a client certificate"
)


def redis_store(location: Location, read: Read) -> tuple[str, dict[str, object]]:
    """The engine's URL and options for Celery's `location`: the URL counts before the settings.

    As with Celery, `redis_db` counts only for a socket: the path of a URL names the database, and none is 0.

    Raises:
        ConfigurationError: something in them has no counterpart.
    """
    given = {name: value for name, value in location.options.items() if name not in NOT_NEEDED}
    if given.pop("credential_provider", None):
        raise ConfigurationError(NO_CREDENTIAL_PROVIDER.format(name="credential_provider in the URL"))
    if read("redis_backend_credential_provider"):
        raise ConfigurationError(NO_CREDENTIAL_PROVIDER.format(name="redis_backend_credential_provider"))
    scheme = SOCKETS.get(location.scheme, location.scheme)
    options = {
        option: checked(setting, value, reader)
        for setting, (option, reader) in OPTIONS.items()
        if (value := read(setting)) and option not in given
    }
    tls = _tls(read("redis_backend_use_ssl"), scheme)
    if tls is not None:
        scheme = _WITH_TLS.get(scheme, scheme)
        options |= {name: value for name, value in tls.items() if name not in given}
    username = given.pop("username", None) or location.username or read("redis_username")
    password = given.pop("password", None) or location.password or read("redis_password")
    path = _path(location, scheme, given, read)
    user = _user(username, password)
    text = f"{scheme}://{user}{','.join(_hosts(location, scheme, read))}{quote(path)}"
    return (f"{text}?{urlencode(given)}" if given else text), options


def checked(setting: str, value: object, reader: Callable[..., T]) -> T:
    """A setting's value, read; ConfigurationError names the setting."""
    try:
        return reader(value)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"the setting {setting}={value!r:.80} is not usable: {exc}") from exc


def _user(username: object, password: object) -> str:
    if not username and not password:
        return ""
    secret = f":{quote(str(password), safe='')}" if password else ""
    return f"{quote(str(username or ''), safe='')}{secret}@"


def _hosts(location: Location, scheme: str, read: Read) -> Iterable[str]:
    """host:port of each server, the settings' where the URL says none; nothing for a socket."""
    if scheme == "unix":
        return
    port: object = None
    if scheme not in SENTINELS and "+" not in scheme:
        port = checked("redis_port", read("redis_port") or 6379, int)
    for host, own in location.hosts or ((_own_host(read), None),):
        shown = f"[{host}]" if ":" in host else host
        yield f"{shown}:{own or port}" if own or port else shown


def _own_host(read: Read) -> str:
    host = str(read("redis_host") or "localhost")
    if "://" in host:
        raise ConfigurationError("redis_host is a URL: write it into result_backend, after 'settled+'")
    return host


def _path(location: Location, scheme: str, given: dict[str, str], read: Read) -> str:
    """The URL's path, and for a socket the database's number in `given`."""
    virtual_host, db = given.pop("virtual_host", None), given.pop("db", None)
    if scheme == "unix":
        number = db or virtual_host or read("redis_db")
        if number:
            given["db"] = str(number).strip("/")
        return location.path
    return location.path if db is None else f"/{db}"


def _tls(value: object, scheme: str) -> dict[str, object] | None:
    """The engine's `ssl_` options for the setting `redis_backend_use_ssl`; None where there is no TLS in it."""
    if not value:
        return None
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"redis_backend_use_ssl must be a dict such as {{'ssl_cert_reqs': 'required'}}, not {value!r:.80}"
        )
    if scheme == "unix":
        raise ConfigurationError("redis_backend_use_ssl: there is no TLS over a socket; remove the setting")
    unknown = sorted(str(name) for name in value if name not in TLS_OPTIONS)
    if unknown:
        raise ConfigurationError(
            f"redis_backend_use_ssl: settled's connections take no {', '.join(unknown)}; there are "
            f"{', '.join(TLS_OPTIONS)}"
        )
    options = {str(name): each for name, each in value.items() if each is not None}
    reqs = options.get("ssl_cert_reqs")
    if isinstance(reqs, int):
        options["ssl_cert_reqs"] = _CERT_REQS.get(ssl.VerifyMode(reqs), reqs)
    return options


def read_location(url: str) -> Location:
    """Celery's URL, without `settled+`, cut into its parts; ConfigurationError says what to write instead."""
    if "://" not in url:
        raise ConfigurationError(
            "result_backend names no store: write 'settled+redis://host:6379/0' or 'settled+sqlite:///results.db'"
        )
    location = parse(url)
    kind, plus, inner = location.scheme.partition("+")
    if plus and kind in ("db", "cache"):
        path = quote(location.path) if inner == "sqlite" else "/results.db"
        instead = f"'settled+sqlite://{path}'"
        raise ConfigurationError(
            f"settled+{location.scheme}:// is no store of settled: write {instead}"
            + ("" if inner == "sqlite" else " or 'settled+redis://host:6379/0'")
        )
    return location
