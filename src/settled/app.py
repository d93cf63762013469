"""The app of a program without a task queue, and the table of engines behind backend URLs."""

from __future__ import annotations

import importlib
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast
from weakref import WeakValueDictionary

from settled import chords
from settled.backends.base import BaseBackend
from settled.errors import ConfigurationError
from settled.record import FailurePolicy
from settled.results import AnyResult, AsyncResult
from settled.url import parse

if TYPE_CHECKING:
    from settled.groups import GroupResult

DEFAULT_URL = "sqlite:///settled.db"

ENGINES: Mapping[str, str] = {
    "memory": "settled.backends.memory:MemoryBackend",
    "sqlite": "settled.backends.sqlite:SQLiteBackend",
    **dict.fromkeys(
        """
        redis rediss unix sentinel redis+sentinel rediss+sentinel
        valkey valkeys valkey+sentinel valkeys+sentinel
        """.split(),
        "settled.backends.redis:RedisBackend",
    ),
    **dict.fromkeys(
        ["redis+cluster", "rediss+cluster", "valkey+cluster", "valkeys+cluster"],
        "settled.backends.redis:RedisClusterBackend",
    ),
}
"""Where each scheme's engine is; imported when it is first asked for."""

ENTRY_POINTS = "settled.engines"
"""The entry-point group in which other distributions name their engines, by scheme."""

Send: TypeAlias = Callable[[Mapping[str, object], Sequence[object], str], object]
"""Sends a task: its signature, arguments to put before the signature's own, and the task id."""


class Settings(Mapping[str, object]):
    """Settings by the field's names, as items and as attributes. Unknown ones are absent, not errors."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> object:
        return self._values[name]

    def __getattr__(self, name: str) -> object:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"no setting {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


KNOWN_SETTINGS = frozenset(
    {
        "result_backend",
        "result_serializer",
        "result_compression",
        "result_accept_content",
        "accept_content",
        "result_expires",
        "result_failure_expires",
        "result_cache_max",
        "result_persistent",
        "result_extended",
    }
)


class App:
    """What a backend needs of an application, for programs that have none.

    Args:
        url: the backend's URL; default the setting `result_backend`, the environment variable
            SETTLED_BACKEND, or "sqlite:///settled.db".
        send: how to send a chord's body, see `Send`; without it this process sends none, and leaves
            complete chords to those that can.
        conf: settings by the field's names, see `KNOWN_SETTINGS`; ConfigurationError for others.
    """

    def __init__(self, url: str | None = None, *, send: Send | None = None, **conf: object) -> None:
        unknown = sorted(set(conf) - KNOWN_SETTINGS)
        if unknown:
            raise ConfigurationError(
                f"no setting {', '.join(unknown)}; there are {', '.join(sorted(KNOWN_SETTINGS))}"
            )
        self.url = str(url or conf.get("result_backend") or os.environ.get("SETTLED_BACKEND") or DEFAULT_URL)
        parse(self.url)  # what is wrong with it is said here
        self.conf = Settings({**conf, "result_backend": self.url})
        self.send = send
        self.tasks: dict[str, object] = {"celery.chord_unlock": ChordUnlock(self)}
        self._given = conf
        self._backend: BaseBackend | None = None
        self._lock = threading.Lock()

    @property
    def backend(self) -> BaseBackend:
        """The result backend; made when it is first asked for, opened when it is first used."""
        if self._backend is None:
            with self._lock:
                if self._backend is None:
                    backend = engine_class(self.url)(self, url=self.url)
                    backend.owned = True
                    self._backend = backend
        return self._backend

    @property
    def can_send(self) -> bool:
        return self.send is not None

    def accepts(self, signature: Mapping[str, object]) -> bool:
        """Whether `send` can send this signature: it may have an `accepts(signature)` that says so."""
        accepts = getattr(self.send, "accepts", None)
        return self.can_send and (accepts is None or bool(accepts(signature)))

    def signature(self, signature: Mapping[str, object]) -> BoundSignature:
        """The signature, bound to this app so that it can be sent."""
        return BoundSignature(self, signature)

    def AsyncResult(self, id: str, parent: AnyResult | None = None) -> AsyncResult[object]:  # noqa: N802
        """A handle on the task with this id, whether it exists or not."""
        return AsyncResult(id, self.backend, parent)

    def GroupResult(  # noqa: N802
        self, id: str, results: Iterable[AnyResult] = (), parent: AnyResult | None = None
    ) -> GroupResult:
        """A handle on a group; see `GroupResult.restore` for one that was saved."""
        from settled.groups import GroupResult  # loads asyncio: 30 ms that not every program needs

        return GroupResult(id, results, parent, self)

    def __deepcopy__(self, memo: object) -> App:
        return self

    def __repr__(self) -> str:
        return f"<App {parse(self.url).redacted()}>"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.url, self._given)


# By nature one table per process: handles that arrive pickled one by one must share an app, or each
# would open the store and watch it by itself.
_arrived: WeakValueDictionary[bytes, App] = WeakValueDictionary()
_arriving = threading.Lock()


def _rebuilt(url: str, conf: Mapping[str, object]) -> App:
    form = pickle.dumps((url, sorted(conf.items())))
    with _arriving:
        app = _arrived.get(form)
        if app is None:
            app = _arrived[form] = App(url, send=None, **conf)
        return app


class BoundSignature:
    """A signature that its app can send."""

    def __init__(self, app: App, signature: Mapping[str, object]) -> None:
        self.app = app
        self.signature = dict(signature)

    def apply_async(self, args: Sequence[object] = (), *, task_id: str) -> AsyncResult[object]:
        """Send the task with `args` before the signature's own arguments; its handle."""
        if self.app.send is None:
            raise ConfigurationError(
                "this app cannot send tasks: give App(send=...), or use settled.Executor"
            )
        self.app.send(self.signature, args, task_id)
        return self.app.AsyncResult(task_id)


