"""Any sequence of operations."""

from __future__ import annotations

from settled.testing.contract import check
from settled.testing.store import Store


@check("model")
def any_sequence_does_as_the_model(store: Store) -> None:
    """Any sequence of writes, chord operations, leases, forgetting and time answers as a plain model does."""
    # Here, because hypothesis takes longer to import than everything else together.
    from settled.testing import machine

    machine.run(store)
