"""Engines that are wrong about single records, ids and values."""

from __future__ import annotations

import builtins
import datetime
import fnmatch
import importlib
import json
import uuid

from msgspec.structs import replace

from settled import codec
from settled.backends.memory import MemoryBackend
from settled.errors import CorruptRecord, DecodeError, StoreError
from settled.record import Gone
from settled.states import ALL_STATES, STARTED
from tests.wrong_engines.proofs import breaks

# -- what is stored ------------------------------------------------------------------------------


@breaks("records.what_is_written_is_read")
class CompactsRecords(MemoryBackend):
    def do_settle(self, write):
        return super().do_settle(replace(write, payload=write.payload.replace(b": ", b":")))


@breaks("records.any_bytes_are_kept")
class KeepsText(MemoryBackend):
    def do_settle(self, write):
        return super().do_settle(replace(write, payload=write.payload.decode("utf-8", "replace").encode()))


@breaks("records.a_large_record_is_kept_whole")
class ShortColumn(MemoryBackend):
    def do_settle(self, write):
        return super().do_settle(replace(write, payload=write.payload[:65535]))


@breaks("wire.the_store_holds_what_was_written")
class BackwardsOnDisk(MemoryBackend):
    """Wrong in writing as in reading: no round trip shows it."""

    def do_settle(self, write):
        return super().do_settle(replace(write, payload=write.payload[::-1]))

    def do_read(self, task_ids):
        found = super().do_read(task_ids)
        return {each: value[::-1] if isinstance(value, bytes) else value for each, value in found.items()}


@breaks("records.a_write_replaces_the_record")
class FirstPayloadStays(MemoryBackend):
    def do_settle(self, write):
        old = super().do_read((write.task_id,)).get(write.task_id)
        return super().do_settle(replace(write, payload=old) if isinstance(old, bytes) else write)


@breaks("records.a_write_says_that_it_landed")
class SaysNothingLanded(MemoryBackend):
    def do_settle(self, write):
        return replace(super().do_settle(write), landed=False)


@breaks("records.closing_is_not_the_end")
class ClosedForGood(MemoryBackend):
    closed = False

    def do_close(self):
        self.closed = True

    def do_settle(self, write):
        if self.closed:
            raise StoreError("closed")
        return super().do_settle(write)


# -- what is read ----------------------------------------------------------------------------------


@breaks("records.an_unknown_id_is_absent", "records.an_unknown_task_is_pending")
class EmptyForUnknown(MemoryBackend):
    def do_read(self, task_ids):
        return {**dict.fromkeys(task_ids, b""), **super().do_read(task_ids)}


@breaks("records.many_are_read_at_once")
class FiveHundredPlaceholders(MemoryBackend):
    def do_read(self, task_ids):
        return super().do_read(task_ids[:500])


@breaks("records.an_empty_read_reads_nothing")
class NoIdsMeansAll(MemoryBackend):
    def do_read(self, task_ids):
        return super().do_read(task_ids or list(self._records))


# -- the published interface ------------------------------------------------------------------------


@breaks("records.each_mark_stores_its_state")
class RetryIsStarted(MemoryBackend):
    def mark_as_retry(self, task_id, exc, traceback=None, request=None):
        return self.mark_as_started(task_id)


@breaks("records.a_record_carries_its_request")
class NoChildren(MemoryBackend):
    def current_task_children(self, request=None):
        return []


@breaks("records.a_custom_state_carries_its_notes")
class KnownStatesOnly(MemoryBackend):
    def store_result(self, task_id, result, status, **kwargs):
        return super().store_result(task_id, result, status if status in ALL_STATES else STARTED, **kwargs)


@breaks("wire.a_success_is_celerys_record")
class StatusLast(MemoryBackend):
    def encode(self, data):
        if isinstance(data, dict) and "status" in data:
            data = {**{key: data[key] for key in data if key != "status"}, "status": data["status"]}
        return super().encode(data)


