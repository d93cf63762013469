"""Engines that are wrong about other processes, and about what happens when one is killed."""

from __future__ import annotations

import threading
import uuid

from msgspec.structs import replace

from settled.backends.base import KeyValueStoreBackend
from settled.backends.memory import MemoryBackend
from settled.backends.sqlite import SQLiteBackend
from settled.errors import StoreError, StoreUnavailable, TimeoutError
from settled.record import Capabilities
from tests.wrong_engines.proofs import breaks

# -- sharing -------------------------------------------------------------------------------------


@breaks(
    "sharing.processes_see_each_others_records",
    "sharing.backends_see_each_others_writes",
    "sharing.one_of_racing_processes_lands",
    "sharing.the_history_of_processes_is_linear",
    "sharing.processes_count_one_chord",
    "sharing.processes_do_not_share_a_lease",
    "sharing.another_backend_wakes_a_waiter",
    "sharing.another_process_wakes_a_waiter",
    "sharing.a_backend_travels",
    "sharing.a_forked_child_has_its_own",
    "sharing.ten_open_an_empty_store",
    "sharing.another_process_sweeps",
    "sharing.a_skewed_clock_harms_nothing",
    "durability.what_was_acknowledged_survives_a_kill",
    "durability.records_survive_closing",
    "durability.barriers_survive_a_kill",
    "durability.tombstones_survive_closing",
)
class SharesNothing(MemoryBackend):
    capabilities = replace(MemoryBackend.capabilities, shared=True, durable=True)


@breaks("sharing.threads_share_a_backend")
class OneThreadOnly(SQLiteBackend):
    thread = 0

    def do_settle(self, write):
        self.thread = self.thread or threading.get_ident()
        if self.thread != threading.get_ident():
            raise StoreError("a connection can be used in the thread that made it only")
        return super().do_settle(write)


@breaks("waiting.an_outage_is_not_seen", "waiting.an_outage_ends_with_the_timeout")
class ShowsOutages(SQLiteBackend):
    def wait_for(self, task_id, timeout=None, propagate=True, interval=0.5):
        try:
            self.do_read((task_id,))
        except StoreUnavailable as exc:
            raise StoreError("the store is away") from exc
        return super().wait_for(task_id, timeout, propagate, interval)


# -- push ----------------------------------------------------------------------------------------


class _Listener:
    """Hears nothing but `wake`."""

    def __init__(self):
        self.woken = threading.Event()

    def wait(self, timeout):
        self.woken.wait(timeout)
        self.woken.clear()
        return ()

    def wake(self):
        self.woken.set()

    def watch(self, task_ids):
        pass

    unwatch = watch

    def close(self):
        pass


@breaks(
    "push.a_push_wakes_a_waiter",
    "push.many_futures_are_pushed",
    "push.a_cut_listener_listens_again",
    "push.an_outage_of_the_listener_is_not_seen",
    "push.a_waiter_added_later_is_pushed",
)
class HearsNothing(SQLiteBackend):
    def do_listen(self):
        return _Listener()


class _Forgetful:
    """Drops what came before its first wait."""

    def __init__(self, listener):
        self.listener = listener
        self.fresh = True
        self.wake, self.close = listener.wake, listener.close
        self.unwatch = listener.unwatch

    def watch(self, task_ids):
        self.listener.watch(())

    def wait(self, timeout):
        if self.fresh:
            self.fresh = False
            self.listener.wait(0)
        return self.listener.wait(timeout)


@breaks("push.a_settle_while_listening_begins_is_pushed")
class BeginsLate(SQLiteBackend):
    """Misses what is settled while the listening begins; does not look afterwards either."""

    listening = False

    def do_listen(self):
        self.listening = True
        return _Forgetful(super().do_listen())

    def do_read(self, task_ids):
        return {} if self.listening else super().do_read(task_ids)


@breaks("push.nobody_waits_nothing_listens")
class ListensAlways(SQLiteBackend):
    def do_settle(self, write):
        self.do_listen().close()
        return super().do_settle(write)


# -- kill -9 ---------------------------------------------------------------------------------------


@breaks("crashes.inside_the_settle")
class SettlesInTwoSteps(SQLiteBackend):
    def do_settle(self, write):
        settled = super().do_settle(replace(write, part=None))
        if write.part is None:
            return settled
        return replace(
            settled, claimed=self.do_count_parts(write.part.group_id, (write.task_id,), write.claim)
        )


@breaks("crashes.before_the_settle")
class RefusesRedelivery(SQLiteBackend):
    """Takes each part from the process that opened the chord alone."""

    def do_settle(self, write):
        return super().do_settle(replace(write, claim=None))

    def do_due_chords(self, limit):
        return ()


@breaks("crashes.after_the_settle", "crashes.after_the_opening")
class NothingIsDueHere(SQLiteBackend):
    def do_due_chords(self, limit):
        return ()


@breaks("crashes.before_the_sending", "crashes.after_the_claim")
class ClaimsOutliveTheirHolder(SQLiteBackend):
    def do_settle(self, write):
        return super().do_settle(replace(write, claim=write.claim and replace(write.claim, lease=1e9)))

    def do_claim_chord(self, group_id, claim):
        return super().do_claim_chord(group_id, replace(claim, lease=1e9))


@breaks("crashes.after_the_sending")
class NewBodyEachTime(SQLiteBackend):
    def do_read_chord(self, group_id):
        state = super().do_read_chord(group_id)
        return state and replace(state, chord=replace(state.chord, body_id=str(uuid.uuid4())))


@breaks("crashes.after_the_sending_of_a_body_that_ran")
class DoesNotLookForTheBody(SQLiteBackend):
    def read_many(self, task_ids):
        return {each: meta for each, meta in super().read_many(task_ids).items() if each != "body"}


@breaks("crashes.after_the_end")
class NeverDone(SQLiteBackend):
    def do_finish_chord(self, group_id):
        pass


# -- chords that are polled --------------------------------------------------------------------------


class Polled(KeyValueStoreBackend):
    """The least that a key/value engine can be."""

    capabilities = Capabilities()
    default_url = "polled://"

    def __init__(self, app, *args, **kwargs):
        super().__init__(app, *args, **kwargs)
        self.values = {}

    def get(self, key):
        return self.values.get(key)

    def set(self, key, value):
        self.values[key] = value

    def delete(self, key):
        self.values.pop(key, None)


@breaks("polling.the_poll_is_sent")
class PollsWithoutHeader(Polled):
    def fallback_chord_unlock(self, group_id, body, result=None, **kwargs):
        super().fallback_chord_unlock(group_id, body, **kwargs)


@breaks("polling.without_the_task_it_says_so")
class NeverPolls(Polled):
    def fallback_chord_unlock(self, group_id, body, **kwargs):
        pass


@breaks("polling.a_poll_sends_when_all_are_ready")
class SeesNoMembers(Polled):
    def read_many(self, task_ids):
        return {}


@breaks("polling.a_poll_fails_the_body")
class DropsFailures(Polled):
    def mark_as_failure(self, task_id, exc, traceback=None, request=None):
        if task_id != "body":
            return super().mark_as_failure(task_id, exc, traceback, request)
        raise TimeoutError("dropped")


@breaks("polling.a_poll_does_not_send_again")
class SendsAgain(Polled):
    def read_many(self, task_ids):
        return {each: meta for each, meta in super().read_many(task_ids).items() if each != "body"}
