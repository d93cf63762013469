"""What the server answers, and what becomes of it: tried again, or told with the way out."""

from __future__ import annotations

import hiredis
import pytest

from settled.backends.redis import faults
from settled.errors import StoreError, StoreUnavailable
from tests.servers import Server

PASSING = [
    "READONLY You can't write against a read only replica.",
    "LOADING Redis is loading the dataset in memory",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "ERR Error running script (call to f_x): @user_script: 1: -OOM command not allowed when used memory",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
]

FINAL = {
    "NOPERM User app has no permissions to run the 'evalsha' command": "ACL",
    "NOAUTH Authentication required.": "password",
    "WRONGPASS invalid username-password pair or user is disabled.": "password",
    "WRONGTYPE Operation against a key holding the wrong kind of value": "prefix",
    "MOVED 3999 127.0.0.1:6381": r"redis\+cluster://",
    "ERR unknown command 'EVALSHA'": "lacks a command",
}


@pytest.mark.parametrize("reply", PASSING)
def test_what_may_pass_is_tried_again(reply):
    error = faults.reply_error(hiredis.ReplyError(reply), "host:6379")
    assert type(error) is StoreUnavailable
    assert "host:6379" in str(error)


@pytest.mark.parametrize("reply", FINAL)
def test_what_will_not_pass_says_the_way_out(reply):
    error = faults.reply_error(hiredis.ReplyError(reply), "host:6379")
    assert type(error) is StoreError
    with pytest.raises(StoreError, match=FINAL[reply]):
        raise error


def test_a_replica_refuses_until_it_is_the_master(connect):
    """READONLY from a real server: the write is made again, and lands when the server may take it."""
    with Server.start() as replica:
        replica.ask("REPLICAOF", "127.0.0.1", 1)
        backend = connect(url=replica.url)
        backend.retry_deadline = 0.3
        with pytest.raises(StoreUnavailable, match="replica"):
            backend.save_group("group", backend.app.GroupResult("group", []))
        assert backend.mark_as_done("task", "value").kept
        replica.ask("REPLICAOF", "NO", "ONE")
        assert backend.wait_for("task", timeout=20) == "value"
