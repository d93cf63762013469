"""How long a socket is written to and read from: by the kernel's own time, and by poll."""

from __future__ import annotations

import builtins
import signal
import socket
import ssl
import threading
import time

import pytest

from settled.backends.redis.wire import PlainWire, TimedWire, wire_of
from settled.testing.threads import Running

USUAL = 0.3
PATIENCE = 10.0


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture(params=[PlainWire, lambda sock, _: TimedWire(sock)], ids=["plain", "timed"])
def wire(request, pair):
    return request.param(pair[0], USUAL)


@pytest.mark.parametrize("timeout", [USUAL, 0.1])
def test_nothing_comes(wire, timeout):
    began = time.monotonic()
    with pytest.raises(builtins.TimeoutError):
        wire.recv(10, timeout)
    assert time.monotonic() - began >= timeout * 0.9


@pytest.mark.parametrize("timeout", [USUAL, 5.0])
def test_what_comes_is_read_as_far_as_it_has_come(wire, pair, timeout):
    pair[1].sendall(b"abc")
    assert wire.recv(2, timeout) == b"ab"
    assert wire.recv(10, timeout) == b"c"
    pair[1].close()
    assert wire.recv(10, timeout) == b""


@pytest.mark.parametrize("timeout", [USUAL, 5.0])
def test_more_than_the_buffer_holds_is_sent_to_the_end(wire, pair, timeout):
    data = bytes(range(256)) * 40_000
    reading = Running(lambda: b"".join(iter(lambda: pair[1].recv(1 << 20), b"")))
    wire.send(data, timeout)
    pair[0].shutdown(socket.SHUT_WR)
    assert reading.result(PATIENCE) == data


@pytest.mark.parametrize("timeout", [USUAL, 0.1])
def test_nobody_reads(wire, timeout):
    began = time.monotonic()
    with pytest.raises(builtins.TimeoutError):
        wire.send(b"x" * 10_000_000, timeout)
    assert time.monotonic() - began >= timeout * 0.9


def test_a_broken_connection_says_so(wire, pair):
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        wire.send(b"x", USUAL)


def test_a_timer_that_goes_on_and_on_does_not_make_it_wait_for_ever(wire):
    """Each signal has the kernel begin its time anew."""
    ticks = []
    before = signal.signal(signal.SIGALRM, lambda *_: ticks.append(time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, USUAL / 10, USUAL / 10)
    try:
        with pytest.raises(builtins.TimeoutError):
            wire.recv(10, USUAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ticks


def test_a_handler_that_raises_ends_the_wait(wire):
    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    waiting = threading.Timer(USUAL / 3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
    waiting.start()
    try:
        with pytest.raises(Interrupted):
            wire.recv(10, USUAL)
    finally:
        waiting.join()
        signal.signal(signal.SIGUSR1, before)


def test_only_sockets_of_the_system_are_left_to_the_kernel(pair):
    assert type(wire_of(pair[0], USUAL)) is PlainWire
    with ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(
        pair[1], do_handshake_on_connect=False, server_hostname="a server"
    ) as wrapped:
        assert type(wire_of(wrapped, USUAL)) is TimedWire


@pytest.mark.parametrize("usual", [1e-9, 0.25, 5.0, 1e6])
def test_any_timeout_can_be_the_usual_one(pair, usual):
    wire = PlainWire(pair[0], usual)
    pair[1].sendall(b"a")
    assert wire.recv(1, usual) == b"a"
