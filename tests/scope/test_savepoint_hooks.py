"""Hooks of entities that run in the flush of an inner scope, and what becomes of what they do."""

from types import SimpleNamespace

import pytest

from dbsession import (
    Database,
    Optional,
    Required,
    SessionDoomed,
    TransactionIntegrityError,
    db_session,
    flush,
    savepoint,
)
from tests.observing import rows, sent


class Odd(Exception):
    pass


@pytest.fixture
def forge(db):
    calls = []

    class Log(db.Entity):
        text = Required(str)

    class Tool(db.Entity):
        name = Required(str, unique=True)
        stamp = Optional(int)

        def before_insert(self):
            calls.append(f"before {self.name}")
            self.stamp = 1
            if self.name == "refused":
                raise Odd

        def after_insert(self):
            calls.append(f"after {self.name}")
            Log(text=self.name)

        def before_update(self):
            self.stamp = (self.stamp or 0) + 1

    db.generate_mapping(create_tables=True)
    with db_session:
        Tool(name="hammer")
    calls.clear()
    return SimpleNamespace(db=db, Tool=Tool, Log=Log, calls=calls)


FORMS = {"join": db_session, "savepoint": savepoint()}


@pytest.fixture(params=FORMS)
def scope(request):
    return FORMS[request.param]


def names(forge):
    return sorted(rows(forge.db, "SELECT name FROM tool")), sorted(rows(forge.db, "SELECT text FROM log"))


def test_what_hooks_do_is_part_of_the_inner_scope(forge, scope):
    """57, 75. Hooks run for what the inner flush saves; what they change and make is undone with it."""
    with db_session:
        outer = forge.Tool(name="outer")
        hammer = forge.Tool.get(name="hammer")
        with pytest.raises(Odd), scope:
            forge.Tool(name="inner")
            hammer.name = "sledge"
            flush()
            assert hammer.stamp == 2
            raise Odd
        assert (hammer.name, hammer.stamp) == ("hammer", 1)
        assert outer.id is not None
    assert names(forge) == (["hammer", "outer"], ["hammer", "outer"])


def test_hooks_run_again_for_what_is_saved_again(forge, scope):
    """57, 75. An object of the outer scope that was saved and undone within is saved again, with its hooks."""
    with db_session:
        outer = forge.Tool(name="outer")
        with pytest.raises(Odd), scope:
            outer.name = "changed"
            flush()
            raise Odd
        assert (outer.name, outer.id) == ("outer", None)
    assert forge.calls == ["before changed", "after changed", "before outer", "after outer"]
    assert names(forge) == (["hammer", "outer"], ["hammer", "outer"])


def test_a_failing_hook_dooms_the_inner_scope(forge, scope):
    """88. An error in a hook is as a failed flush: the inner scope is lost, the outer one goes on."""
    with db_session:
        forge.Tool(name="outer")
        flush()
        with pytest.raises(SessionDoomed), scope:
            forge.Tool(name="refused")
            with pytest.raises(Odd):
                flush()
            with pytest.raises(SessionDoomed):
                flush()
        forge.Tool(name="later")
    assert names(forge) == (["hammer", "later", "outer"], ["hammer", "later", "outer"])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failing_hook_of_an_outer_scopes_object_dooms_the_session(forge, scope, when, monkeypatch):
    """88. The inner flush runs the hook of what the outer scope has made: its error is not the inner scope's to undo."""

    def refuse(tool):
        raise Odd

    monkeypatch.setattr(forge.Tool, "before_insert", lambda _: None)
    monkeypatch.setattr(forge.Tool, f"{when}_insert", refuse)
    with pytest.raises(SessionDoomed) as caught, db_session:
        forge.Tool(name="outer")
        with pytest.raises(Odd), scope:
            forge.Log(text="inner")
            flush()
        with pytest.raises(SessionDoomed):
            flush()
    assert isinstance(caught.value.__cause__, Odd)
    assert names(forge) == (["hammer"], ["hammer"])


def test_hooks_of_the_outer_scopes_objects_in_a_read_only_scope(forge):
    """57. A query in a read-only scope sends what the outer one has changed; its hooks may change what they like."""
    with db_session:
        hammer = forge.Tool.get(name="hammer")
        hammer.name = "sledge"
        with db_session(read_only=True):
            assert forge.Tool.select(name="sledge").count() == 1
        assert hammer.stamp == 2
    assert rows(forge.db, "SELECT name, stamp FROM tool") == [("sledge", 2)]


def test_hooks_that_write_to_another_database(forge, sqlite_file_url, monkeypatch):
    """57, 80. The end of a savepoint scope saves what its hooks have made in another database, too."""
    archive = Database(sqlite_file_url)

    class Note(archive.Entity):
        text = Required(str, unique=True)

    archive.generate_mapping(create_tables=True)
    monkeypatch.setattr(forge.Tool, "after_insert", lambda tool: Note(text=tool.name))
    with db_session:
        with savepoint():
            forge.Tool(name="inner")
        with sent(archive) as spent:
            flush()
        assert spent.statements == 0
        with pytest.raises(TransactionIntegrityError), savepoint():
            forge.Tool(name="other")
            Note(text="inner")
    assert rows(archive, "SELECT text FROM note") == ["inner"]
    assert rows(forge.db, "SELECT name FROM tool ORDER BY name") == ["hammer", "inner"]
    archive.close()
