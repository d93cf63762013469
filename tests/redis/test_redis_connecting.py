"""From a URL to a connection, and what is said where there is none: the server, the cause, the way out, no secret."""

from __future__ import annotations

import http.server
import json
import logging
import subprocess
import sys
import threading
import time
import traceback
from urllib.parse import quote

import pytest

import settled
from settled.app import ENGINES
from settled.backends.redis import RedisBackend, RedisClusterBackend
from settled.errors import ConfigurationError, StoreError, StoreUnavailable
from settled.testing.app import RecordingApp
from settled.testing.threads import Running
from tests.servers import Certificate, Cluster, Sentinels, Server, until
from tests.servers.port import Port

PATIENCE = 10.0
PASSWORD = "p@ss:w/o?r#d [é]%20"
USER = "us:er@home"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return [Certificate.make(tmp_path_factory.mktemp(name)) for name in ("own", "other")]


@pytest.fixture(scope="module")
def guarded(certificates, tmp_path_factory):
    """A server that speaks TLS too, and at a socket, and knows one user with a password."""
    socket = tmp_path_factory.mktemp("run") / "redis.sock"
    with Server.start(tls=certificates[0], options={"unixsocket": str(socket)}) as server:
        server.socket = socket
        server.ask("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "allcommands", "allkeys", "allchannels")
        server.ask("ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}")
        yield server


@pytest.fixture
def opened(tmp_path):
    """Opens backends that give up soon; they keep what they cannot write in `tmp_path`."""
    backends = []

    def opened(url, kind=RedisBackend, **options):
        app = RecordingApp()
        given = {"socket_connect_timeout": 1.0, "spool": tmp_path, **options}
        backend = kind(app, url=url, **given)
        backend.retry_deadline = 0.1
        app.backend = backend
        backends.append(backend)
        return backend

    yield opened
    for backend in backends:
        backend.close()


def at(server, scheme="redis", host="127.0.0.1", port=None, rest="/0", user="", password=PASSWORD):
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port or server.port}{rest}"


def works(backend, other):
    """Write, read, and be pushed from another connection."""
    backend.mark_as_done("t", 1)
    assert backend.get_result("t") == 1
    waiting = Running(lambda: backend.wait_for("pushed", timeout=PATIENCE))
    key = "celery-task-meta-pushed"
    backend.forget("pushed")
    until(lambda: other._client.ask(b"PUBSUB", b"NUMSUB", key)[1] == 1, PATIENCE, "the subscription")
    other.mark_as_done("pushed", 2)
    assert waiting.result(3.0) == 2
    backend.forget("pushed")


def said_by(call, kind=StoreError):
    """What the call raises, as text."""
    with pytest.raises(kind) as raised:
        call()
    return str(raised.value)


# -- ways to a server ------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["", USER], ids=["default", "user"])
def test_a_password_in_the_url_is_taken_percent_encoded(guarded, opened, user):
    works(opened(at(guarded, user=user)), opened(at(guarded)))


@pytest.mark.parametrize("scheme", ["redis", "valkey", "REDIS"])
def test_one_server_has_two_names(guarded, opened, scheme):
    works(opened(at(guarded, scheme)), opened(at(guarded)))


def test_a_socket_is_a_path_and_the_database_an_option(guarded, opened):
    url = f"unix://:{quote(PASSWORD, safe='')}@{guarded.socket}"
    works(opened(url), opened(at(guarded)))
    opened(f"{url}?db=3").mark_as_done("here", 1)
    assert opened(url).get_state("here") == "PENDING"
    assert opened(at(guarded, rest="/3")).get_state("here") == "SUCCESS"


def test_the_database_is_the_path_or_an_option(guarded, opened):
    opened(at(guarded, rest="/5")).mark_as_done("t-5", 1)
    assert opened(at(guarded, rest="?db=5")).get_state("t-5") == "SUCCESS"
    assert opened(at(guarded, rest="/"), db=5).get_state("t-5") == "SUCCESS"
    assert opened(at(guarded, rest="")).get_state("t-5") == "PENDING"


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tls_with_a_private_authority(guarded, opened, certificates, scheme, host):
    url = at(guarded, scheme, host, guarded.tls_port, f"/0?ssl_ca_certs={certificates[0].chain}")
    works(opened(url), opened(at(guarded)))


