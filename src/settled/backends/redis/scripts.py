"""The Lua that the store runs, kept in `.lua` files and sent once."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from importlib.resources import files

from settled import chords
from settled.backends.redis.records import milliseconds

_USES = re.compile(r"^-- uses: (.+)$", re.MULTILINE)
"""Stands where the text of these files is to stand."""


class Script:
    """One script: its text, with what it uses before it, and the digest by which the server knows it."""

    __slots__ = ("digest", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


@lru_cache
def script(name: str, publish: str = "PUBLISH") -> Script:
    """The script in `name`.lua. `publish` is the command that tells waiters: SPUBLISH in a cluster."""
    text = _USES.sub(lambda uses: "\n".join(map(_text, uses[1].split(", "))), _text(name))
    given = f"local PUBLISH, DONE_LIFE = '{publish}', {milliseconds(chords.DONE_LIFE)}"
    return Script(name, f"{given}\n{_bare(text)}")


def _text(name: str) -> str:
    return files("settled.backends.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _bare(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))
