"""The checks, one module for each group or two. Importing this package fills `CONTRACT`."""

from __future__ import annotations

import settled.testing.checks.atomic
import settled.testing.checks.barrier
import settled.testing.checks.claims
import settled.testing.checks.crashes
import settled.testing.checks.damage
import settled.testing.checks.dispatch
import settled.testing.checks.durability
import settled.testing.checks.expiry
import settled.testing.checks.failures
import settled.testing.checks.forgetting
import settled.testing.checks.groups
import settled.testing.checks.growth
import settled.testing.checks.guarded
import settled.testing.checks.ids
import settled.testing.checks.keeping
import settled.testing.checks.leases
import settled.testing.checks.model
import settled.testing.checks.outages
import settled.testing.checks.polling
import settled.testing.checks.push
import settled.testing.checks.queries
import settled.testing.checks.records
import settled.testing.checks.recovery
import settled.testing.checks.rule
import settled.testing.checks.sharing
import settled.testing.checks.tombstones
import settled.testing.checks.values
import settled.testing.checks.waiting
import settled.testing.checks.wire  # noqa: F401
from settled.testing.contract import CONTRACT

__all__ = ["CONTRACT"]
