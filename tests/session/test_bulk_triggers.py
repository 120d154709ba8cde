"""What triggers make of the rows of an UPDATE for many of them."""

from __future__ import annotations

import pytest

from dbsession import Database, Json, Optional, Required, Version, db_session
from tests.observing import rows, sent


@pytest.fixture
def item(db):
    """An entity whose table has a trigger that counts changes into a volatile attribute."""

    class Item(db.Entity):
        name = Required(str)
        data = Optional(Json)
        changes = Required(int, default=0, volatile=True)
        version = Version()

    db.generate_mapping(create_tables=True)
    with db_session:
        if db.backend.dialect.name == "sqlite":
            db.execute(
                "CREATE TRIGGER t AFTER UPDATE OF name ON Item BEGIN "
                "UPDATE Item SET changes = changes + 1 WHERE id = NEW.id; END"
            )
        else:
            body = "NEW.changes := OLD.changes + 1; RETURN NEW;"
            db.execute(f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
            db.execute("CREATE TRIGGER t BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION f()")
        for name in "abc":
            Item(name=name)
    return Item


def test_what_a_trigger_makes_is_seen(db, item):
    """38. A volatile attribute shows what a trigger has made of it; for all objects in one round trip at most."""
    with db_session:
        items = list(item.select().order_by(item.id))
        assert [each.changes for each in items] == [0, 0, 0]
        item.select(item.name < "c").update(name="new")
        with sent(db) as spent:
            assert [each.changes for each in items] == [1, 1, 0]
        assert spent.round_trips <= 1
        assert [each.name for each in items] == ["new", "new", "c"]


def test_what_a_trigger_makes_is_read_again_after_the_scope_s_commit(item):
    """38. Unread before, it is loaded with the others; after the scope it is what was loaded."""
    with db_session:
        items = list(item.select().order_by(item.id))
        item.select().update(name=item.name.upper(), data={"a": 1})
        assert [(each.name, each.changes, each.data) for each in items] == [(n, 1, {"a": 1}) for n in "ABC"]
    assert [each.changes for each in items] == [1, 1, 1]


def test_a_trigger_that_nobody_has_announced(postgres_url):
    """What a trigger makes of an attribute that is not volatile is no conflict with the session that has fired it."""
    db = Database(postgres_url)

    class Item(db.Entity):
        name = Required(str)
        note = Optional(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        body = "NEW.name := upper(NEW.name); RETURN NEW;"
        db.execute(f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
        db.execute("CREATE TRIGGER t BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION f()")
        Item(name="a")
    with db_session:
        item = Item[1]
        assert item.name == "a"
        Item.select().update(name="b")
        item.note = "x"
    assert rows(db, "SELECT name, note FROM item") == [("B", "x")]
    db.close()
