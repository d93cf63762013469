"""`settled cleanup`: delete what has expired."""

from __future__ import annotations

from argparse import Namespace

from settled.cli import store, text


def run(arguments: Namespace) -> int:
    """Delete expired records in small batches, and say how many there were."""
    with store.opened(arguments.backend) as backend:
        print(f"{text.plural(backend.cleanup(), 'expired record')} deleted")
    return 0
