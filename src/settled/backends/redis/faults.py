"""The server's and the client's errors as ours: each names the server, the cause and the way out."""

from __future__ import annotations

from collections.abc import Sequence

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
    if word == "NOPERM":
        return StoreError(
            f"{server}: its user may not do this; see the ACL in 'Run it on Redis' of the documentation ({error})"
        )
    if word in _AUTH:
        return StoreError(f"{server}: user name or password is missing or wrong ({error})")
    if word in ("MOVED", "ASK"):
        return StoreError(f"{server} is one of a cluster: write redis+cluster:// in the URL ({error})")
    if word == "WRONGTYPE":
        return StoreError(
            f"{server}: {_shown(keys)} holds something that is not ours: delete it, or give settled a prefix "
            f"or a database of its own ({error})"
        )
    if "user_script" in str(error):
        return StoreError(f"{server}: what {_shown(keys)} holds is damaged: forget it ({error})")
    return StoreError(f"{server} refused a command: {error}")


def _shown(keys: Sequence[bytes]) -> str:
    """The first keys of a command, which tell what it was about."""
    names = " or ".join(key.decode("utf-8", "replace") for key in keys[:3])
    return f"{names}, or a key that goes with them," if len(keys) > 3 else names or "a key of ours"


def lost(exc: Exception, server: str) -> StoreUnavailable:
    """The connection broke, or the reply did not come in time."""
    if isinstance(exc, TimeoutError):
        return StoreUnavailable(f"{server} did not answer in time")
    return StoreUnavailable(f"{server} cannot be reached: {str(exc) or type(exc).__name__}")


def not_connected(exc: Exception, server: str) -> SettledError:
    """Why redis-py could make no connection."""
    match exc:
        case exceptions.AuthenticationError() | exceptions.NoPermissionError():
            return StoreError(f"{server}: user name or password is missing or wrong ({exc})")
        case exceptions.BusyLoadingError() | exceptions.ReadOnlyError():
            return StoreUnavailable(f"{server}: {exc}")
        case exceptions.ConnectionError() | exceptions.TimeoutError() | OSError():
            return StoreUnavailable(f"{server} cannot be reached: {exc}")
        case exceptions.ResponseError() if word_of(exc) in MAY_PASS:
            return StoreUnavailable(f"{server}: {exc}")
        case exceptions.ResponseError() if "DB index" in str(exc) or "SELECT" in str(exc):
            return ConfigurationError(f"{server} has no such database: {exc}")
        case _:
            return StoreError(f"{server}: no connection could be made: {exc}")
