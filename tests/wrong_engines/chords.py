"""Engines that are wrong about barriers, claims and dispatch."""

from __future__ import annotations

import uuid

from msgspec.structs import replace

from settled.backends.memory import MemoryBackend
from settled.errors import DecodeError, StoreError
from settled.record import Chord, ChordState, FailurePolicy
from settled.states import READY_STATES
from tests.wrong_engines.proofs import breaks


class Opened(MemoryBackend):
    """Gets at the barrier of a part."""

    def barrier_of(self, write):
        return self._chords.get(write.part.group_id) if write.part else None

    def counted(self, write):
        """What the task of `write` was counted as, None if it was not."""
        barrier = self.barrier_of(write)
        places = barrier.places.get(write.task_id, ()) if barrier else ()
        return barrier.parts[places[0]] if places else None

    def hidden(self, call, *args):
        """Call it as if there were no records."""
        with self._store:
            records, self._records = self._records, {}
            try:
                return call(*args)
            finally:
                self._records = records


# -- members and parts ---------------------------------------------------------------------------


@breaks("barrier.it_opens_as_it_was_given", "dispatch.the_body_gets_the_results_in_order")
class ReversesMembers(MemoryBackend):
    def do_open_chord(self, chord, claim):
        return super().do_open_chord(replace(chord, members=chord.members[::-1]), claim)


@breaks("barrier.an_unknown_chord_is_none")
class EmptyForUnknownChords(MemoryBackend):
    def do_read_chord(self, group_id):
        return super().do_read_chord(group_id) or ChordState(Chord(group_id, (), b"", ""), (), False)


@breaks("barrier.parts_are_counted_in_their_place")
class PartsInOrderOfArrival(MemoryBackend):
    def do_read_chord(self, group_id):
        state = super().do_read_chord(group_id)
        return replace(state, parts=tuple(sorted(state.parts, key=lambda part: part is None)))


@breaks("barrier.a_duplicate_counts_once", "barrier.strangers_are_not_counted")
class CountsDeliveries(Opened):
    def do_settle(self, write):
        barrier = self.barrier_of(write)
        settled = super().do_settle(replace(write, part=None))
        if barrier and None in barrier.parts and settled.state in READY_STATES:
            barrier.parts[barrier.parts.index(None)] = settled.state
            barrier.counted += 1
        return settled


@breaks("barrier.a_place_need_not_be_known")
class NeedsThePlace(MemoryBackend):
    def do_settle(self, write):
        placeless = write.part is not None and write.part.place is None
        return super().do_settle(replace(write, part=None) if placeless else write)


@breaks("barrier.a_late_success_replaces_a_failure")
class FirstCountStays(Opened):
    def do_settle(self, write):
        return super().do_settle(replace(write, part=None) if self.counted(write) else write)

    def do_count_parts(self, group_id, task_ids, claim):
        return False

    def header_of(self, group_id):
        return []


@breaks("barrier.a_late_failure_replaces_nothing")
class LastCountStays(Opened):
    def do_settle(self, write):
        settled = super().do_settle(write)
        barrier = self.barrier_of(write)
        if barrier and write.state in READY_STATES:
            barrier.parts[barrier.places[write.task_id][0]] = write.state
        return settled


@breaks("barrier.a_refused_part_is_counted_still")
class CountsWhatLands(MemoryBackend):
    def do_settle(self, write):
        settled = super().do_settle(replace(write, part=None))
        if not settled or write.part is None:
            return settled
        claimed = self.do_count_parts(write.part.group_id, (write.task_id,), write.claim)
        return replace(settled, claimed=claimed)


@breaks("barrier.an_unready_part_is_not_counted")
class CountsAnyState(Opened):
    def do_settle(self, write):
        barrier = self.barrier_of(write)
        if barrier:
            barrier.parts[barrier.places[write.task_id][0]] = write.state
        return super().do_settle(write)


@breaks("barrier.a_part_of_no_chord_is_stored")
class NeedsTheChord(Opened):
    def do_settle(self, write):
        if write.part and not self.barrier_of(write):
            raise StoreError("no such chord")
        return super().do_settle(write)


@breaks("barrier.opening_counts_who_was_first", "dispatch.the_header_may_run_before_the_barrier")
class OpensUncounted(Opened):
    def do_open_chord(self, chord, claim):
        return self.hidden(super().do_open_chord, chord, claim)


