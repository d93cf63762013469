"""Engines that keep, made of two that do not: no engine here can be away at a test's wish but by a fault."""

from __future__ import annotations

from types import MappingProxyType

from msgspec.structs import replace

from settled.backends.memory import MemoryBackend
from settled.backends.sqlite import SQLiteBackend
from settled.backends.writing import KEEPING_OPTIONS
from settled.testing.stores import MemoryStore, SQLiteStore


class KeepingMemory(MemoryBackend):
    capabilities = replace(MemoryBackend.capabilities, keeps=True)
    url_options = KEEPING_OPTIONS


class KeepingSQLite(SQLiteBackend):
    capabilities = replace(SQLiteBackend.capabilities, keeps=True)
    url_options = MappingProxyType({**SQLiteBackend.url_options, **KEEPING_OPTIONS})


class KeepingMemoryStore(MemoryStore):
    engine = KeepingMemory


class KeepingStore(SQLiteStore):
    engine = KeepingSQLite
