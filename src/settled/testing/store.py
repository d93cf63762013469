"""What an engine's author writes for the kit: how to open the engine, and how to look behind its back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import quote

from settled.backends.base import BaseBackend
from settled.record import Capabilities, Claim, Part, Settle, Settled
from settled.states import READY_STATES, SUCCESS
from settled.testing.app import RecordingApp
from settled.testing.faults import Faults
from settled.testing.processes import Finished, Job, Processes


class Clock:
    """UTC seconds, moved by hand: the real time plus `offset` seconds."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def __call__(self) -> float:
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += seconds


class Store:
    """One store of an engine, empty at first. Subclass it: `engine` and, mostly, `url`, `raw`, `plant`.

    `patience` is how many seconds a check waits for something that should come at once.
    """

    engine: ClassVar[type[BaseBackend]]
    patience: float = 20.0

    examples: int = 60
    steps: int = 40
    shrinks: bool = True
    """What `settled.testing.machine` does: sequences, operations in each, and whether one that fails is shortened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.faults = Faults()
        self._first: BaseBackend | None = None
        self._opened: list[BaseBackend] = []
        self._processes: Processes | None = None
        self._lock = threading.Lock()

    # -- what an author writes ---------------------------------------------------------------

    def url(self) -> str:
        """Where the store is; `folder` is an empty directory of its own. Called any number of times."""
        return self.engine.default_url

    def raw(self, task_id: str) -> bytes | None:
        """The stored record, read without the engine; None if there is none."""
        raise NotImplementedError(f"{type(self).__name__} must implement raw(task_id)")

    def plant(self, task_id: str, payload: bytes) -> None:
        """Put `payload` where the record of a settled task is, without the engine's doing anything to it."""
        raise NotImplementedError(f"{type(self).__name__} must implement plant(task_id, payload)")

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. An engine that has a clock of its own moves that one."""
        self.clock.advance(seconds)

    # -- what checks use ---------------------------------------------------------------------

    @property
    def backend(self) -> BaseBackend:
        """The backend that most checks need; opened at the first use."""
        with self._lock:
            if self._first is None:
                self._first = self._open({})
            return self._first

    @property
    def app(self) -> RecordingApp:
        app = self.backend.app
        assert isinstance(app, RecordingApp)
        return app

    @property
    def capabilities(self) -> Capabilities:
        return self.engine.capabilities

    def open(self, **conf: object) -> BaseBackend:
        """Another backend: of the same store if the engine is shared, else of a new one."""
        with self._lock:
            return self._open(conf)

    def keeping(self, outbox: int) -> BaseBackend:
        """Another backend, of an engine that keeps: so many bytes in memory, the rest in `spools`."""
        with self._lock:
            return self._open({}, f"&outbox={outbox}")

    def _open(self, conf: Mapping[str, object], options: str = "") -> BaseBackend:
        app = RecordingApp(self.journal, **conf)
        url = self.address + options
        app.opens = self.engine, url
        backend = self.engine(app, url=url)
        backend.clock = self.clock
        app.backend = backend
        self._opened.append(backend)
        return backend

    @property
    def address(self) -> str:
        """The URL, with `spools` as the folder of an engine that keeps."""
        if not self.capabilities.keeps:
            return self.url()
        url = self.url()
        return f"{url}{'&' if '?' in url else '?'}spool={quote(str(self.spools))}"

    @property
    def spools(self) -> Path:
        return self.folder / "spools"

    @property
    def journal(self) -> Path:
        return self.folder / "sent"

    def elsewhere(self, *jobs: Job) -> list[Finished]:
        """Run each job in a process of its own, all at once; what became of them."""
        if self._processes is None:
            self._processes = Processes(self.engine, self.address, self.journal)
        return self._processes.run(jobs, self.clock.offset)

    def write(
        self,
        task_id: str,
        state: str = SUCCESS,
        value: object = "value",
        *,
        attempt: int = 0,
        expires: float | None = None,
        part: Part | None = None,
        claim: Claim | None = None,
        **columns: str | None,
    ) -> Settle:
        """One write as the backend would make it; `columns` are `name`, `worker`, `group_id` and so on."""
        meta: dict[str, object] = {
            "status": state,
            "result": value,
            "traceback": None,
            "children": [],
            "date_done": datetime.fromtimestamp(self.clock(), UTC).isoformat()
            if state in READY_STATES
            else None,
            "task_id": task_id,
            **columns,
        }
        if attempt:
            meta["attempt"] = attempt
        if expires is not None and self.backend.stamps_expiry:
            meta["expires_at"] = self.clock() + expires
        if self.backend.stamps_writes:
            meta["updated_at"] = self.clock()
        payload = json.dumps(meta).encode()
        return Settle(task_id, state, payload, attempt, expires, part, claim, **columns)

    def settle(self, *args: object, **kwargs: object) -> Settled:
        """Write as `write` says, by the hook."""
        return self.backend.call(self.backend.do_settle, self.write(*args, **kwargs))  # type: ignore[arg-type]

    def stored(self, task_id: str) -> bytes | None:
        """What the engine reads for this id, as bytes; None if that is no record."""
        payload = self.backend.do_read((task_id,)).get(task_id)
        if isinstance(payload, str):
            return payload.encode("utf-8", "surrogatepass")
        return payload if isinstance(payload, bytes) else None

    def value(self, task_id: str) -> object:
        """The result in what the engine reads for this id; None if that is no record."""
        payload = self.stored(task_id)
        return None if payload is None else json.loads(payload)["result"]

    def state(self, task_id: str) -> str | None:
        payload = self.stored(task_id)
        return None if payload is None else str(json.loads(payload)["status"])

    def close(self) -> None:
        """Let go of faults, processes and backends."""
        self.faults.lift()
        if self._processes is not None:
            self._processes.close()
        for backend in self._opened:
            backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