@breaks("wire.a_failure_is_celerys_record")
class OwnNames(MemoryBackend):
    def prepare_exception(self, exc):
        wire = super().prepare_exception(exc)
        return {**wire, "exc_message": str(wire["exc_message"])}


@breaks("wire.celerys_records_are_read", "wire.unknown_fields_are_kept")
class KnownFieldsOnly(MemoryBackend):
    def read_meta(self, task_id, payload):
        known = ("status", "result", "traceback", "children", "date_done", "task_id")
        return {key: value for key, value in super().read_meta(task_id, payload).items() if key in known}


@breaks("wire.dates_are_utc")
class LocalTimes(MemoryBackend):
    def encode(self, data):
        if isinstance(data, dict) and data.get("date_done"):
            local = datetime.datetime.fromisoformat(data["date_done"]).replace(tzinfo=None)
            data = {**data, "date_done": local.isoformat()}
        return super().encode(data)


# -- ids -----------------------------------------------------------------------------------------


@breaks("records.records_are_apart")
class OneLetterKeys(MemoryBackend):
    def do_settle(self, write):
        return super().do_settle(replace(write, task_id=write.task_id[0]))

    def do_read(self, task_ids):
        found = super().do_read([each[0] for each in task_ids])
        return {each: found[each[0]] for each in task_ids if each[0] in found}


@breaks("ids.strange_ids_are_kept_apart")
class FoldsCase(MemoryBackend):
    def do_settle(self, write):
        return super().do_settle(replace(write, task_id=write.task_id.casefold()))

    def do_read(self, task_ids):
        found = super().do_read([each.casefold() for each in task_ids])
        return {each: found[each.casefold()] for each in task_ids if each.casefold() in found}


@breaks("ids.strange_ids_are_forgotten_apart")
class ForgetsByPattern(MemoryBackend):
    def do_forget(self, task_ids):
        for pattern in task_ids:
            super().do_forget(fnmatch.filter(list(self._records), pattern))


@breaks("ids.strange_group_ids_are_kept_apart")
class StripsGroupIds(MemoryBackend):
    def do_write_group(self, group_id, payload, expires):
        super().do_write_group(group_id.strip(), payload, expires)

    def do_read_group(self, group_id):
        return super().do_read_group(group_id.strip())


@breaks("ids.strange_members_are_counted_apart")
class NulEndsMembers(MemoryBackend):
    def do_open_chord(self, chord, claim):
        return super().do_open_chord(
            replace(chord, members=tuple(each.partition("\0")[0] for each in chord.members)), claim
        )


@breaks("ids.strange_leases_are_kept_apart")
class FoldsLeases(MemoryBackend):
    def do_lease(self, names, token, seconds):
        held = super().do_lease([name.lower() for name in names], token, seconds)
        return frozenset(name for name in names if name.lower() in held)


@breaks("ids.a_uuid_is_its_text")
class UuidsWithoutDashes(MemoryBackend):
    def mark_as_done(self, task_id, result, request=None):
        return super().mark_as_done(
            task_id.hex if isinstance(task_id, uuid.UUID) else task_id, result, request
        )


@breaks("ids.what_is_no_id_is_refused")
class TakesAnyId(MemoryBackend):
    def get_state(self, task_id):
        return super().get_state(task_id) if isinstance(task_id, str) and task_id else "PENDING"


@breaks("ids.task_group_and_chord_may_share_an_id")
class OneNamespace(MemoryBackend):
    def do_delete_group(self, group_id):
        super().do_delete_group(group_id)
        self.do_forget((group_id,))


# -- values --------------------------------------------------------------------------------------


@breaks("values.plain_values_come_back")
class BoolsAreInts(MemoryBackend):
    def prepare_value(self, result):
        if isinstance(result, dict) and isinstance(result.get("value"), bool):
            return {"value": int(result["value"])}
        return super().prepare_value(result)


@breaks("values.tagged_values_come_back")
class DatesAreText(MemoryBackend):
    def prepare_value(self, result):
        if isinstance(result, dict) and isinstance(result.get("value"), datetime.date):
            return {"value": str(result["value"])}
        return super().prepare_value(result)


