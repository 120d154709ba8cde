"""Hooks that write to another database: what they make there is saved with the scope, too."""

from types import SimpleNamespace

import pytest

from dbsession import Database, Required, TransactionError, TransactionIntegrityError, db_session, flush
from tests.observing import rows


def declare(db, after_insert):
    """Declare `Item`, with a hook."""
    Item = type(db.Entity)("Item", (db.Entity,), {"name": Required(str), "after_insert": after_insert})
    db.generate_mapping(create_tables=True)
    return SimpleNamespace(db=db, Item=Item)


@pytest.fixture
def archive(sqlite_file_url):
    """A second database, that hooks write to; `archive.answer`, if there is one, runs behind each of its inserts."""
    archive = SimpleNamespace(db=Database(sqlite_file_url), answer=None)

    class Note(archive.db.Entity):
        text = Required(str)

        def after_insert(self):
            if archive.answer is not None:
                archive.answer()

    archive.db.generate_mapping(create_tables=True)
    archive.Note = Note
    yield archive
    archive.db.close()


def test_what_hooks_make_in_another_database_is_saved_too(db, archive):
    """57. The other database is first touched by a hook of the last flush, and committed all the same."""

    def after_insert(self):
        archive.Note(text=f"made for {self.name}")

    shop = declare(db, after_insert=after_insert)
    with db_session:
        shop.Item(name="a")
    assert rows(archive.db, "SELECT text FROM note") == ["made for a"]
    with pytest.raises(ZeroDivisionError):
        with db_session:
            shop.Item(name="b")
            flush()
            1 / 0
    assert rows(archive.db, "SELECT text FROM note") == ["made for a"]
    assert rows(db, "SELECT name FROM item") == ["a"]


def test_an_answer_from_another_database_is_saved_too(db, archive):
    """57. The last flush makes work in another database, whose hook makes work in the first one again."""

    def after_insert(self):
        if self.name != "answer":
            archive.Note(text=self.name)

    shop = declare(db, after_insert=after_insert)
    archive.answer = lambda: shop.Item(name="answer")
    with db_session:
        shop.Item(name="question")
    assert rows(db, "SELECT name FROM item ORDER BY name") == ["answer", "question"]
    assert rows(archive.db, "SELECT text FROM note") == ["question"]


def test_hooks_that_keep_two_databases_busy_are_an_error(db, archive):
    """57. Each database's hook makes work in the other one, without an end: an error, and nothing is committed."""

    def after_insert(self):
        archive.Note(text=self.name)

    shop = declare(db, after_insert=after_insert)
    archive.answer = lambda: shop.Item(name="again")
    with pytest.raises(TransactionError, match="hooks"):
        with db_session:
            archive.Note(text="first")
            shop.Item(name="first")
    assert rows(db, "SELECT count(*) FROM item") == [0]
    assert rows(archive.db, "SELECT count(*) FROM note") == [0]


@pytest.mark.parametrize("hook", ["before_insert", "after_insert"])
def test_nothing_is_committed_before_a_database_that_a_hook_touches_has_flushed(db, archive, hook):
    """66. A hook of the last flush makes what the other database refuses: neither commits, and retry may run it again."""
    with db_session:
        archive.db.execute("CREATE UNIQUE INDEX once ON note (text)")
        archive.Note(text="taken")

    def collide(_item):
        archive.Note(text="taken")

    Item = type(db.Entity)("Item", (db.Entity,), {"name": Required(str), hook: collide})
    db.generate_mapping(create_tables=True)
    runs = []

    @db_session(retry=2)
    def work():
        runs.append(1)
        Item(name="new")

    with pytest.raises(TransactionIntegrityError):
        work()
    assert len(runs) == 3
    assert rows(db, "SELECT name FROM item") == []