@pytest.mark.parametrize(
    "options", ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs=none&ssl_ca_certs={other}"]
)
def test_tls_that_checks_nothing(guarded, opened, certificates, options):
    rest = "/0?" + options.format(other=certificates[1].chain)
    works(opened(at(guarded, "rediss", port=guarded.tls_port, rest=rest)), opened(at(guarded)))


def test_a_name_is_shown_to_the_server(guarded, opened):
    backend = opened(at(guarded, rest="/0?client_name=me"))
    backend.get_state("t")
    assert b" name=me " in backend._client.ask(b"CLIENT", b"LIST")


# -- where there is no way ---------------------------------------------------------------------------


def test_a_certificate_of_another_authority_is_refused_at_once(guarded, opened, certificates):
    for rest in (f"/0?ssl_ca_certs={certificates[1].chain}", "/0"):
        backend = opened(at(guarded, "rediss", port=guarded.tls_port, rest=rest))
        for call in (lambda: backend.get_state("t"), lambda: backend.wait_for("t", timeout=PATIENCE)):  # noqa: B023
            message = said_by(call)
            assert f"127.0.0.1:{guarded.tls_port}" in message
            assert "certificate is not trusted" in message
            assert "ssl_ca_certs=" in message


def test_a_certificate_of_another_host_is_refused(certificates, opened, tmp_path):
    """It is for 127.0.0.1 and localhost."""
    with Server.start(tls=certificates[0], options={"bind": "127.0.0.1 127.0.0.2"}) as server:
        url = f"rediss://127.0.0.2:{server.tls_port}/0?ssl_ca_certs={certificates[0].chain}"
        message = said_by(lambda: opened(url).get_state("t"))
        assert f"127.0.0.2:{server.tls_port}" in message
        assert "is not valid for '127.0.0.2'" in message
        assert opened(url + "&ssl_check_hostname=false").get_state("t") == "PENDING"


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_of_tls_that_is_not_there_is_said(guarded, opened, certificates, name):
    own = certificates[0]
    given = {
        "ssl_ca_certs": own.chain,
        "ssl_certfile": own.chain,
        "ssl_keyfile": own.key,
        name: "/nowhere.pem",
    }
    rest = "/0?" + "&".join(f"{each}={path}" for each, path in given.items())
    backend = opened(at(guarded, "rediss", port=guarded.tls_port, rest=rest))
    assert "ssl_ca_certs" in said_by(lambda: backend.get_state("t"), ConfigurationError)


def test_a_file_of_tls_that_is_something_else_is_said(guarded, opened, certificates):
    own = certificates[0]
    rest = f"/0?ssl_ca_certs={own.chain}&ssl_certfile={own.chain}&ssl_keyfile={own.chain}"
    backend = opened(at(guarded, "rediss", port=guarded.tls_port, rest=rest))
    assert "ssl_keyfile" in said_by(lambda: backend.get_state("t"), ConfigurationError)


def test_tls_where_there_is_none_is_said_and_none_where_there_is_too(guarded, opened):
    plain = opened(at(guarded, "rediss", port=guarded.port), socket_timeout=0.3)
    assert "write redis://" in said_by(lambda: plain.get_state("t"), StoreUnavailable)
    secure = opened(at(guarded, port=guarded.tls_port))
    assert "write rediss://" in said_by(lambda: secure.get_state("t"), StoreUnavailable)


@pytest.mark.parametrize("password", ["wrong-word", "", PASSWORD + "x"])
@pytest.mark.parametrize("user", ["", USER, "nobody"])
def test_a_wrong_password_is_said_at_once_and_never_shown(guarded, opened, password, user):
    backend = opened(at(guarded, user=user, password=password))
    calls = [
        lambda: backend.get_state("t"),
        lambda: backend.mark_as_done("t", 1),
        lambda: backend.wait_for("t", timeout=PATIENCE),
        lambda: backend.sweep(),
    ]
    for call in calls:
        message = said_by(call)
        assert message.startswith(f"127.0.0.1:{guarded.port}: user name or password is missing or wrong")
        assert "%40" in message
        assert not password or password not in message


