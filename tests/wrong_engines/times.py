"""Engines that are wrong about expiry, cleanup, tombstones, leases and listings."""

from __future__ import annotations

import json

from msgspec.structs import replace

from settled.backends.memory import MemoryBackend
from settled.record import Gone, Query, Row, Settled
from tests.wrong_engines.proofs import breaks

# -- expiry --------------------------------------------------------------------------------------


@breaks("expiry.never_is_never")
class NeverIsADay(MemoryBackend):
    def do_settle(self, write):
        return super().do_settle(replace(write, expires=write.expires or 86400.0))


@breaks("expiry.each_record_has_its_own_time")
class OneTimeForAll(MemoryBackend):
    def do_settle(self, write):
        return super().do_settle(replace(write, expires=1000.0))


@breaks("expiry.an_expired_record_gives_way")
class ExpiredStillGuards(MemoryBackend):
    def do_settle(self, write):
        if write.task_id in self._records and self._live(write.task_id, self.clock()) is None:
            return Settled(False, self._records[write.task_id].write.state)
        return super().do_settle(write)


@breaks("expiry.a_write_sets_the_time_anew")
class FirstTimeStays(MemoryBackend):
    def do_settle(self, write):
        old = self._records.get(write.task_id)
        settled = super().do_settle(write)
        if old is not None:
            self._records[write.task_id].expires = old.expires
        return settled


@breaks("expiry.an_expired_part_is_not_counted")
class CountsTheExpired(MemoryBackend):
    def _count(self, group_id, task_ids, claim, now):
        return super()._count(group_id, task_ids, claim, 0.0)


@breaks("expiry.the_setting_is_for_all")
class FailuresAreKept(MemoryBackend):
    def expires_of(self, status):
        return self.expires


@breaks("expiry.a_call_may_have_its_own")
class OneSettingOnly(MemoryBackend):
    def store_result(self, *args, expires=None, **kwargs):
        return super().store_result(*args, **kwargs)


@breaks("expiry.a_group_expires_too")
class GroupsForEver(MemoryBackend):
    def do_write_group(self, group_id, payload, expires):
        super().do_write_group(group_id, payload, None)


@breaks("expiry.waiting_for_the_expired_says_so", "tombstones.the_expired_are_known")
class ExpiredIsUnknown(MemoryBackend):
    def do_read(self, task_ids):
        return {each: value for each, value in super().do_read(task_ids).items() if value is not Gone.EXPIRED}


# -- cleanup -------------------------------------------------------------------------------------


@breaks("cleanup.a_cleanup_deletes_the_expired")
class CleansNothing(MemoryBackend):
    def do_cleanup(self, limit):
        return 0


@breaks("cleanup.a_cleanup_leaves_the_rest")
class CleansAll(MemoryBackend):
    def do_cleanup(self, limit):
        count = len(self._records)
        self._records.clear()
        return count


@breaks("cleanup.a_cleanup_works_in_batches")
class CleansWithoutBound(MemoryBackend):
    def do_cleanup(self, limit):
        return super().do_cleanup(1000)


@breaks("cleanup.a_cleanup_deletes_groups")
class CleansNoGroups(MemoryBackend):
    def do_cleanup(self, limit):
        groups = dict(self._groups)
        deleted = super().do_cleanup(limit)
        self._groups = groups
        return len(self._records) and deleted


# -- tombstones ----------------------------------------------------------------------------------


@breaks("tombstones.four_answers_and_yes", "tombstones.waiting_for_the_forgotten_says_so")
class ForgottenIsUnknown(MemoryBackend):
    def do_read(self, task_ids):
        found = super().do_read(task_ids)
        return {each: value for each, value in found.items() if value is not Gone.FORGOTTEN}


@breaks("tombstones.forgetting_the_unknown_leaves_it_unknown")
class ForgetsTheUnknown(MemoryBackend):
    def do_forget(self, task_ids):
        super().do_forget(task_ids)
        self._tombstones.update(dict.fromkeys(task_ids, (Gone.FORGOTTEN, float("inf"))))


@breaks("tombstones.a_new_record_ends_the_tombstone")
class TombstonesStay(MemoryBackend):
    def do_forget(self, task_ids):
        self.buried = {*getattr(self, "buried", ()), *task_ids}
        super().do_forget(task_ids)

    def do_read(self, task_ids):
        buried = [each for each in task_ids if each in getattr(self, "buried", ())]
        return {**super().do_read(task_ids), **dict.fromkeys(buried, Gone.FORGOTTEN)}


