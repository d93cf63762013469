"""From a backend's URL to connections: servers by address, socket or Sentinel."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Protocol, cast

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from settled.backends.redis import faults
from settled.backends.redis.link import Command, Link
from settled.errors import ConfigurationError, StoreUnavailable
from settled.url import Location, count, one_of, seconds, switch

PORT = 6379
SENTINEL_PORT = 26379

TLS_SCHEMES = frozenset(
    {"rediss", "valkeys", "rediss+cluster", "valkeys+cluster", "rediss+sentinel", "valkeys+sentinel"}
)
SENTINEL_SCHEMES = frozenset(
    {"sentinel", "redis+sentinel", "rediss+sentinel", "valkey+sentinel", "valkeys+sentinel"}
)


def _some_seconds(value: object) -> float:
    number = seconds(value)
    if not number:
        raise ValueError("expected more than 0 seconds")
    return number


OPTIONS: Mapping[str, Callable[[object], object]] = {
    "db": lambda value: int(value),  # type: ignore[call-overload]
    "socket_timeout": _some_seconds,
    "socket_connect_timeout": _some_seconds,
    "max_connections": count,
    "client_name": str,
    "master_name": str,
    "sentinel_username": str,
    "sentinel_password": str,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": one_of("required", "optional", "none", "cert_required", "cert_optional", "cert_none"),
    "ssl_check_hostname": switch,
}

_CERT_REQS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


class Place(Protocol):
    """Where one server is, now: with Sentinel that may change."""

    server: str
    """How messages name it."""

    def connect(self, timeout: float) -> Link:
        """A new connection, made within `timeout` seconds.

        StoreUnavailable where it cannot be reached, StoreError where it refuses us.
        """
        ...


class Server:
    """One server by its address or its socket."""

    def __init__(
        self, kind: Callable[..., AbstractConnection], settings: Mapping[str, object], server: str
    ) -> None:
        self._kind = kind
        self._settings = settings
        self.server = server

    def connect(self, timeout: float) -> Link:
        return _connected(self._kind, {**self._settings}, self.server, timeout)


class Mastered:
    """The master of a service that Sentinel watches, asked for anew at each connection."""

    server = "the master"

    def __init__(
        self, settings: Mapping[str, object], location: Location, options: Mapping[str, object]
    ) -> None:
        self._settings = settings
        self._service = str(options.get("master_name") or "mymaster")
        own = {name: value for name, value in settings.items() if name not in _OF_THE_MASTER}
        own["username"], own["password"] = options.get("sentinel_username"), options.get("sentinel_password")
        self._sentinels = [server_at(own, host, port or SENTINEL_PORT) for host, port in location.hosts]

    def connect(self, timeout: float) -> Link:
        deadline = time.monotonic() + timeout
        host, port = self._master(deadline)
        left = max(0.001, deadline - time.monotonic())
        return server_at(self._settings, host, port).connect(left)

    def _master(self, deadline: float) -> tuple[str, int]:
        """From the first Sentinel that tells: they are asked in turn, each within its share of the time."""
        asked = self._sentinels
        error: StoreUnavailable | None = None
        for number, sentinel in enumerate(asked):
            share = max(0.001, (deadline - time.monotonic()) / (len(asked) - number))
            try:
                found = _asked(sentinel, (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._service), share)
            except StoreUnavailable as exc:
                error = exc
                continue
            if found is not None:
                self._sentinels = [sentinel, *asked[:number], *asked[number + 1 :]]
                host, port = cast("list[bytes]", found)
                return host.decode(), int(port)
        shown = f"sentinel://{','.join(sentinel.server for sentinel in asked)} (service {self._service!r})"
        raise StoreUnavailable(
            f"{shown} cannot be reached: {error or 'none knows it: name it by master_name='}"
        ) from error


_OF_THE_MASTER = frozenset({"db", "client_name"})
"""What connections to Sentinels are made without."""


def _asked(server: Server, command: Command, timeout: float) -> object:
    """A server's reply to one command, on a connection of its own."""
    deadline = time.monotonic() + timeout
    link = server.connect(timeout)
    try:
        reply = link.ask(command, max(0.001, deadline - time.monotonic()))
    except (OSError, hiredis.HiredisError) as exc:
        raise faults.lost(exc, server.server) from exc
    finally:
        link.close()
    if isinstance(reply, hiredis.ReplyError):
        raise faults.reply_error(reply, server.server) from reply
    return reply