def test_no_password_is_said_at_once(guarded, opened):
    message = said_by(lambda: opened(f"redis://127.0.0.1:{guarded.port}/0").get_state("t"))
    assert "user name or password is missing" in message


@pytest.mark.parametrize("rest", ["/16", "/99", "?db=99"])
def test_a_database_that_is_not_there_is_said(guarded, opened, rest):
    message = said_by(lambda: opened(at(guarded, rest=rest)).get_state("t"), ConfigurationError)
    assert f"127.0.0.1:{guarded.port} has no such database" in message


class Page(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def web():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.05,))
        thread.start()
        yield web.server_port
        web.shutdown()
        thread.join()


@pytest.mark.parametrize("user", ["", ":secret-word@"])
def test_what_is_no_redis_is_said(web, opened, user):
    message = said_by(lambda: opened(f"redis://{user}127.0.0.1:{web}/0").get_state("t"))
    assert f"127.0.0.1:{web}: what answers there is no Redis or Valkey server" in message
    assert "secret-word" not in message


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_it_was_told(opened, tmp_path):
    with Server.start() as server:
        backend = opened(server.url, socket_timeout=0.2, socket_connect_timeout=0.2)
        assert backend.get_state("t") == "PENDING"
        server.pause()
        began = time.monotonic()
        message = said_by(lambda: backend.get_state("t"), StoreUnavailable)
        assert time.monotonic() - began < 3.0
        assert str(server.port) in message
        server.resume()


def test_nobody_there_is_said(opened, tmp_path):
    port = Port.take()
    backend = opened(f"redis://:secret-word@127.0.0.1:{port.number}/0")
    message = said_by(lambda: backend.get_state("t"), StoreUnavailable)
    port.release()
    assert f"127.0.0.1:{port.number} cannot be reached" in message
    assert "refused" in message
    assert "See that it runs" in message
    assert "secret-word" not in message
    nowhere = said_by(lambda: opened("redis://no-such-host.invalid/0").get_state("t"), StoreUnavailable)
    assert "no-such-host.invalid:6379 cannot be reached" in nowhere
    path = tmp_path / "none.sock"
    assert f"unix://{path} cannot be reached" in said_by(
        lambda: opened(f"unix://{path}").get_state("t"), StoreUnavailable
    )


def test_a_node_of_a_cluster_by_a_plain_url_is_said(opened):
    with Cluster.start() as cluster:
        plain = opened(cluster.nodes[0].url)
        calls = [lambda number=number: plain.get_state(f"t-{number}") for number in range(9)]
        said = []
        for call in calls:
            try:
                call()
            except StoreError as exc:
                said.append(str(exc))
        said.append(said_by(lambda: plain.open_chord("g", ["a", "b"], {"task": "body"})))
    assert len(said) > 1
    assert all("write redis+cluster:// in the URL" in message for message in said)


def test_a_plain_server_by_the_url_of_a_cluster_or_of_sentinels_is_said(guarded, opened):
    cluster = opened(at(guarded, "redis+cluster", rest=""), RedisClusterBackend)
    assert "write redis:// in the URL" in said_by(lambda: cluster.get_state("t"))
    word = quote(PASSWORD, safe="")
    url = at(guarded, "sentinel", rest=f"/0?sentinel_password={word}")
    assert "it is no Sentinel" in said_by(lambda: opened(url).get_state("t"))


def test_a_sentinel_by_a_plain_url_and_a_service_that_none_knows_are_said(opened):
    with Sentinels.start() as sentinels:
        plain = opened(f"redis://127.0.0.1:{sentinels.sentinels[0].port}/0")
        assert "sentinel://" in said_by(lambda: plain.get_state("t"))
        unknown = opened(sentinels.url.replace("settled", "no-such-service"))
        message = said_by(lambda: unknown.get_state("t"), StoreUnavailable)
    assert "'no-such-service'" in message
    assert "master_name=" in message


