"""The backend of a program that configured none."""

from __future__ import annotations

from typing import NoReturn

from settled.backends.template import BaseBackend
from settled.record import Settled


class DisabledBackend(BaseBackend):
    """Stores nothing. Whoever asks for a result is told that no result backend is configured."""

    default_url = "disabled://"
    persistent = False

    def store_result(
        self, task_id: str, result: object, status: str, *args: object, **kwargs: object
    ) -> Settled:
        """Store nothing; never lands."""
        return Settled(False, "PENDING")

    def _is_disabled(self, *args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(
            "No result backend is configured: set result_backend, for example to 'sqlite:///results.db'"
        )

    @property
    def watcher(self) -> NoReturn:
        self._is_disabled()

    wait_for = wait_meta = get_many = _is_disabled
    get_state = get_status = get_result = get_traceback = get_children = _is_disabled
    get_task_meta = reload_task_result = presence = read_many = _is_disabled
    save_group = restore_group = get_group_meta = reload_group_result = delete_group = _is_disabled
    apply_chord = open_chord = query = forget = _is_disabled

    def cleanup(self) -> int:
        """Nothing is stored: nothing expires."""
        return 0
