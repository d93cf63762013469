"""From `pkg.module:function` to the function, checked before anything is run."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Callable
from difflib import get_close_matches
from functools import reduce

from settled.errors import ConfigurationError


def load(spec: str) -> Callable[..., object]:
    """The function that `spec` names. ConfigurationError if workers could not find it by that name."""
    module_name, colon, path = spec.partition(":")
    if not colon or not module_name or not path:
        raise ConfigurationError(f"{spec!r} does not name a function: write package.module:function")
    if module_name == "__main__":
        raise ConfigurationError(
            f"{spec!r}: workers cannot import __main__; put the function into a module of its own"
        )
    function = _attribute(_module(module_name), path, spec)
    if not callable(function):
        raise ConfigurationError(f"{spec!r} is {_kind(function)}, not a function")
    try:
        pickle.dumps(function)
    except Exception as exc:
        raise ConfigurationError(
            f"{spec!r} cannot be sent to a worker process: {exc}. Name a function written with `def` "
            "at the top level of a module"
        ) from exc
    return function


def make_importable(folder: str) -> None:
    """Put `folder` first on the path on which modules are found, as `python -m` does."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _module(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise ConfigurationError(
                f"there is no module {exc.name!r} in {os.getcwd()} or among what is installed; "
                "run the command where the module is, or set PYTHONPATH"
            ) from exc
        raise ConfigurationError(f"module {name!r} imports {exc.name!r}, which is not installed") from exc
    except Exception as exc:
        raise ConfigurationError(f"module {name!r} cannot be imported: {type(exc).__name__}: {exc}") from exc


def _attribute(module: object, path: str, spec: str) -> object:
    try:
        return reduce(getattr, path.split("."), module)
    except AttributeError as exc:
        close = get_close_matches(
            path, [name for name in dir(module) if callable(getattr(module, name, None))], n=1
        )
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(f"{spec!r}: the module has no {path!r}{hint}") from exc


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