# -- leases --------------------------------------------------------------------------------------


@breaks("leases.a_free_lease_is_taken")
class OneLeaseAtATime(MemoryBackend):
    def do_lease(self, names, token, seconds):
        return super().do_lease(names[:1], token, seconds)


@breaks("leases.a_held_lease_is_not_taken", "leases.racing_for_a_lease_has_one_winner")
class LeasesForAll(MemoryBackend):
    def do_lease(self, names, token, seconds):
        return frozenset(names) if seconds > 0 else super().do_lease(names, token, seconds)


@breaks("leases.a_holder_extends_its_lease", "outages.a_lease_may_be_taken_twice")
class LeasesAreTakenOnce(MemoryBackend):
    def do_lease(self, names, token, seconds):
        now = self.clock()
        free = [name for name in names if seconds <= 0 or self._leases.get(name, ("", 0.0))[1] <= now]
        return super().do_lease(free, token, seconds)


@breaks("leases.an_expired_lease_is_taken")
class LeasesForEver(MemoryBackend):
    def do_lease(self, names, token, seconds):
        return super().do_lease(names, token, seconds and 1e9)


@breaks("leases.a_holder_lets_go")
class NeverLetsGo(MemoryBackend):
    def do_lease(self, names, token, seconds):
        return super().do_lease(names, token, seconds) if seconds > 0 else frozenset()


@breaks("leases.others_do_not_let_go")
class AnybodyLetsGo(MemoryBackend):
    def do_lease(self, names, token, seconds):
        for name in names if seconds <= 0 else ():
            self._leases.pop(name, None)
        return super().do_lease(names, token, seconds)


@breaks("leases.a_lease_is_as_long_as_asked")
class LeasesOfAMinute(MemoryBackend):
    def do_lease(self, names, token, seconds):
        return super().do_lease(names, token, min(seconds, 60.0))


# -- listings ------------------------------------------------------------------------------------


@breaks("queries.the_newest_come_first")
class OldestFirst(MemoryBackend):
    def do_query(self, query):
        return reversed(list(super().do_query(query)))


@breaks("queries.a_write_moves_to_the_front")
class InOrderOfCreation(MemoryBackend):
    def do_query(self, query):
        return iter(sorted(super().do_query(query), key=lambda row: row.created, reverse=True))


@breaks("queries.what_is_asked_for_is_listed")
class ListsAll(MemoryBackend):
    def do_query(self, query):
        return super().do_query(Query(since=query.since, until=query.until, limit=query.limit))


@breaks("queries.a_listing_is_bounded")
class ListsWithoutBound(MemoryBackend):
    def do_query(self, query):
        return super().do_query(replace(query, limit=1000))


@breaks("queries.a_span_of_time_is_listed")
class ListsAnyTime(MemoryBackend):
    def do_query(self, query):
        return super().do_query(replace(query, since=None, until=None))


@breaks("queries.a_row_says_what_is_known")
class RowsWithoutSize(MemoryBackend):
    def do_query(self, query):
        return (replace(row, size=0) for row in super().do_query(query))


@breaks("queries.what_was_known_stays_known")
class LastWriteIsAllThatIsKnown(MemoryBackend):
    def do_query(self, query):
        for row in super().do_query(query):
            known = json.loads(self._records[row.task_id].write.payload)
            yield replace(row, name=known.get("name"), worker=known.get("worker"))


@breaks("queries.what_is_gone_is_not_listed")
class ListsWhatIsForgotten(MemoryBackend):
    def do_forget(self, task_ids):
        self.rows = list(super().do_query(Query()))
        super().do_forget(task_ids)

    def do_query(self, query):
        return iter(getattr(self, "rows", ()))


@breaks("queries.what_has_expired_is_not_listed")
class ListsTheExpired(MemoryBackend):
    def do_query(self, query):
        now, self.clock = self.clock, lambda: 0.0
        try:
            return super().do_query(query)
        finally:
            self.clock = now


@breaks("queries.an_empty_store_lists_nothing")
class ListsGroups(MemoryBackend):
    def do_query(self, query):
        nothing = (None,) * 6
        groups = [Row(each, "PENDING", *nothing, 0, 0.0, None, None, None, 0) for each in self._groups]
        return iter([*super().do_query(query), *groups])
