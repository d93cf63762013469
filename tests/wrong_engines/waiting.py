"""Engines in which somebody waits in vain, or is told too much."""

from __future__ import annotations

from itertools import islice

from settled.backends.memory import MemoryBackend
from settled.errors import ConfigurationError, StoreError, StoreUnavailable, TimeoutError
from settled.waiting import Watcher
from tests.wrong_engines.proofs import breaks


class Blind(Watcher):
    """Does not look again once it has registered a waiter."""

    def _tell_safely(self, task_ids):
        if self.noticing:
            super()._tell_safely(task_ids)

    noticing = False


class Deaf(Watcher):
    """Is told nothing of what this process does."""

    def notice(self, task_id):
        pass

    def notice_all(self):
        pass


class FirstOnly(Watcher):
    """Tells one waiter of each task."""

    def _take(self, task_id):
        return super()._take(task_id)[:1]


class Hoarding(Watcher):
    """Lets nobody go."""

    def discard(self, waiter):
        pass


class Watched(MemoryBackend):
    """With a watcher of another kind."""

    kind: type[Watcher] = Watcher

    @property
    def watcher(self):
        if self._watcher is None:
            self._watcher = self.kind(self._ready, None)
        return self._watcher


@breaks("waiting.a_settle_during_the_look_is_seen")
class LooksOnce(Watched):
    kind = Blind


@breaks(
    "waiting.a_waiting_thread_is_told",
    "waiting.a_waiting_thread_is_raised_at",
    "waiting.many_come_as_they_are_ready",
    "waiting.futures_are_resolved",
    "waiting.threads_wait_by_the_dozen",
    "outages.a_lost_reply_still_tells_waiters",
    "tombstones.forgetting_tells_waiters",
    "tombstones.a_cleanup_tells_waiters",
)
class TellsNobody(Watched):
    kind = Deaf


@breaks("waiting.every_waiter_is_told")
class TellsOne(Watched):
    kind = FirstOnly


@breaks("waiting.a_cancelled_future_is_let_go")
class LetsNobodyGo(Watched):
    kind = Hoarding


@breaks("waiting.a_ready_result_is_had_at_once")
class ZeroNeverLooks(MemoryBackend):
    def wait_for(self, task_id, timeout=None, propagate=True, interval=0.5):
        if timeout == 0:
            raise TimeoutError(task_id)
        return super().wait_for(task_id, timeout, propagate, interval)


@breaks("waiting.a_timeout_of_zero_looks_once")
class ZeroIsNone(MemoryBackend):
    def wait_for(self, task_id, timeout=None, propagate=True, interval=0.5):
        try:
            return super().wait_for(task_id, timeout, propagate, interval)
        except TimeoutError:
            return None


@breaks("waiting.a_useless_timeout_is_refused")
class AnyTimeout(MemoryBackend):
    def wait_for(self, task_id, timeout=None, propagate=True, interval=0.5):
        try:
            return super().wait_for(task_id, timeout, propagate, interval)
        except ConfigurationError:
            return super().wait_for(task_id, 0, propagate, interval)


@breaks("waiting.many_that_are_ready_are_had_at_once")
class StopsAtAHundred(MemoryBackend):
    def get_many(self, task_ids, timeout=None, **kwargs):
        return islice(super().get_many(task_ids, timeout, **kwargs), 100)


@breaks("waiting.many_have_one_timeout")
class TimesOutFirst(MemoryBackend):
    def get_many(self, task_ids, timeout=None, **kwargs):
        if timeout == 0:
            raise TimeoutError("not all were ready")
        return super().get_many(task_ids, timeout, **kwargs)


@breaks("waiting.other_states_can_be_waited_for")
class ReadyOnly(MemoryBackend):
    def get_many(self, task_ids, timeout=None, interval=0.5, READY_STATES=None):  # noqa: N803
        return super().get_many(task_ids, timeout, interval)


@breaks("outages.a_short_outage_is_not_seen")
class TriesOnce(MemoryBackend):
    def call(self, hook, *args, **kwargs):
        return hook(*args, **kwargs)


@breaks("outages.a_long_outage_is_an_error")
class GivesUpInSilence(MemoryBackend):
    def mark_as_done(self, task_id, result, request=None):
        try:
            return super().mark_as_done(task_id, result, request)
        except StoreUnavailable:
            return None


@breaks("outages.a_refusal_is_not_repeated")
class RepeatsRefusals(MemoryBackend):
    def call(self, hook, *args, **kwargs):
        try:
            return super().call(hook, *args, **kwargs)
        except StoreError:
            return super().call(hook, *args, **kwargs)