# -- secrets -------------------------------------------------------------------------------------


def everything_said(call):
    """All that is said where a call fails: message, representation, causes and traceback."""
    try:
        call()
    except Exception as exc:
        return "".join([str(exc), repr(exc), *traceback.format_exception(exc, chain=True)])
    return ""


def hidden(text, *secrets):
    for secret in secrets:
        for form in (secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1]):
            assert form not in text, text


@pytest.mark.parametrize("secret", [PASSWORD, "päss wörd/+"])
@pytest.mark.parametrize("place", ["right", "wrong", "nowhere", "no redis", "tls"])
def test_no_secret_is_in_a_message_a_representation_a_spool_or_the_log(
    guarded, opened, web, caplog, tmp_path, secret, place
):
    caplog.set_level(logging.DEBUG)
    port = Port.take()
    url = {
        "right": at(guarded),
        "wrong": at(guarded, password=secret),
        "nowhere": at(guarded, port=port.number, password=secret),
        "no redis": at(guarded, port=web, password=secret),
        "tls": at(guarded, "rediss", port=guarded.tls_port, password=secret),
    }[place]
    options = {"socket_timeout": 0.3, "socket_connect_timeout": 0.3}
    backend = opened(url, **options)
    calls = [
        lambda: backend.get_state("t"),
        lambda: backend.mark_as_done("t", 1),
        lambda: backend.wait_for("t", timeout=0.2),
        lambda: backend.open_chord("g", ["a"], {"task": "body"}),
        lambda: list(backend.query()),
        lambda: backend.do_listen().close(),
        lambda: backend.close(),
    ]
    said = [everything_said(call) for call in calls]
    said += [repr(backend), str(backend), backend.url, repr(backend.location), str(backend.app)]
    port.release()
    spooled = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    hidden("".join([*said, caplog.text, spooled.decode("latin-1")]), secret, PASSWORD)


def test_the_password_of_sentinels_is_hidden_too(opened, caplog):
    caplog.set_level(logging.DEBUG)
    port = Port.take()
    url = f"sentinel://:secret-word@127.0.0.1:{port.number}/0?sentinel_password=other-secret"
    backend = opened(url)
    said = everything_said(lambda: backend.get_state("t")) + repr(backend) + caplog.text
    port.release()
    hidden(said, "secret-word", "other-secret")
    assert "sentinel_password=**" in repr(backend)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret-word@host:port/0",
        "redis://:secret-word@host/zero",
        "redis://:secret-word@host/0?prefx=a",
        "redis://:secret-word@host/0?password=secret-word",
        "redis://:secret-word@host/0?db=1",
        "redis://:secret-word@host/0#x",
        "redis://:secret-word@one,two/0",
        "redis://:secret-word/@host/0",
        "redis://:secret-word#@host/0",
        "redis://:secret-word?@host/0",
        "redis://:secret-word[@host/0",
        "redis://:secret-word@host/0?ssl_ca_certs=x",
        "redis://:secret-word@host/0?max_connections=0",
        "redis:/:secret-word@host/0",
        ":secret-word@host/0",
        "no-engine://:secret-word@host/0",
        "redis+cluster://:secret-word@host/7",
        "unix://:secret-word@",
        "sentinel://:secret-word@/0",
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_its_secret(url):
    text = everything_said(lambda: settled.connect(url))
    assert "ConfigurationError" in text
    hidden(text.replace(f'settled.connect("{url}")', ""), "secret-word")


# -- URLs and options that cannot be -----------------------------------------------------------------


