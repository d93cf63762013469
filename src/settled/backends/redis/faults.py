"""The server's and the client's errors as ours: each names the server, the cause and the way out."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence

import hiredis
from redis import exceptions

from settled.errors import ConfigurationError, SettledError, StoreError, StoreUnavailable

MAY_PASS = {
    "BUSY": "a script is running for too long",
    "CLUSTERDOWN": "its cluster is down",
    "FAILOVER": "a failover is under way",
    "LOADING": "it is still loading its data",
    "MASTERDOWN": "its master is down",
    "NOREPLICAS": "too few replicas are connected",
    "READONLY": "it is a replica now: its master is looked for anew",
    "TRYAGAIN": "a slot is migrating",
    "UNBLOCKED": "a failover is under way",
    "NOMASTERLINK": "its master cannot be reached",
}
"""What the server answers for a while, by the first word of the error."""

FULL = (
    "it is full (maxmemory) and evicts nothing: let results expire sooner (result_expires), raise maxmemory, "
    "or delete what is not needed"
)
STALE = frozenset({"READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "FAILOVER", "UNBLOCKED"})
"""Answers after which the connections to this server are not used again."""

_CLUSTER = "it is one of a cluster: write redis+cluster:// in the URL"
_MEANT = {
    "MOVED": _CLUSTER,
    "ASK ": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "cluster support disabled": "it is no cluster: write redis:// in the URL",
    "unknown command 'SENTINEL'": "it is no Sentinel: write redis:// in the URL, or the port of the Sentinel",
    "unknown command": "it lacks a command that settled needs: it is a Sentinel (write sentinel://), or too old",
}
"""What a server means by an answer: the way out."""

_IN_A_SCRIPT = ("ACL failure in script", "user executing the script can't")
"""How servers say NOPERM of a command in a script."""

_AUTH = frozenset({"NOAUTH", "WRONGPASS", "ERR AUTH"})


def word_of(error: Exception) -> str:
    """The first word of an error reply: NOSCRIPT, MOVED, OOM, ..."""
    return str(error).partition(" ")[0]


def reply_error(error: hiredis.ReplyError, server: str, keys: Sequence[bytes] = ()) -> SettledError:
    """Our error for an error reply about these keys; to be raised from it."""
    word = word_of(error)
    if word in MAY_PASS:
        return StoreUnavailable(f"{server}: {MAY_PASS[word]} ({error})")
    if word == "OOM" or "OOM command not allowed" in str(error):
        return StoreUnavailable(f"{server}: {FULL} ({error})")
    if word == "MISCONF":
        return StoreUnavailable(
            f"{server} cannot save its data and refuses writes: see to its disk ({error})"
        )
    if word == "NOPERM" or any(said in str(error) for said in _IN_A_SCRIPT):
        return _forbidden(error, server)
    if word in _AUTH or "unauthenticated" in str(error):  # so says who is sent much before a password
        return _unknown(error, server)
    if word == "WRONGTYPE":
        return StoreError(
            f"{server}: {_shown(keys)} holds something that is not ours: delete it, or give settled a prefix "
            f"or a database of its own ({error})"
        )
    if "user_script" in str(error):
        return StoreError(f"{server}: what {_shown(keys)} holds is damaged: forget it ({error})")
    for said, meant in _MEANT.items():
        if said in str(error):
            return StoreError(f"{server}: {meant} ({error})")
    return StoreError(f"{server} refused a command: {error}")


def _forbidden(error: Exception, server: str) -> StoreError:
    return StoreError(
        f"{server}: its user may not do what settled needs: give it the ACL of 'Least privilege' in the page "
        f"'Run it on Redis' of the documentation ({error})"
    )


def _unknown(error: Exception, server: str) -> StoreError:
    return StoreError(
        f"{server}: user name or password is missing or wrong: they stand in the URL, with '@', ':' and '/' as %40, "
        f"%3A and %2F ({error})"
    )


def _shown(keys: Sequence[bytes]) -> str:
    """The first keys of a command, which tell what it was about."""
    names = " or ".join(key.decode("utf-8", "replace") for key in keys[:3])
    return f"{names}, or a key that goes with them," if len(keys) > 3 else names or "a key of ours"


def lost(exc: Exception, server: str) -> StoreUnavailable:
    """The connection broke, or the reply did not come in time."""
    if isinstance(exc, TimeoutError):
        return StoreUnavailable(f"{server} did not answer in time")
    return StoreUnavailable(f"{server} cannot be reached: {str(exc) or type(exc).__name__}")


def not_connected(exc: Exception, server: str, tls: bool) -> SettledError:
    """Why redis-py could make no connection, over TLS or not."""
    match exc:
        case exceptions.NoPermissionError():
            return _forbidden(exc, server)
        case exceptions.AuthenticationError():
            return _unknown(exc, server)
        case exceptions.BusyLoadingError() | exceptions.ReadOnlyError():
            return StoreUnavailable(f"{server}: {exc}")
        case exceptions.ConnectionError() | exceptions.TimeoutError() | OSError():
            return _unreachable(exc, server, tls)
        case exceptions.ResponseError() if word_of(exc) in MAY_PASS:
            return StoreUnavailable(f"{server}: {exc}")
        case exceptions.ResponseError() if "DB index" in str(exc) or "SELECT" in str(exc):
            return ConfigurationError(f"{server} has no such database: {exc}")
        case exceptions.InvalidResponse():
            return StoreError(
                f"{server}: what answers there is no Redis or Valkey server: see to host and port ({exc})"
            )
        case _:
            return StoreError(f"{server}: no connection could be made: {exc}")


def _unreachable(exc: Exception, server: str, tls: bool) -> SettledError:
    for cause in _causes(exc):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return StoreError(
                f"{server}: its certificate is not trusted ({cause.verify_message}): name the authority that signed it "
                "by ssl_ca_certs=, and the server as its certificate does"
            )
        if tls and (isinstance(cause, _NO_FILE) or (isinstance(cause, ssl.SSLError) and "PEM" in str(cause))):
            return ConfigurationError(
                f"{server}: a file that ssl_ca_certs, ssl_certfile or ssl_keyfile names cannot be read: {cause}"
            )
    other = "if it speaks no TLS, write redis://" if tls else "if it wants TLS, write rediss://"
    if server.startswith("unix://"):
        other = "that this program may open it"
    said = str(exc).rstrip(".") or type(exc).__name__
    return StoreUnavailable(
        f"{server} cannot be reached: {said}. See that it runs, and that this is its address; {other}"
    )


_NO_FILE = (FileNotFoundError, PermissionError, IsADirectoryError)


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came of."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__
