"""The checks, one module for each group or two. Importing this package fills `CONTRACT`."""

from __future__ import annotations

from settled.testing.checks import (  # noqa: F401 - each adds its checks
    atomic,
    barrier,
    claims,
    crashes,
    damage,
    dispatch,
    durability,
    expiry,
    failures,
    forgetting,
    groups,
    guarded,
    ids,
    leases,
    model,
    outages,
    polling,
    push,
    queries,
    records,
    rule,
    sharing,
    tombstones,
    values,
    waiting,
    wire,
)
from settled.testing.contract import CONTRACT

__all__ = ["CONTRACT"]
