"""The survey's function with a witness: every call says so, in one write, before it begins."""

from __future__ import annotations

import os

import stdlib_survey
from stdlib_survey import table

__all__ = ["measure", "table"]


def measure(path: str) -> stdlib_survey.Measures:
    with open(os.environ["WITNESS"], "a") as witness:
        witness.write(f"{os.getpid()} {path}\n")
    return stdlib_survey.measure(path)
