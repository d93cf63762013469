"""The published result-backend interface: import it from here, as from `celery.backends.base`."""

from __future__ import annotations

from settled.backends.disabled import DisabledBackend
from settled.backends.keyvalue import KeyValueStoreBackend
from settled.backends.template import BaseBackend

__all__ = ["BaseBackend", "DisabledBackend", "KeyValueStoreBackend"]
