"""The contract, on `sqlite:///`."""

from settled.testing import Conformance
from settled.testing.stores import SQLiteStore


class TestSQLite(Conformance):
    store_class = SQLiteStore
