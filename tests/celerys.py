"""Celery's apps, as tests and benchmarks leave them behind."""

from __future__ import annotations

from celery import Celery


def close(app: Celery) -> None:
    """Let go of what an app holds open: pools, and the backend of either kind."""
    backend = app._backend
    if backend is not None and hasattr(backend, "engine"):
        backend.engine.close()
    elif backend is not None and hasattr(backend, "result_consumer"):
        backend.result_consumer.stop()
        # Else it opens a connection again, to unsubscribe, when a handle is collected.
        backend.result_consumer._pubsub = None
        backend.client.close()
        backend.client.connection_pool.disconnect()
    app.close()
