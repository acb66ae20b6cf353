"""What runs before the hub, on tables as JupyterHub makes them, and with the API's pods thought up.

``test_notebooks.py`` has the real API and the real hub.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from plan.addons.jupyterhub import start

SCHEMA = Path(__file__).with_name("jupyterhub-6.1.1.sql")
"""The tables that JupyterHub makes; a test with the real hub compares them."""

FIRST, SECOND = start.mark_of("first"), start.mark_of("second")

ROWS = """
INSERT INTO users (id, name, cookie_id) VALUES (1, 'ann', 'a'), (2, 'bert', 'b');
INSERT INTO servers (id, ip) VALUES (1, '172.16.0.5'), (2, 'of no person');
INSERT INTO oauth_clients (identifier) VALUES ('jupyterhub'), ('jupyterhub-user-ann');
INSERT INTO spawners (id, user_id, name, server_id, oauth_client_id)
    VALUES (1, 1, '', 1, 'jupyterhub-user-ann'), (2, 2, '', NULL, NULL);
INSERT INTO api_tokens (id, user_id, client_id, hashed)
    VALUES (1, 1, 'jupyterhub', 'made'), (2, 1, 'jupyterhub-user-ann', 'of a browser');
INSERT INTO oauth_codes (id, user_id, client_id) VALUES (1, 1, 'jupyterhub-user-ann');
INSERT INTO share_codes (id, owner_id, spawner_id, hashed, created_at)
    VALUES (1, 1, 1, 'h', '2026-01-01');
"""


class PodsOfTest(start.ServerPods):
    """Servers that end at once; an API that fails where ``fails``."""

    def __init__(self, *names: str, fails: str = "") -> None:
        self.left, self.fails = list(names), fails

    def servers(self) -> list[str]:
        self._must_not("list")
        return list(self.left)

    def delete(self, name: str) -> None:
        self._must_not(name)
        self.left.remove(name)

    def _must_not(self, step: str) -> None:
        if step == self.fails:
            raise start.Refused(step)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The hub's folder, with a database that was last used with the first password."""
    with closing(sqlite3.connect(tmp_path / start.DATABASE)) as made, made:
        made.executescript(SCHEMA.read_text() + ROWS)
    (tmp_path / start.MARK).write_text(FIRST)
    return tmp_path


def asked(data: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(data / start.DATABASE)) as opened:
        return opened.execute(query).fetchall()


def count(data: Path, table: str) -> int:
    ((number,),) = asked(data, f"SELECT count(*) FROM {table}")
    return int(number)


ACCESS = ("api_tokens", "oauth_codes", "share_codes")


def is_forgotten(data: Path) -> bool:
    """Whether the database has nothing of what gives access, and all people still."""
    assert asked(data, "SELECT id, name FROM users") == [(1, "ann"), (2, "bert")]
    assert asked(data, "SELECT id, user_id FROM spawners") == [(1, 1), (2, 2)]
    return not any(count(data, table) for table in ACCESS)


def test_the_same_password_changes_nothing_and_asks_nobody(data: Path) -> None:
    before = (data / start.DATABASE).read_bytes()
    start.prepare(data, FIRST, PodsOfTest("jupyter-ann", fails="list"))
    assert (data / start.DATABASE).read_bytes() == before


def test_another_password_ends_servers_and_forgets_what_gives_access(data: Path) -> None:
    pods = PodsOfTest("jupyter-ann", "jupyter-bert")
    start.prepare(data, SECOND, pods)
    assert pods.left == []
    assert is_forgotten(data)
    assert asked(data, "SELECT identifier FROM oauth_clients") == [("jupyterhub",)]
    assert asked(data, "SELECT ip FROM servers") == [("of no person",)]
    assert asked(data, "SELECT server_id, oauth_client_id FROM spawners") == [(None, None)] * 2
    cookies = {row[0] for row in asked(data, "SELECT cookie_id FROM users")}
    assert len(cookies - {"a", "b"}) == 2
    assert asked(data, "PRAGMA foreign_key_check") == []
    assert {path.name for path in data.iterdir()} == {start.DATABASE, start.MARK}
    assert (data / start.MARK).read_text() == SECOND