@breaks("barrier.opening_a_complete_chord_claims_it", "dispatch.an_empty_header_is_complete")
class OpeningNeverClaims(MemoryBackend):
    def do_open_chord(self, chord, claim):
        return super().do_open_chord(chord, None)


@breaks("barrier.opening_again_changes_nothing", "barrier.opening_a_done_chord_changes_nothing")
class OpensAnew(MemoryBackend):
    def do_open_chord(self, chord, claim):
        self.do_delete_chord(chord.group_id)
        return super().do_open_chord(chord, claim)


@breaks("barrier.a_task_may_stand_twice")
class OnePlaceForEachTask(MemoryBackend):
    def do_open_chord(self, chord, claim):
        return super().do_open_chord(replace(chord, members=tuple(dict.fromkeys(chord.members))), claim)


@breaks("barrier.a_header_grows", "dispatch.a_header_task_may_add_to_its_header")
class GrowsOnPaper(MemoryBackend):
    def do_grow_chord(self, group_id, members):
        size = super().do_grow_chord(group_id, ())
        return None if size is None else size + len(members)


@breaks("barrier.growing_counts_who_was_first")
class GrowsUncounted(Opened):
    def do_grow_chord(self, group_id, members):
        return self.hidden(super().do_grow_chord, group_id, members)


@breaks("barrier.growing_twice_grows_once", "outages.every_chord_hook_may_run_twice")
class GrowsTwice(MemoryBackend):
    def do_grow_chord(self, group_id, members):
        self._add(group_id, members)
        return super().do_grow_chord(group_id, ())


@breaks("barrier.what_is_complete_does_not_grow")
class GrowsWhenComplete(MemoryBackend):
    def do_grow_chord(self, group_id, members):
        size = super().do_grow_chord(group_id, members)
        if size is None and group_id in self._chords:
            self._add(group_id, members)
            return len(self._chords[group_id].parts)
        return size


@breaks(
    "barrier.the_policy_first_ends_at_a_failure",
    "dispatch.the_policy_first_fails_at_once",
    "dispatch.the_policy_outcomes_hands_over_all",
)
class OnePolicy(MemoryBackend):
    def do_open_chord(self, chord, claim):
        return super().do_open_chord(replace(chord, policy=FailurePolicy.ALL), claim)


@breaks("dispatch.the_policy_all_waits_then_fails")
class AlwaysFirst(MemoryBackend):
    def do_open_chord(self, chord, claim):
        return super().do_open_chord(replace(chord, policy=FailurePolicy.FIRST), claim)


@breaks("barrier.a_recount_reads_the_records", "dispatch.a_part_may_be_reported")
class RecountsNothing(MemoryBackend):
    def do_count_parts(self, group_id, task_ids, claim):
        return False


@breaks("barrier.a_deleted_chord_is_gone", "dispatch.a_header_that_cannot_be_sent_leaves_no_barrier")
class BarriersStay(MemoryBackend):
    def do_delete_chord(self, group_id):
        pass


@breaks("barrier.chords_do_not_mix")
class CountsByPlace(Opened):
    def do_settle(self, write):
        settled = super().do_settle(write)
        for barrier in self._chords.values() if write.part else ():
            barrier.parts[write.part.place] = settled.state
        return settled


@breaks("barrier.a_long_header_is_kept")
class ShortHeaders(MemoryBackend):
    def do_open_chord(self, chord, claim):
        return super().do_open_chord(replace(chord, members=chord.members[:256]), claim)


@breaks("barrier.a_barrier_outlives_its_results")
class BarriersExpire(MemoryBackend):
    def do_cleanup(self, limit):
        self._chords.clear()
        return super().do_cleanup(limit)


# -- claims --------------------------------------------------------------------------------------


@breaks("claims.the_last_part_gets_the_claim")
class NeverClaims(MemoryBackend):
    def do_settle(self, write):
        return super().do_settle(replace(write, claim=None))


@breaks(
    "claims.a_live_claim_keeps_others_away",
    "claims.racing_claims_have_one_winner",
    "dispatch.who_lost_the_claim_does_not_send",
)
class ClaimForAll(MemoryBackend):
    def _claim(self, barrier, claim, now):
        barrier.token = None
        return super()._claim(barrier, claim, now)