@breaks("values.hard_values_come_back")
class InfinityIsNull(MemoryBackend):
    def encode(self, data):
        return super().encode(data).replace(b"Infinity", b"null")


@breaks("values.none_is_a_value")
class NoneIsNothing(MemoryBackend):
    def wait_for(self, task_id, timeout=None, propagate=True, interval=0.5):
        result = super().wait_for(task_id, timeout, propagate, interval)
        if result is None:
            raise StoreError(f"{task_id} has no result")
        return result


@breaks("values.what_cannot_be_stored_fails_its_task", "values.notes_that_cannot_be_stored_are_refused")
class StoresRepr(MemoryBackend):
    def encode(self, data):
        return json.dumps(data, default=repr).encode()


@breaks("values.every_serializer_is_read", "values.each_serializer_writes_what_it_reads")
class ReadsJsonOnly(MemoryBackend):
    def decode(self, payload):
        return codec.decode(payload, frozenset({"json"}))


@breaks("values.what_is_not_accepted_is_refused")
class AcceptsAll(MemoryBackend):
    def decode(self, payload):
        return codec.decode(payload, frozenset({"json", "msgpack", "pickle"}))


# -- failures ------------------------------------------------------------------------------------


@breaks(
    "failures.class_args_and_attributes_come_back",
    "failures.groups_come_back",
    "failures.a_retry_shows_its_cause",
)
class ErrorsAreText(MemoryBackend):
    def exception_to_python(self, exc):
        return RuntimeError(str(super().exception_to_python(exc)))


@breaks("failures.notes_cause_and_context_come_back")
class NoCauses(MemoryBackend):
    def exception_to_python(self, exc):
        error = super().exception_to_python(exc)
        error.__cause__ = None
        return error


@breaks(
    "failures.the_remote_traceback_is_text",
    "failures.a_given_traceback_is_kept",
    "failures.the_current_exception_is_stored",
)
class NoTracebacks(MemoryBackend):
    def encode(self, data):
        return super().encode({**data, "traceback": None} if isinstance(data, dict) else data)


@breaks("failures.what_ends_processes_does_not_come_out")
class RebuildsBuiltins(MemoryBackend):
    def exception_to_python(self, exc):
        return getattr(builtins, exc["exc_type"])(*exc["exc_message"])


@breaks("failures.nothing_is_imported_for_the_store")
class ImportsForTheStore(MemoryBackend):
    def exception_to_python(self, exc):
        importlib.import_module(exc["exc_module"])
        return super().exception_to_python(exc)


@breaks("failures.propagate_false_returns_the_exception")
class AlwaysPropagates(MemoryBackend):
    def wait_for(self, task_id, timeout=None, propagate=True, interval=0.5):
        return super().wait_for(task_id, timeout, True, interval)


@breaks("failures.a_revoked_task_raises_why")
class RevokedWithoutReason(MemoryBackend):
    def mark_as_revoked(self, task_id, reason="", request=None):
        return super().mark_as_revoked(task_id, "", request)


@breaks("failures.a_failure_is_never_a_value")
class LenientAboutFailures(MemoryBackend):
    def wait_for(self, task_id, timeout=None, propagate=True, interval=0.5):
        held = self.wait_meta(task_id, timeout)["result"]
        return super().wait_for(task_id, timeout, propagate, interval) if held else held


# -- damage --------------------------------------------------------------------------------------


@breaks("damage.an_error_names_the_task")
class NamelessDamage(MemoryBackend):
    def read_meta(self, task_id, payload):
        try:
            return super().read_meta(task_id, payload)
        except DecodeError:
            raise CorruptRecord("a record is damaged") from None


@breaks("damage.a_waiter_is_told_of_damage", "damage.damage_during_the_wait_is_told")
class DamageIsPending(MemoryBackend):
    def _ready(self, task_ids, deadline=None):
        for found in super()._ready(task_ids, deadline):
            yield {each: answer for each, answer in found.items() if not isinstance(answer, DecodeError)}


