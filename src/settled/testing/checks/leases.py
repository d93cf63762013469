"""Named leases."""

from __future__ import annotations

from functools import partial

from settled.testing.contract import check
from settled.testing.store import Store
from settled.testing.threads import together


@check("leases")
def a_free_lease_is_taken(store: Store) -> None:
    """A lease that nobody holds is taken; those now held are returned."""
    assert store.backend.do_lease(("a", "b"), "one", 60.0) == {"a", "b"}
    assert store.backend.do_lease((), "one", 60.0) == frozenset()


@check("leases")
def a_held_lease_is_not_taken(store: Store) -> None:
    """A lease that another token holds is not taken; the free ones beside it are."""
    store.backend.do_lease(("a", "b"), "one", 60.0)
    assert store.backend.do_lease(("a", "b", "c"), "two", 60.0) == {"c"}
    assert store.backend.do_lease(("a", "b", "c"), "one", 60.0) == {"a", "b"}


@check("leases")
def a_holder_extends_its_lease(store: Store) -> None:
    """Its holder extends a lease by taking it again."""
    store.backend.do_lease(("a",), "one", 60.0)
    store.advance(50.0)
    assert store.backend.do_lease(("a",), "one", 60.0) == {"a"}
    store.advance(50.0)
    assert store.backend.do_lease(("a",), "two", 60.0) == frozenset()


@check("leases")
def an_expired_lease_is_taken(store: Store) -> None:
    """A lease whose time is over is taken by another, and its old holder does not get it back."""
    store.backend.do_lease(("a",), "one", 60.0)
    store.advance(65.0)
    assert store.backend.do_lease(("a",), "two", 60.0) == {"a"}
    assert store.backend.do_lease(("a",), "one", 60.0) == frozenset()


@check("leases")
def a_holder_lets_go(store: Store) -> None:
    """With `seconds` <= 0 the holder lets go: the answer is empty and the lease is free."""
    for seconds in (0, -1.0):
        store.backend.do_lease(("a", "b"), "one", 60.0)
        assert store.backend.do_lease(("a",), "one", seconds) == frozenset()
        assert store.backend.do_lease(("a", "b"), "two", 60.0) == {"a"}
        store.backend.do_lease(("a",), "two", 0)


@check("leases")
def others_do_not_let_go(store: Store) -> None:
    """Another token cannot let go of a lease, nor of one that nobody holds."""
    store.backend.do_lease(("a",), "one", 60.0)
    assert store.backend.do_lease(("a", "free"), "two", 0) == frozenset()
    assert store.backend.do_lease(("a", "free"), "three", 60.0) == {"free"}


@check("leases")
def a_lease_is_as_long_as_asked(store: Store) -> None:
    """Each lease runs for the seconds it was taken for."""
    store.backend.do_lease(("short",), "one", 10.0)
    store.backend.do_lease(("long",), "one", 1000.0)
    store.advance(900.0)
    assert store.backend.do_lease(("short", "long"), "two", 60.0) == {"short"}


@check("leases", "guarded")
def racing_for_a_lease_has_one_winner(store: Store) -> None:
    """Of several tokens that take a lease at the same moment exactly one gets it."""
    for number in range(10):
        taken = together(*(partial(_taken, store, f"lease-{number}", f"t{each}") for each in range(6)))
        assert sum(map(len, taken)) == 1


def _taken(store: Store, name: str, token: str) -> frozenset[str]:
    return store.backend.call(store.backend.do_lease, (name,), token, 60.0)
