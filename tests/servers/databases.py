"""A PostgreSQL or MariaDB server, started for a test and gone after it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Self
from urllib.parse import quote

from tests.servers.binaries import path_of
from tests.servers.leash import Leashed
from tests.servers.port import Port
from tests.servers.server import PATIENCE, ServerFailed, Startable, failure, started
from tests.servers.until import until

OWNER = "settled"
READER = "reader"
"""A user who may read everything, and write nothing."""

PASSWORD = "hidden"

OTHER_USER = "nobody"
"""Who runs the server when we are root, which PostgreSQL's refuses to be run by."""

# Nothing of this is to outlive its test, let alone the machine.
CARELESS = {
    "postgresql": {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},
    "mariadb": {"innodb-flush-log-at-trx-commit": "0", "innodb-flush-method": "nosync", "sync-frm": "0"},
}

READERS = {
    "postgresql": f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data",
    "mariadb": f"GRANT SELECT ON *.* TO '{READER}'@'%' IDENTIFIED BY '{PASSWORD}'",
}


class Database(Startable):
    """A server of this kind on a port of 127.0.0.1, its files in `folder`, with the users `OWNER` and `READER`.

    It dies with this process, however that ends. `start` makes one that answers; `stop` is a must.
    """

    def __init__(self, kind: str, options: Mapping[str, str] = {}) -> None:
        self.kind = kind
        self._program = path_of(kind)
        self._options = CARELESS[kind] | dict(options)
        self._port = Port.take()
        self.folder = Path(tempfile.mkdtemp(prefix=f"settled-{kind}-"))
        self._output = self.folder / "output"
        self._process: Leashed | None = None
        if os.geteuid() == 0:
            shutil.chown(self.folder, OTHER_USER)

    @classmethod
    def start(cls, kind: str, *, options: Mapping[str, str] = {}) -> Self:
        """One that answers. Options are the server's own: `{"timezone": "Asia/Kolkata"}`.

        Raises `ServerFailed` with what the server said.
        """
        return started(lambda: cls(kind, options))

    # -- where it is -------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return self._port.number

    @property
    def socket_path(self) -> Path:
        """Its socket in the file system."""
        return self.folder / (f".s.PGSQL.{self.port}" if self.kind == "postgresql" else "socket")

    def url(self, database: str, user: str = OWNER, password: str = PASSWORD) -> str:
        """As SQLAlchemy takes it."""
        scheme = "postgresql+psycopg" if self.kind == "postgresql" else "mysql+pymysql"
        return f"{scheme}://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    # -- talking to it -----------------------------------------------------------------------

    def ask(self, *statements: str, database: str = "") -> None:
        """Have the owner execute these, each by itself."""
        if self.kind == "postgresql":
            import psycopg

            url = self.url(database or "postgres").replace("+psycopg", "")
            with psycopg.connect(f"{url}?client_encoding=utf8", autocommit=True) as postgresql:
                for statement in statements:
                    postgresql.execute(statement.encode())
        else:
            import pymysql

            with closing(
                pymysql.connect(
                    host="127.0.0.1", port=self.port, user=OWNER, password=PASSWORD, database=database or None
                )
            ) as mariadb:
                for statement in statements:
                    mariadb.cursor().execute(statement)
                mariadb.commit()

    # -- its life ----------------------------------------------------------------------------

    def launch(self) -> None:
        """Run it, without waiting until it answers."""
        self._prepare()
        self._process = Leashed(
            _as_user(self._command()),
            env=os.environ,
            output=self._output,
            litter=self.folder,
            last=self._last,
        )

    def ready(self, timeout: float = PATIENCE) -> None:
        """Wait until it answers, and make the reader. Raises `ServerFailed` if it ends, `TimedOut`."""
        until(self._answers, timeout, f"an answer from {self}", despite=(OSError,))
        self.ask(READERS[self.kind])

    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and not self._process.ended()

    def stop(self) -> None:
        """End it for good, give its port back, and delete its folder."""
        if self._process is not None:
            self._process.end(self._last)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._port.release()

    def __repr__(self) -> str:
        return f"<{self.kind} server at 127.0.0.1:{self.port}>"

    # -- inside ------------------------------------------------------------------------------

    @property
    def _last(self) -> signal.Signals:
        """What ends it at once. PostgreSQL's processes are many, and share memory that SIGKILL would leave."""
        return signal.SIGQUIT if self.kind == "postgresql" else signal.SIGKILL

    def _prepare(self) -> None:
        """Make its files, and the owner."""
        if self.kind == "postgresql":
            password = self.folder / "password"
            password.write_text(PASSWORD)
            self._run(
                [
                    *[str(self._program.with_name("initdb")), "--no-sync", "--no-locale", "--encoding=UTF8"],
                    *["-D", str(self.folder / "data"), "-U", OWNER, "--auth=scram-sha-256"],
                    f"--pwfile={password}",
                ]
            )
        else:
            owner = f"GRANT ALL ON *.* TO '{OWNER}'@'%' IDENTIFIED BY '{PASSWORD}' WITH GRANT OPTION;\n"
            (self.folder / "owner.sql").write_text(owner)
            self._run(
                [
                    *["mariadb-install-db", "--no-defaults", "--skip-test-db", "--skip-name-resolve"],
                    *["--auth-root-authentication-method=normal", f"--datadir={self.folder / 'data'}"],
                ]
            )

    def _command(self) -> list[str]:
        if self.kind == "postgresql":
            given = [f"--{name}={value}" for name, value in self._options.items()]
            where = ["-D", str(self.folder / "data"), "-k", str(self.folder), "-p", str(self.port)]
            return [str(self._program), *where, "--listen_addresses=127.0.0.1", *given]
        options = {
            "datadir": str(self.folder / "data"),
            "port": str(self.port),
            "bind-address": "127.0.0.1",
            "socket": str(self.socket_path),
            "pid-file": str(self.folder / "pid"),
            "init-file": str(self.folder / "owner.sql"),
            **self._options,
        }
        given = [f"--{name}={value}" for name, value in options.items()]
        return [str(self._program), "--no-defaults", "--skip-name-resolve", *given]

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(_as_user(command), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise ServerFailed(f"the files of {self} were not made:\n{(done.stdout + done.stderr)[-2000:]}")

    def _answers(self) -> bool:
        """Whether it would talk to a client; by a socket alone, for that is asked often."""
        if not self.running():
            raise failure(self, self._output.read_text(errors="replace"))
        with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
            if self.kind == "mariadb":
                return connection.recv(1) != b""  # it is the first to speak
            return self._lets_in(connection)

    def _lets_in(self, connection: socket.socket) -> bool:
        """Whether PostgreSQL asks for a password: while it starts it answers with an error."""
        words = b"".join(word.encode() + b"\0" for word in ("user", OWNER, "database", "postgres", ""))
        message = (3 << 16).to_bytes(4) + words
        connection.sendall((len(message) + 4).to_bytes(4) + message)
        return connection.recv(1) == b"R"


def _as_user(command: Sequence[str]) -> list[str]:
    """The command for a user who is not root."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={OTHER_USER}", "--regid=nogroup", "--clear-groups", "--", *command]