@breaks("damage.damage_spoils_only_itself")
class DamageStopsTheLook(MemoryBackend):
    def _ready(self, task_ids, deadline=None):
        for found in super()._ready(task_ids, deadline):
            for answer in found.values():
                if isinstance(answer, DecodeError):
                    raise answer
            yield found


@breaks("damage.damage_can_be_forgotten")
class ReadsBeforeForgetting(MemoryBackend):
    def do_forget(self, task_ids):
        self.read_many(task_ids)
        super().do_forget(task_ids)


@breaks("damage.a_damaged_group_is_named")
class NamelessGroups(MemoryBackend):
    def get_group_meta(self, group_id, cache=True):
        try:
            return super().get_group_meta(group_id, cache)
        except DecodeError:
            raise DecodeError("a group is damaged") from None


@breaks("damage.a_listing_survives_damage")
class ListsByReading(MemoryBackend):
    def do_query(self, query):
        rows = list(super().do_query(query))
        self.read_many([row.task_id for row in rows])
        return iter(rows)


# -- groups and forgetting -----------------------------------------------------------------------


@breaks("groups.a_group_is_kept")
class GroupsAreWrittenOnce(MemoryBackend):
    def do_write_group(self, group_id, payload, expires):
        if super().do_read_group(group_id) is None:
            super().do_write_group(group_id, payload, expires)


@breaks("groups.an_unknown_group_is_none")
class EmptyForUnknownGroups(MemoryBackend):
    def do_read_group(self, group_id):
        return super().do_read_group(group_id) or b""


@breaks("groups.a_deleted_group_is_gone")
class GroupsStay(MemoryBackend):
    def do_delete_group(self, group_id):
        pass


@breaks("groups.a_saved_group_is_restored")
class SortsGroups(MemoryBackend):
    def restore_group(self, group_id, cache=True):
        group = super().restore_group(group_id, cache)
        group.results.sort(key=str)
        return group


@breaks("groups.a_deleted_groups_tasks_stay")
class GroupsTakeTheirTasks(MemoryBackend):
    def delete_group(self, group_id):
        for result in self.restore_group(group_id).results:
            self.forget(result.id)
        super().delete_group(group_id)


@breaks("forgetting.a_forgotten_record_is_gone")
class HidesWhatIsForgotten(MemoryBackend):
    def do_forget(self, task_ids):
        self.hidden = {*getattr(self, "hidden", ()), *task_ids}

    def do_read(self, task_ids):
        return super().do_read([each for each in task_ids if each not in getattr(self, "hidden", ())])


@breaks("forgetting.forgetting_again_is_harmless", "outages.every_hook_may_run_twice")
class ForgetsOnlyWhatIsThere(MemoryBackend):
    def do_forget(self, task_ids):
        if any(each not in self._records for each in task_ids):
            raise StoreError("no such record")
        super().do_forget(task_ids)


@breaks("forgetting.only_what_was_named_is_forgotten")
class ForgetsAll(MemoryBackend):
    def do_forget(self, task_ids):
        super().do_forget(list(self._records))


@breaks("forgetting.a_forgotten_group_is_gone", "forgetting.a_forgotten_barrier_is_gone")
class ForgetsTheRecordAlone(MemoryBackend):
    def forget(self, task_id, children=False):
        self.do_forget((task_id,))


@breaks("forgetting.children_are_forgotten_when_asked")
class ForgetsNoChildren(MemoryBackend):
    def forget(self, task_id, children=False):
        super().forget(task_id)


@breaks("forgetting.a_forgotten_id_can_be_used_again")
class ForgottenForGood(MemoryBackend):
    def do_settle(self, write):
        if super().do_read((write.task_id,)).get(write.task_id) is Gone.FORGOTTEN:
            raise StoreError("forgotten")
        return super().do_settle(write)


@breaks("values.compressed_records_are_read_without_the_setting")
class KnowsNoCompression(MemoryBackend):
    def encode(self, data):
        return codec.encode(data, self.serializer)