@breaks(
    "claims.the_same_token_gets_its_claim_back",
    "outages.a_lost_reply_gets_its_claim_back",
    "outages.a_lost_reply_sends_the_body_once",
)
class ClaimsOnce(MemoryBackend):
    def _claim(self, barrier, claim, now):
        live = barrier.token is not None and barrier.claimed_until > now
        return not live and super()._claim(barrier, claim, now)


@breaks(
    "claims.a_dead_claim_is_taken_over",
    "dispatch.the_sweep_takes_over_from_the_dead",
    "dispatch.sending_is_tried_again",
)
class ClaimsForEver(MemoryBackend):
    def _claim(self, barrier, claim, now):
        return barrier.token in (None, claim.token) and super()._claim(barrier, claim, now)


@breaks("claims.a_claim_can_be_extended")
class ClaimsAreNotExtended(MemoryBackend):
    def _claim(self, barrier, claim, now):
        return barrier.token == claim.token or super()._claim(barrier, claim, now)


@breaks("claims.a_lease_is_as_long_as_asked")
class ClaimsOfAMinute(MemoryBackend):
    def _claim(self, barrier, claim, now):
        return super()._claim(barrier, replace(claim, lease=60.0), now)


@breaks("claims.what_is_incomplete_is_not_claimed")
class ClaimsTheIncomplete(MemoryBackend):
    def do_claim_chord(self, group_id, claim):
        return self._claim(self._chords[group_id], claim, self.clock())


@breaks("claims.what_is_done_is_not_claimed")
class ClaimsTheDone(MemoryBackend):
    def do_claim_chord(self, group_id, claim):
        return self._chords[group_id].complete() and self._claim(self._chords[group_id], claim, self.clock())


@breaks("claims.the_done_marker_stays", "dispatch.a_duplicate_part_sends_nothing_more")
class DropsWhatIsDone(MemoryBackend):
    def do_finish_chord(self, group_id):
        self.do_delete_chord(group_id)


@breaks("claims.what_is_claimed_is_not_due")
class AllThatIsCompleteIsDue(MemoryBackend):
    def do_due_chords(self, limit):
        return [each for each, barrier in self._chords.items() if barrier.complete()][:limit]


@breaks("claims.a_look_at_what_is_due_is_bounded")
class DueWithoutBound(MemoryBackend):
    def do_due_chords(self, limit):
        return super().do_due_chords(1000)


# -- dispatch ------------------------------------------------------------------------------------


@breaks("dispatch.the_barrier_may_be_open_before_the_header")
class OpensLate(MemoryBackend):
    def apply_chord(self, header, partial_args, group_id, body, **options):
        options.pop("result", None)
        return super().apply_chord(header, partial_args, group_id, body, **options)


@breaks("dispatch.the_body_id_is_fixed")
class NewBodyIds(MemoryBackend):
    def do_open_chord(self, chord, claim):
        return super().do_open_chord(replace(chord, body_id=str(uuid.uuid4())), claim)


@breaks("dispatch.the_sweep_sends_what_was_left")
class NothingIsDue(MemoryBackend):
    def do_due_chords(self, limit):
        return ()


@breaks("dispatch.a_body_that_ran_is_not_sent_again")
class DoesNotSeeTheBody(MemoryBackend):
    def read_many(self, task_ids):
        return {each: meta for each, meta in super().read_many(task_ids).items() if each != "body"}


@breaks("dispatch.chords_nest")
class BodiesFailAlone(MemoryBackend):
    def mark_as_failure(self, task_id, exc, traceback=None, request=None):
        return super().mark_as_failure(task_id, exc, traceback, None if task_id == "body" else request)


@breaks("dispatch.a_damaged_member_is_named")
class DamageIsAnOutage(MemoryBackend):
    def read_meta(self, task_id, payload):
        try:
            return super().read_meta(task_id, payload)
        except DecodeError:
            raise StoreError("cannot read") from None


@breaks("dispatch.an_expired_member_is_named", "expiry.an_expired_record_is_not_read")
class ExpiredIsStillRead(MemoryBackend):
    def _live(self, task_id, now):
        return self._records.get(task_id)


@breaks(
    "dispatch.a_member_that_never_settles_is_named",
    "cleanup.a_cleanup_counts_members_as_expired",
    "cleanup.a_cleanup_makes_due",
)
class ExpiresInSilence(MemoryBackend):
    def _count_expired(self, task_id, now):
        pass
