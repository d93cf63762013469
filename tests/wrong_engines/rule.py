"""Engines that are wrong about what a late write may do, and about writers at the same moment."""

from __future__ import annotations

import json

from msgspec.structs import replace

from settled.backends.memory import MemoryBackend
from settled.errors import StoreError
from settled.record import Settled
from settled.states import FAILURE, READY_STATES, RETRY, STARTED, SUCCESS
from tests.wrong_engines.proofs import breaks


class Overwriting(MemoryBackend):
    """Can write past the guard."""

    def overwrite(self, write):
        with self._store:
            self._records.pop(write.task_id, None)
            return super().do_settle(write)

    def stored(self, task_id):
        record = self._records.get(task_id)
        return None if record is None else record.write


@breaks(
    "rule.every_transition_follows_the_rule",
    "guarded.the_history_of_threads_is_linear",
    "model.any_sequence_does_as_the_model",
)
class NoGuard(Overwriting):
    def do_settle(self, write):
        return self.overwrite(write)


@breaks("rule.success_is_final", "guarded.one_of_racing_successes_lands")
class SuccessGivesWay(Overwriting):
    def do_settle(self, write):
        return self.overwrite(write) if write.state == SUCCESS else super().do_settle(write)


@breaks("rule.a_late_start_is_refused")
class LaterAttemptWins(Overwriting):
    def do_settle(self, write):
        old = self.stored(write.task_id)
        later = old is not None and write.attempt > old.attempt
        return self.overwrite(write) if later else super().do_settle(write)


@breaks("rule.an_earlier_attempt_is_refused")
class IgnoresAttempts(MemoryBackend):
    def do_settle(self, write):
        return super().do_settle(replace(write, attempt=0))


@breaks("rule.running_states_follow_each_other")
class RetryOutranksStarted(Overwriting):
    def do_settle(self, write):
        old = self.stored(write.task_id)
        if old is not None and (old.state, write.state) == (RETRY, STARTED):
            return Settled(False, RETRY)
        return super().do_settle(write)


@breaks("rule.a_refused_write_leaves_the_bytes")
class RefusedButStored(Overwriting):
    def do_settle(self, write):
        settled = super().do_settle(write)
        if not settled:
            self._records[write.task_id].write = replace(
                self._records[write.task_id].write, payload=write.payload
            )
        return settled


@breaks("rule.a_refused_write_says_what_is_stored")
class SaysWhatWasWritten(MemoryBackend):
    def do_settle(self, write):
        return replace(super().do_settle(write), state=write.state)


@breaks("rule.a_repeated_write_changes_nothing")
class DuplicateKey(Overwriting):
    def do_settle(self, write):
        if self.stored(write.task_id) == write:
            raise StoreError("duplicate key")
        return super().do_settle(write)


@breaks("rule.the_guard_needs_no_decoding")
class GuardReadsJson(Overwriting):
    def do_settle(self, write):
        old = self.stored(write.task_id)
        try:
            json.loads(old.payload if old else b"{}")
        except ValueError:
            return self.overwrite(write)
        return super().do_settle(write)


@breaks("rule.the_marks_report_what_landed")
class SaysAllLanded(MemoryBackend):
    def store_result(self, *args, **kwargs):
        return replace(super().store_result(*args, **kwargs), landed=True)


@breaks("dispatch.a_retried_task_counts_as_its_success")
class FailureIsFinal(Overwriting):
    def do_settle(self, write):
        old = self.stored(write.task_id)
        final = old is not None and old.state == FAILURE
        return super().do_settle(replace(write, state=STARTED) if final else write)


@breaks("guarded.a_racing_start_never_wins")
class LosesUpdates(Overwriting):
    """As a guard that reads, then writes: what is written in between is lost."""

    def do_settle(self, write):
        old = self.stored(write.task_id)
        if old is not None and write.state in READY_STATES and old.state == STARTED:
            return Settled(True, write.state)
        return self.overwrite(write)


@breaks("atomic.no_record_is_seen_uncounted", "atomic.a_settle_counts_and_claims_in_one")
class CountsLater(MemoryBackend):
    """Stores the record now and counts its part with the next one."""

    late: tuple = ()

    def do_settle(self, write):
        settled = super().do_settle(replace(write, part=None))
        for part, task_id in self.late:
            self.do_count_parts(part.group_id, (task_id,), None)
        self.late = ((write.part, write.task_id),) if write.part else ()
        return settled


@breaks("atomic.a_settle_makes_due_in_one", "claims.without_a_claim_it_is_due_at_once")
class DueWhenClaimed(MemoryBackend):
    def do_due_chords(self, limit):
        return [each for each in super().do_due_chords(limit) if self._chords[each].token is not None]


@breaks("claims.a_late_part_gets_what_is_due")
class ClaimsByCountingOnly(MemoryBackend):
    def do_settle(self, write):
        complete = write.part is not None and self._chords[write.part.group_id].complete()
        return super().do_settle(replace(write, claim=None) if complete else write)


@breaks("atomic.racing_duplicates_count_once", "claims.racing_parts_get_one_claim")
class ClaimForEachPart(MemoryBackend):
    def do_settle(self, write):
        settled = super().do_settle(write)
        return replace(settled, claimed=write.claim is not None and settled.state in (SUCCESS, FAILURE))


@breaks("outages.a_lost_reply_lands_once")
class RefusesItsOwnRepetition(Overwriting):
    def do_settle(self, write):
        before = self.stored(write.task_id)
        settled = super().do_settle(write)
        repeated = before is not None and before.payload == write.payload
        return replace(settled, landed=False) if repeated else settled
