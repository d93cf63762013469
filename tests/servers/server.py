"""One Redis or Valkey server, started for a test and gone after it."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tests.servers.binaries import path_of
from tests.servers.certificate import Certificate
from tests.servers.clock import MICROSECOND, Clock
from tests.servers.leash import Leashed
from tests.servers.port import Port
from tests.servers.until import until

if TYPE_CHECKING:
    from redis import Redis

STARTS = 5
"""How many ports are tried."""

PATIENCE = 20.0


class ServerFailed(RuntimeError):
    """A server ended instead of starting; the message is what it said."""


class PortTaken(ServerFailed):
    """Another program listens on the port."""


def client_errors() -> tuple[type[Exception], ...]:
    """What a client raises whose server is away, is starting or does not want to."""
    from redis.exceptions import RedisError

    return (RedisError,)


class Startable(ABC):
    """What is started, and stopped at the end of a `with`: a server, or several, each on a port of its own."""

    @abstractmethod
    def launch(self) -> None:
        """Run it, without waiting until it answers."""

    @abstractmethod
    def ready(self) -> None:
        """Wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """End it for good, whether or not it runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


S = TypeVar("S", bound=Startable)


def started(make: Callable[[], S]) -> S:
    """A server that answers: made anew as long as another program has taken its port."""
    for _ in range(STARTS):
        server = make()
        try:
            server.launch()
            server.ready()
        except PortTaken:
            server.stop()
        except BaseException:
            server.stop()
            raise
        else:
            return server
    raise PortTaken(f"{STARTS} ports in a row were taken by other programs before a server had them")


def failure(server: object, said: str) -> ServerFailed:
    """Why a server ended at its start, from what it said."""
    kind = PortTaken if "Address already in use" in said else ServerFailed
    return kind(f"{server} ended at its start:\n{said[-2000:]}")


class Server(Startable):
    """A server on a port of 127.0.0.1, its files in `folder`. It dies with this process, however that ends.

    It keeps nothing on disk unless the options ask for it. `start` makes one that answers; `stop` is a must.
    """

    def __init__(
        self,
        kind: str,
        *,
        port: Port | None = None,
        folder: Path | None = None,
        skewed: bool = False,
        clock: Clock | None = None,
        options: Mapping[str, str] = {},
        tls: Certificate | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """A server that does not run yet. It owns its `port`; `arguments` follow its configuration's name."""
        self.kind = kind
        self._program = path_of(kind)
        self._own_folder = None if folder else Path(tempfile.mkdtemp(prefix=f"settled-{kind}-"))
        self.folder = (folder or self._own_folder or Path()).absolute()
        self._own_clock = Clock(self.folder / "clock") if skewed and clock is None else None
        self._clock = clock or self._own_clock
        if self._clock is not None:
            self._clock.followers.append(self._time)
        self._ports = [port or Port.take()]
        self._process: Leashed | None = None
        self._arguments = arguments
        self._said = [self.folder / "output", self.folder / "log"]
        self._options = dict(options)
        if tls is not None:
            self._ports.append(Port.take())
            self._options = tls.options(self._ports[1].number) | self._options
        self._configure()

    @classmethod
    def start(
        cls,
        kind: str = "redis7",
        *,
        folder: Path | None = None,
        skewed: bool = False,
        clock: Clock | None = None,
        options: Mapping[str, str] = {},
        tls: Certificate | None = None,
    ) -> Self:
        """A server of this kind that answers. Options are those of a redis.conf: `{"appendonly": "yes"}`.

        Its `folder` is a temporary one unless it is given, and then it is kept. `skewed` gives it a `clock` of
        its own; `clock` has it follow one that others follow too. `tls` makes it speak TLS on `tls_port` as well.
        Raises `ServerFailed` with what the server said.
        """
        return started(lambda: cls(kind, folder=folder, skewed=skewed, clock=clock, options=options, tls=tls))

    # -- where it is -------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return self._ports[0].number

    @property
    def tls_port(self) -> int:
        return self._ports[1].number

    @property
    def url(self) -> str:
        return f"redis://{self._login}127.0.0.1:{self.port}/0"

    @property
    def tls_url(self) -> str:
        return f"rediss://{self._login}127.0.0.1:{self.tls_port}/0"

    @property
    def _login(self) -> str:
        return f":{self._password}@" if self._password else ""

    @property
    def _password(self) -> str | None:
        return self._options.get("requirepass")

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def clock(self) -> Clock:
        """The clock that it follows; only for a server that was started with one."""
        assert self._clock is not None, f"{self} was not started with a clock"
        return self._clock

    # -- talking to it -----------------------------------------------------------------------

    def client(self, **options: Any) -> Redis:
        """A client that never repeats a command by itself. Close it, or use it as a context manager."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        defaults: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "password": self._password,
            "retry": Retry(NoBackoff(), 0),
        }
        return Redis(**(defaults | options))

    def ask(self, *words: object) -> Any:
        """The answer to one command, on a connection of its own; as RESP2 has it, or as redis-py reads that."""
        with self.client(protocol=2) as client:
            return client.execute_command(*words)

    # -- its life ----------------------------------------------------------------------------

    def launch(self) -> None:
        """Run it, without waiting until it answers; its `log` begins anew."""
        for said in self._said:
            said.unlink(missing_ok=True)
        self._process = Leashed(
            [str(self._program), str(self.folder / "conf"), *self._arguments],
            env=os.environ | (self._clock.environment() if self._clock else {}),
            output=self._said[0],
            litter=self._own_folder,
        )

    def ready(self, timeout: float = PATIENCE) -> None:
        """Wait until it answers and has loaded its data. Raises `ServerFailed` if it ends, `TimedOut`."""
        until(self._answers, timeout, f"an answer from {self}", despite=(OSError,))

    def running(self) -> bool:
        """Whether its process is there, be it paused."""
        return self._process is not None and not self._process.ended()

    def awake(self) -> bool:
        """Whether its process is there and not paused."""
        return self.running() and self._state() != "T"

    def kill(self) -> None:
        """End it by SIGKILL: nothing is flushed or told."""
        if self._process is not None:
            self._process.end(signal.SIGKILL)

    def restart(self) -> None:
        """Run it again with the same port, folder and options: ended gently, if it runs at all."""
        self._end_gently()
        self.launch()
        self.ready()

    def pause(self) -> None:
        """Stop it where it is, by SIGSTOP: its connections stay open, and nothing answers."""
        self._running().send(signal.SIGSTOP)
        until(lambda: self._state() == "T", PATIENCE, f"the pause of {self}")

    def resume(self) -> None:
        self._running().send(signal.SIGCONT)
        until(lambda: self._state() != "T", PATIENCE, f"the end of the pause of {self}")

    def stop(self) -> None:
        """End it for good and give its port back: gently if its folder is kept, else the folder is deleted."""
        if self._own_folder is None:
            self._end_gently()
        else:
            self.kill()
            shutil.rmtree(self._own_folder, ignore_errors=True)
        if self._clock is not None and self._time in self._clock.followers:
            self._clock.followers.remove(self._time)
        if self._own_clock is not None:
            self._own_clock.close()
        for port in self._ports:
            port.release()

    def __repr__(self) -> str:
        return f"<{self.kind} server at 127.0.0.1:{self.port}>"

    # -- inside ------------------------------------------------------------------------------

    def _configure(self) -> None:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": f'"{self.folder}"',
            "save": "",
            "appendonly": "no",
            "loglevel": "warning",
            "logfile": f'"{self._said[1]}"',
            **self._options,
        }
        lines = (f"{name} {value or chr(34) * 2}\n" for name, value in options.items())
        (self.folder / "conf").write_text("".join(lines))

    def _running(self) -> Leashed:
        assert self._process is not None, f"{self} was not launched"
        return self._process

    def _answers(self) -> bool:
        if not self.running():
            raise self._failure()
        (reply,) = self._lines("PING", 1)
        return reply != b"" and not reply.startswith(b"-LOADING")

    def _lines(self, command: str, count: int) -> list[bytes]:
        """So many lines of the reply, by a socket alone: what is asked often must be cheap."""
        greeting = [f"AUTH {self._password}"] if self._password else []
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection,
            connection.makefile("rwb") as stream,
        ):
            stream.write("".join(f"{line}\r\n" for line in [*greeting, command]).encode())
            stream.flush()
            return [stream.readline() for _ in range(len(greeting) + count)][len(greeting) :]

    def _failure(self) -> ServerFailed:
        said = "\n".join(path.read_text(errors="replace") for path in self._said if path.exists())
        return failure(self, said)

    def _time(self) -> float:
        """What it takes the time to be: any time, while it does not run."""
        if not self.awake():
            return math.inf
        _, _, seconds, _, microseconds = self._lines("TIME", 5)
        return int(seconds) + int(microseconds) / MICROSECOND

    def _end_gently(self) -> None:
        if self._process is not None:
            self._process.end(signal.SIGTERM)

    def _state(self) -> str:
        """The state that the kernel shows of the process: T is stopped."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
