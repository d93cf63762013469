"""Databases: their life, and who may do what in them."""

from __future__ import annotations

import pytest
import sqlalchemy
from sqlalchemy.exc import DatabaseError

from tests.servers import DATABASES, Database, ServerFailed
from tests.servers.databases import READER


@pytest.mark.parametrize("kind", DATABASES)
def test_a_database_answers_once_it_is_started_and_is_gone_once_it_is_stopped(kind):
    with Database.start(kind) as server:
        server.ask("CREATE DATABASE shop")
        server.ask("CREATE TABLE thing (id int)", "INSERT INTO thing VALUES (7)", database="shop")
        engine = sqlalchemy.create_engine(server.url("shop", READER))
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT id FROM thing")).scalar_one() == 7
            with pytest.raises(DatabaseError, match="denied"):
                connection.execute(sqlalchemy.text("DELETE FROM thing"))
        engine.dispose()
        assert server.socket_path.exists()
    assert not server.running()
    assert not server.folder.exists()


@pytest.mark.parametrize("kind", DATABASES)
def test_a_database_that_cannot_start_says_why(kind):
    with pytest.raises(ServerFailed, match=r"no.such.option"):
        Database.start(kind, options={"no-such-option": "1"})