def _connected(
    kind: Callable[..., AbstractConnection], settings: dict[str, object], server: str, timeout: float
) -> Link:
    usual = float(settings["socket_timeout"])  # type: ignore[arg-type]
    for name in ("socket_timeout", "socket_connect_timeout"):
        settings[name] = min(float(settings[name]), timeout)  # type: ignore[arg-type]
    connection = kind(**settings)
    try:
        connection.connect()  # type: ignore[no-untyped-call]
    except (redis.RedisError, OSError) as exc:
        raise faults.not_connected(exc, server, kind is SSLConnection) from exc
    return Link(connection, server, usual)


def settings_of(location: Location, options: Mapping[str, object]) -> dict[str, object]:
    """What redis-py's connections are made with, but for the address."""
    settings: dict[str, object] = {
        "db": _database(location, options),
        "username": location.username,
        "password": location.password,
        "socket_timeout": options.get("socket_timeout", 5.0),
        "socket_connect_timeout": options.get("socket_connect_timeout", 5.0),
        "client_name": options.get("client_name"),
        "protocol": 2,
        # Its own would repeat writes whose reply was lost.
        "retry": Retry(NoBackoff(), 0),
        **_introduction(),
    }
    if location.scheme in TLS_SCHEMES:
        settings |= _tls(options)
    elif any(name.startswith("ssl_") for name in options):
        raise ConfigurationError(
            f"{location.scheme}:// takes no ssl_ options: write {_with_tls(location.scheme)}://"
        )
    return settings


@cache
def _introduction() -> Mapping[str, object]:
    """What connections tell the server of their client: once, for redis-py looks it up each time, in files."""
    info = getattr(redis, "DriverInfo", None)
    return {} if info is None else {"driver_info": info()}


def _with_tls(scheme: str) -> str:
    begin, plus, rest = scheme.partition("+")
    return {"sentinel": "rediss+sentinel", "unix": "rediss"}.get(scheme, f"{begin}s{plus}{rest}")


def _tls(options: Mapping[str, object]) -> dict[str, object]:
    given = {name: value for name, value in options.items() if name.startswith("ssl_")}
    reqs = str(given.pop("ssl_cert_reqs", "required")).removeprefix("cert_")
    given["ssl_cert_reqs"] = _CERT_REQS[reqs]
    # Whom we talk to is checked unless it is said otherwise: redis-py's own default has varied.
    given.setdefault("ssl_check_hostname", reqs == "required")
    return given


def _database(location: Location, options: Mapping[str, object]) -> int:
    """The database's number: the path of the URL, or the option `db` where the path is a socket's."""
    if location.scheme == "unix":
        return int(options.get("db") or 0)  # type: ignore[call-overload, no-any-return]
    path = location.path.strip("/")
    if "db" in options and path:
        raise ConfigurationError(f"{location.redacted()} gives the database twice: as path and as db=")
    if (path and not path.isascii()) or not (path or "0").isdigit():
        raise ConfigurationError(
            f"the path of {location.redacted()} is not the number of a database: write {location.scheme}://host:port/0"
        )
    return int(path or options.get("db") or 0)  # type: ignore[call-overload, no-any-return]


def place_of(location: Location, options: Mapping[str, object]) -> Place:
    """The one server behind the URL. ConfigurationError where it names none."""
    settings = settings_of(location, options)
    if location.scheme == "unix":
        if not location.path:
            raise ConfigurationError("unix:// needs the path of a socket: unix:///run/redis/redis.sock?db=0")
        return Server(
            UnixDomainSocketConnection, {**settings, "path": location.path}, f"unix://{location.path}"
        )
    if location.scheme in SENTINEL_SCHEMES:
        if not location.hosts:
            raise ConfigurationError("sentinel:// needs a host: sentinel://host:26379/0?master_name=mymaster")
        return Mastered(settings, location, options)
    if len(location.hosts) > 1:
        raise ConfigurationError(
            f"{location.redacted()} names several servers: write redis+cluster:// for a cluster, sentinel:// for "
            "a master that Sentinel watches"
        )
    return server_at(settings, location.host or "localhost", location.port or PORT)


def server_at(settings: Mapping[str, object], host: str, port: int) -> Server:
    """The server at an address, over TLS where the settings say so."""
    tls = any(name.startswith("ssl_") for name in settings)
    return Server(
        SSLConnection if tls else Connection, {**settings, "host": host, "port": port}, f"{host}:{port}"
    )
