"""Real servers for the suite and the benchmarks: Redis and Valkey, one, a set with sentinels, a cluster; databases.

`python -m tests.servers` installs their programs; importing this package loads no client library.
"""

from tests.servers.binaries import DATABASES, KINDS, MissingServer
from tests.servers.certificate import Certificate
from tests.servers.clock import Clock
from tests.servers.databases import Database
from tests.servers.proxy import Proxy
from tests.servers.server import Server, ServerFailed
from tests.servers.topologies import Cluster, Sentinels
from tests.servers.until import TimedOut, until

__all__ = [
    "DATABASES",
    "KINDS",
    "Certificate",
    "Clock",
    "Cluster",
    "Database",
    "MissingServer",
    "Proxy",
    "Sentinels",
    "Server",
    "ServerFailed",
    "TimedOut",
    "until",
]