class ChordUnlock:
    """The task behind chords on stores that cannot count: looks again until the header is settled.

    It lives in this process, on one timer per chord: when the process ends, so does the poll.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def apply_async(
        self, args: Sequence[object], kwargs: Mapping[str, object], countdown: float = 1.0
    ) -> None:
        """Poll chord `args = (group_id, body)` in `countdown` seconds, then every `interval`."""
        timer = threading.Timer(countdown, self._poll, (args, kwargs, countdown))
        timer.daemon = True
        timer.start()

    def _poll(self, args: Sequence[object], kwargs: Mapping[str, object], countdown: float) -> None:
        group_id, body = cast("tuple[str, Mapping[str, object]]", args)
        members = [str(form[0][0]) for form in cast("list[list[list[object]]]", kwargs["result"])]
        policy = FailurePolicy(str(kwargs.get("on_failure") or FailurePolicy.ALL))
        try:
            finished = chords.unlock(self._app.backend, group_id, members, body, policy)
        except Exception:
            chords.log.exception("chord %s could not be looked at; it is tried again", group_id)
            finished = False
        if not finished:
            self.apply_async(args, kwargs, float(cast("float", kwargs.get("interval", countdown))))


def engine_class(url: str) -> type[BaseBackend]:
    """The engine behind a URL's scheme. ConfigurationError if there is none, or its client is missing."""
    scheme = parse(url).scheme
    target = ENGINES.get(scheme)
    if target is None:
        from importlib.metadata import entry_points  # 50 ms, and seldom needed

        found = entry_points(group=ENTRY_POINTS, name=scheme)
        if not found:
            known = sorted({*ENGINES, *(point.name for point in entry_points(group=ENTRY_POINTS))})
            raise ConfigurationError(
                f"no engine for {scheme}://; there are {', '.join(f'{name}://' for name in known)}"
            )
        return cast("type[BaseBackend]", next(iter(found)).load())
    module, _, name = target.partition(":")
    try:
        return cast("type[BaseBackend]", getattr(importlib.import_module(module), name))
    except ImportError as exc:
        extra = module.removeprefix("settled.backends.") if module.startswith("settled.backends.") else scheme
        raise ConfigurationError(f"{scheme}:// needs {exc.name}: pip install 'settled[{extra}]'") from exc


def connect(url: str | None = None, **conf: object) -> BaseBackend:
    """The backend behind `url`, with an app of its own; arguments as for `App`."""
    return App(url, **conf).backend  # type: ignore[arg-type]