def test_the_mark_is_not_the_password_nor_what_signs_cookies(data: Path) -> None:
    start.prepare(data, SECOND, PodsOfTest())
    mark = (data / start.MARK).read_text()
    assert "second" not in mark
    configuration = Path(start.__file__).with_name("jupyterhub_config.py").read_text()
    assert 'b"cookies"' in configuration
    assert 'b"last started with"' not in configuration


def test_a_database_of_a_hub_that_made_no_marks_counts_as_of_another_password(data: Path) -> None:
    (data / start.MARK).unlink()
    pods = PodsOfTest("jupyter-ann")
    start.prepare(data, FIRST, pods)
    assert pods.left == []
    assert is_forgotten(data)


@pytest.mark.parametrize("mark", ["", FIRST], ids=["no-mark", "mark"])
def test_without_a_database_the_servers_end_that_no_hub_knows(tmp_path: Path, mark: str) -> None:
    if mark:
        (tmp_path / start.MARK).write_text(mark)
    pods = PodsOfTest("jupyter-ann")
    start.prepare(tmp_path, FIRST, pods)
    assert pods.left == []
    assert [path.name for path in tmp_path.iterdir()] == [start.MARK]


@pytest.mark.parametrize("fails", ["list", "jupyter-ann", "jupyter-bert"])
def test_an_api_that_fails_starts_no_hub_and_the_next_time_does_all(data: Path, fails: str) -> None:
    pods = PodsOfTest("jupyter-ann", "jupyter-bert", fails=fails)
    with pytest.raises(start.Refused):
        start.prepare(data, SECOND, pods)
    assert not is_forgotten(data)
    assert (data / start.MARK).read_text() == FIRST
    pods.fails = ""
    start.prepare(data, SECOND, pods)
    assert pods.left == []
    assert is_forgotten(data)


class CutOff(BaseException):
    """The end of the program, anywhere."""


@pytest.mark.parametrize("at", ["forget", "FORGOTTEN", "fsync", "replace"])
def test_cut_off_anywhere_it_does_all_the_next_time(
    data: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise CutOff

    with monkeypatch.context() as patch:
        if at == "FORGOTTEN":
            patch.setattr(start, at, (*start.FORGOTTEN[:2], "no SQL"))
        elif at == "forget":
            patch.setattr(start, at, end)
        else:
            patch.setattr(os if at == "fsync" else Path, at, end)
        with pytest.raises((CutOff, sqlite3.OperationalError)):
            start.prepare(data, SECOND, PodsOfTest("jupyter-ann"))
    assert is_forgotten(data) == (at in ("fsync", "replace"))
    assert (data / start.MARK).read_text() == FIRST
    start.prepare(data, SECOND, PodsOfTest())
    assert is_forgotten(data)
    assert (data / start.MARK).read_text() == SECOND


def test_a_database_without_tables_is_forgotten_already_and_one_without_some_an_error(
    data: Path,
) -> None:
    with closing(sqlite3.connect(data / start.DATABASE)) as opened, opened:
        opened.execute("DROP TABLE share_codes")
    with pytest.raises(sqlite3.OperationalError, match="share_codes"):
        start.prepare(data, SECOND, PodsOfTest())
    assert count(data, "api_tokens") == 2
    (data / start.DATABASE).write_bytes(b"")
    start.prepare(data, SECOND, PodsOfTest())
    assert (data / start.MARK).read_text() == SECOND


def test_a_server_whose_node_is_away_holds_up_nobody_for_ever(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stays(PodsOfTest):
        def delete(self, name: str) -> None:
            pass

    monkeypatch.setattr(start, "PATIENCE", 0)
    start.prepare(data, SECOND, Stays("jupyter-ann"))
    assert "away: jupyter-ann" in capsys.readouterr().out
    assert is_forgotten(data)
