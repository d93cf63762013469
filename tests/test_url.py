"""Backend URLs: what they say, what is wrong with them, and that no secret of theirs is ever shown."""

from __future__ import annotations

import pytest

from settled.app import App, connect, engine_class
from settled.errors import ConfigurationError
from settled.url import count, one_of, parse, read_options, seconds

SECRET = "s3cr3t"


def test_the_parts_of_a_url():
    location = parse("Redis://us%40er:p%2Fw@Host:6379/1%20x?timeout=5&empty=")
    assert (location.scheme, location.host, location.port, location.path) == ("redis", "host", 6379, "/1 x")
    assert (location.username, location.password) == ("us@er", "p/w")
    assert location.options == {"timeout": "5", "empty": ""}
    bare = parse("memory://")
    assert (bare.host, bare.port, bare.username, bare.password, bare.path, bare.options) == (None,) * 4 + (
        "",
        {},
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (None, "not NoneType"), (5, "not int"), (b"memory://", "not bytes"), ("", "has no scheme"),
        ("results.db", "'results.db' is not a backend URL"), ("://x", "has no scheme"),
        ("redis://host:port/0", "not a port number"), ("redis://host:99999/0", "not a port number"),
        ("redis://[::1/0", "cannot be read"), ("redis://host/0#x", "write it as %23"),
        ("redis://host/0?timeout", "not all name=value"),
        ("redis://h/0?a=1&b=2&a=3", "gives a more than once"),
    ],
)  # fmt: skip
def test_what_is_no_url_says_why(url, said):
    with pytest.raises(ConfigurationError) as caught:
        parse(url)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://user:{SECRET}@host:1/0?timeout=5", "redis://user:**@host:1/0?timeout=5"),
        (f"redis://:{SECRET}@host", "redis://:**@host"), (f"redis://u:a@{SECRET}@host", "redis://u:**@host"),
        ("redis://user@host/a%20b", "redis://user@host/a%20b"), ("sqlite:///r.db", "sqlite:///r.db"),
        (f"s3://b?secret_access_key={SECRET}&x=1", "s3://b?secret_access_key=**&x=1"),
        (f"x://h?PassWord={SECRET}&sslpassword={SECRET}", "x://h?PassWord=**&sslpassword=**"),
        (f"x://h?auth_token={SECRET}&sas-signature={SECRET}", "x://h?auth_token=**&sas-signature=**"),
        ("x://h?path=/a/b&q=a%26b", "x://h?path=/a/b&q=a%26b"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_secrets(url, shown):
    location = parse(url)
    assert location.redacted() == shown
    assert repr(location) == f"<Location {shown}>"
    assert SECRET not in str(location)
    assert parse(shown).redacted() == shown


@pytest.mark.parametrize(
    "url",
    [
        f"redis//user:{SECRET}@host", f"{SECRET}@host", f"user:{SECRET}@", f"redis://user:{SECRET}/x@host/0",
        f"redis://user:x#{SECRET}@host/0", f"redis://user:x?{SECRET}@host/0", f"redis://user:[{SECRET}@host/0",
        f"redis://user:{SECRET}\u2100@host/0", f"redis://h?password{SECRET}", f"redis://user:{SECRET}@host:x/0",
        f"memory://u:{SECRET}@host/", f"nosuch://user:{SECRET}@host/0?token={SECRET}",
        f"sqlite:///x.db?password={SECRET}",
    ],
)  # fmt: skip
def test_no_error_shows_a_secret(url):
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_no_repr_shows_a_secret():
    app = App(f"memory://?token={SECRET}")
    assert repr(app) == "<App memory://?token=**>"
    assert SECRET not in repr(app.conf)


def test_an_unknown_scheme_names_those_there_are():
    with pytest.raises(ConfigurationError, match=r"no engine for postgress://; there are .*memory://"):
        engine_class("postgress://host/db")
    with pytest.raises(ConfigurationError, match="is not a backend URL"):
        App("nonsense")


KNOWN = {"timeout": seconds, "workers": count, "mode": one_of("full", "normal"), "password": seconds}


def test_options_are_read():
    given = {"timeout": "0.5", "workers": "3", "mode": "FULL"}
    assert read_options(given, KNOWN, "x://") == {"timeout": 0.5, "workers": 3, "mode": "full"}
    assert read_options({}, {}, "x://") == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("timout", "5", "x:// has no option 'timout'; did you mean 'timeout'?"),
        ("zzz", "5", "x:// has no option 'zzz'; it takes mode, password, timeout, workers"),
        ("timeout", "-1", "option timeout='-1' is not usable: expected a number of seconds"),
        ("timeout", "inf", "expected a number of seconds"),
        ("timeout", "nan", "expected a number of seconds"),
        ("timeout", "soon", "could not convert"), ("timeout", None, "option timeout=None"),
        ("workers", "0", "expected a whole number, 1 or more"), ("workers", "1.5", "option workers='1.5'"),
        ("mode", "fast", "expected one of full, normal"),
        ("password", SECRET, "the value of option password"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_used_says_why(name, value, said):
    with pytest.raises(ConfigurationError) as caught:
        read_options({name: value}, KNOWN, "x://")
    assert said in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_an_engine_without_options_says_so():
    with pytest.raises(ConfigurationError, match="'timeout'; it takes none"):
        read_options({"timeout": 1}, {}, "x://")
