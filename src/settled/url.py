"""Backend URLs: `scheme://user:password@host:port/path?option=value`. Pure text, nothing is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec

from settled.errors import ConfigurationError

_SECRET = re.compile("pass|pwd|secret|token|key|credential|auth|signature", re.IGNORECASE)
"""What the name of an option with a secret in it looks like. Hiding one too many costs nothing."""


class Location(msgspec.Struct, frozen=True):
    """Where a store is, as its URL says. `path` is unquoted and begins with "/" where there is one.

    `host` and `port` are the first of `hosts`, of which a store of several servers may have many.
    """

    scheme: str
    host: str | None
    port: int | None
    hosts: tuple[tuple[str, int | None], ...]
    username: str | None
    password: str | None
    path: str
    options: Mapping[str, str]
    url: str

    def __repr__(self) -> str:
        return f"<Location {self.redacted()}>"

    def redacted(self) -> str:
        """The URL with every secret replaced by `**`: the only form that may be logged or shown."""
        parts = urlsplit(self.url)
        netloc = parts.netloc
        if "@" in netloc:
            user, _, host = netloc.rpartition("@")
            netloc = f"{user.partition(':')[0]}:**@{host}" if ":" in user else netloc
        shown = f"{parts.scheme}://{netloc}{parts.path}"
        query = "&".join(
            f"{quote(name)}={'**' if is_secret(name) else quote(value, safe='/:')}"
            for name, value in self.options.items()
        )
        return f"{shown}?{query}" if query else shown


def is_secret(option: str) -> bool:
    """Whether the value of this option must not be shown."""
    return _SECRET.search(option) is not None


def parse(url: object) -> Location:
    """Cut `url` into its parts, or ConfigurationError saying what is wrong with it."""
    if not isinstance(url, str):
        raise ConfigurationError(
            f"a backend URL is a str such as 'sqlite:///results.db', not {type(url).__name__}"
        )
    scheme, found, _ = url.partition("://")
    if not found or not scheme:
        raise ConfigurationError(
            f"{_without_user(url)[:40]!r} is not a backend URL: it has no scheme. "
            "Write 'sqlite:///results.db' or 'memory://'"
        )
    url = _joined(url, scheme)
    # Python's own messages quote parts of the URL, which may be parts of a password.
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(f"the {scheme}:// URL cannot be read: {_ESCAPE}") from None
    try:
        hosts = _hosts(parts.netloc)
    except ValueError:
        raise ConfigurationError(f"the port in the {scheme}:// URL is not a port number; {_ESCAPE}") from None
    host, port = hosts[0] if hosts else (None, None)
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ConfigurationError(f"the options in the {scheme}:// URL are not all name=value") from None
    if parts.fragment:
        raise ConfigurationError(f"the {scheme}:// URL has a '#': write it as %23")
    options = dict(pairs)
    if len(options) != len(pairs):
        names = sorted({name for name, _ in pairs if sum(other == name for other, _ in pairs) > 1})
        raise ConfigurationError(f"the {scheme}:// URL gives {', '.join(names)} more than once")
    return Location(
        scheme=scheme.lower(),
        host=host,
        port=port,
        hosts=hosts,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        path=unquote(parts.path),
        options=options,
        url=url,
    )


def _joined(url: str, scheme: str) -> str:
    """`s://a/0;s://b/0`, as some write several servers, in the form `s://a,b/0`."""
    first, *others = url.split(f";{scheme}://")
    if not others:
        return url
    head = f"{scheme}://"
    netloc, slash, rest = first[len(head) :].partition("/")
    more = [each.partition("/")[0].rpartition("@")[2] for each in others]
    query = next((each.partition("?")[2] for each in others if "?" in each), "")
    joined = f"{head}{','.join([netloc, *more])}{slash}{rest}"
    return f"{joined}?{query}" if query and "?" not in joined else joined


def _hosts(netloc: str) -> tuple[tuple[str, int | None], ...]:
    """(host, port) of each server; ValueError for a port that is none."""
    found = []
    for each in netloc.rpartition("@")[2].split(","):
        parts = urlsplit(f"//{each}")
        port = parts.port
        if parts.hostname:
            found.append((unquote(parts.hostname), port))
    return tuple(found)


def read_options(
    given: Mapping[str, object], known: Mapping[str, Callable[[object], object]], where: str
) -> dict[str, object]:
    """Options checked and converted; ConfigurationError names an unknown or unusable one."""
    values: dict[str, object] = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigurationError(f"{where} has no option {name!r}{_hint(name, known)}")
        try:
            values[name] = known[name](value)
        except (TypeError, ValueError) as exc:
            if is_secret(name):
                raise ConfigurationError(f"{where}: the value of option {name} is not usable") from None
            raise ConfigurationError(f"{where}: option {name}={value!r} is not usable: {exc}") from exc
    return values


_ESCAPE = "write '@', ':', '/', '?', '#', '[' and ']' in a user name or password as %40 and so on"


def _without_user(url: str) -> str:
    """The text with everything before its last "@" hidden: what is there may be a password."""
    head, at, tail = url.rpartition("@")
    return f"**@{tail}" if at else head or tail


def _hint(name: str, known: Mapping[str, object]) -> str:
    from difflib import get_close_matches  # 2 ms, for an error

    close = get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; it takes {', '.join(sorted(known))}" if known else "; it takes none"


def seconds(value: object) -> float:
    """A duration option: a finite number of seconds, not negative."""
    number = float(value)  # type: ignore[arg-type]
    if not 0 <= number < float("inf"):
        raise ValueError("expected a number of seconds, 0 or more")
    return number


def count(value: object) -> int:
    """A whole number, 1 or more."""
    number = int(value)  # type: ignore[call-overload]
    if number < 1:
        raise ValueError("expected a whole number, 1 or more")
    return int(number)


def switch(value: object) -> bool:
    """A yes or no: true, yes, on, 1, or their opposites."""
    word = str(value).lower()
    if word not in _SWITCH:
        raise ValueError("expected true or false")
    return _SWITCH[word]


_SWITCH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def one_of(*choices: str) -> Callable[[object], str]:
    """A reader for an option that takes one of `choices`, in any case."""

    def read(value: object) -> str:
        word = str(value).lower()
        if word not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return word

    return read