WRONG = {
    "redis://host:port/0": "not a port number",
    "redis://host:99999/0": "not a port number",
    "redis://[::1/0": "cannot be read",
    "redis//host": "no scheme",
    "reddis://host/0": "no engine for reddis://",
    "redis://host/zero": "write redis://host:port/0",
    "redis://host/0/1": "write redis://host:port/0",
    "redis://host/-1": "write redis://host:port/0",
    "redis://host/٣": "write redis://host:port/0",
    "redis://host/0?db=1": "as path and as db=",
    "redis://one:1,two:2/0": "write redis+cluster:// for a cluster, sentinel://",
    "redis://host/0?prefx=a": "did you mean 'prefix'",
    "redis://host/0?max_connection=1": "did you mean 'max_connections'",
    "redis://host/0?max_connections=0": "expected a whole number, 1 or more",
    "redis://host/0?max_connections=many": "max_connections",
    "redis://host/0?socket_timeout=soon": "socket_timeout",
    "redis://host/0?socket_timeout=-1": "expected a number of seconds",
    "redis://host/0?socket_timeout=0": "expected more than 0 seconds",
    "redis://host/0?socket_connect_timeout=inf": "expected a number of seconds",
    "redis://host/0?index=perhaps": "expected true or false",
    "redis://host?db=first": "db='first'",
    "redis://host/0?db": "not all name=value",
    "redis://host/0?prefix=a&prefix=b": "prefix more than once",
    "redis://host/0#1": "write it as %23",
    "redis://host/0?ssl_ca_certs=ca.pem": "write rediss://",
    "valkey://host/0?ssl_cert_reqs=none": "write valkeys://",
    "unix:///run/redis.sock?ssl_cert_reqs=none": "write rediss://",
    "sentinel://host/0?ssl_cert_reqs=none": "write rediss+sentinel://",
    "redis+cluster://host?ssl_cert_reqs=none": "write rediss+cluster://",
    "rediss://host/0?ssl_cert_reqs=some": "expected one of required, optional, none",
    "rediss://host/0?ssl_check_hostname=some": "expected true or false",
    "unix://": "needs the path of a socket",
    "sentinel://": "needs a host",
    "redis+cluster://": "needs a host",
    "redis+cluster://host/1": "tell programs apart by prefix=",
    "redis+cluster://host?index=true": "leave out index=true",
    "redis+cluster://host?prefix={x}": "no '{'",
}


@pytest.mark.parametrize("url", WRONG)
def test_a_url_that_cannot_be_says_what_to_write(url):
    assert WRONG[url] in said_by(lambda: settled.connect(url), ConfigurationError)


def test_an_option_that_is_given_as_a_keyword_is_checked_as_in_the_url():
    for name, value, hint in (
        ("prefx", "a", "did you mean 'prefix'"),
        ("max_connections", 0, "1 or more"),
        ("socket_timeout", "x", "socket_timeout"),
    ):
        message = said_by(
            lambda name=name, value=value: RedisBackend(
                RecordingApp(), url="redis://host/0", **{name: value}
            ),
            ConfigurationError,
        )
        assert hint in message


def test_nothing_is_opened_before_the_first_use(opened):
    port = Port.take()
    backend = opened(f"redis://127.0.0.1:{port.number}/0")
    assert backend.url == f"redis://127.0.0.1:{port.number}/0"
    port.release()


# -- a client library that is not there ----------------------------------------------------------------

SCHEMES = [scheme for scheme, engine in ENGINES.items() if engine.startswith("settled.backends.redis:")]

WITHOUT = """
import json, sys
sys.modules[sys.argv[1]] = None
import settled.errors
said = {}
for scheme in sys.argv[2:]:
    try:
        settled.connect(f"{scheme}://host")
    except settled.errors.ConfigurationError as exc:
        said[scheme] = str(exc)
print(json.dumps(said))
"""


@pytest.mark.parametrize("library", ["redis", "hiredis"])
def test_a_missing_client_library_says_how_to_get_it(library):
    """For every scheme of ours, when it is opened; `import settled` needs none."""
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT, library, *SCHEMES], capture_output=True, text=True, check=True
    )
    said = json.loads(run.stdout)
    assert set(said) == set(SCHEMES)
    assert len(SCHEMES) >= 14
    for scheme, message in said.items():
        assert message == f"{scheme}:// needs {library}: pip install 'settled[redis]'"


def test_importing_settled_loads_no_client_library():
    code = (
        "import sys, settled; print([name for name in ('redis', 'hiredis', 'celery') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
