"""`db_session(strict=True)`: after the scope its objects refuse every read, and hold nothing but their keys."""

import copy
import gc
import weakref
from decimal import Decimal
from uuid import UUID

import pytest

from dbsession import (
    Database,
    DatabaseSessionIsOver,
    Json,
    Optional,
    PrimaryKey,
    Required,
    Set,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent
from tests.scope.detached_page import STRICT, TABLE, left, outcome
from tests.session.shop import make_shop

OVER = "the database session is over, and it was strict, so that only the keys of its objects are left"
READ = "read it within the scope, or do without strict=True"
AGAIN = "get the object again in the db_session that needs it"

strict = db_session(strict=True)


class Odd(Exception):
    pass


@pytest.fixture
def shop(db):
    return make_shop(db)


# --- the table ----------------------------------------------------------------------------------------------


def test_the_table_of_the_documentation(db):
    """120. What docs/detached.md says of strict scopes: keys can be read, and nothing else; nothing is sent."""
    objects = left(db, strict)
    with sent(db) as spent:
        assert {code: outcome(code, objects) for code in TABLE} == {c: says[STRICT] for c, says in TABLE.items()}
    assert spent.statements == 0


REFUSED = [
    # what is tried                                Cannot ...                                  way out
    (lambda s: s.ann.id, "read attribute Customer[1].id", READ),
    (lambda s: s.ann.name, "read attribute Customer[1].name", READ),
    (lambda s: s.ann.bio, "read attribute Customer[1].bio", READ),
    (lambda s: s.ann.card, "read attribute Customer[1].card", READ),
    (lambda s: s.bob.name, "read attribute Customer[2].name", READ),
    (lambda s: s.bob.id, "read attribute Customer[2].id", READ),
    (lambda s: s.new.name, "read attribute Customer[3].name", READ),
    (lambda s: s.order.customer, "read attribute Order[1].customer", READ),
    (lambda s: len(s.ann.orders), "read collection Customer[1].orders", READ),
    (lambda s: s.order in s.ann.orders, "read collection Customer[1].orders", READ),
    (lambda s: s.ann.tags.count(), "read collection Customer[1].tags", READ),
    (lambda s: s.order.to_dict(), "read attribute Order[1].id", READ),
    (lambda s: s.ann.to_dict("orders"), "read collection Customer[1].orders", READ),
    (lambda s: setattr(s.ann, "name", "Eve"), "assign a new value to Customer[1].name", AGAIN),
    (lambda s: s.ann.set(name="Eve"), "change object Customer[1]", AGAIN),
    (lambda s: s.ann.orders.clear(), "change collection Customer[1].orders", AGAIN),
    (lambda s: s.settings.clear(), "change the value of Customer[1].settings", AGAIN),
    (lambda s: s.ann.delete(), "delete object Customer[1]", AGAIN),
    (lambda s: s.ann.load(), "load object Customer[1]", AGAIN),
]


@pytest.mark.parametrize("use, doing, way_out", REFUSED, ids=[f"{n}-{row[1]}" for n, row in enumerate(REFUSED)])
def test_every_read_is_refused(db, use, doing, way_out):
    """The error names object and attribute, and that the scope was strict; in another thread, too."""
    objects = left(db, strict)
    for call in (use, lambda objects: elsewhere(use, objects)):
        with pytest.raises(DatabaseSessionIsOver) as caught:
            call(objects)
        assert str(caught.value) == f"Cannot {doing}: {OVER}; {way_out}"


# --- what is left -------------------------------------------------------------------------------------------


def test_nothing_but_the_key_is_held(shop):
    """30. Values, related objects and items are freed, though the objects that had them are kept."""

    class Value:
        """What the test can watch; the object keeps it as its own values."""

    with strict:
        a = shop.Customer.get(name="a")
        orders, tags = a.orders, a.tags
        watched = [weakref.ref(obj) for obj in (*orders, *tags, a.card)]
        value = Value()
        a.__dict__["seen"] = value  # as functools.cached_property does
        watched.append(weakref.ref(value))
        del value
        data = a.data
    gc.collect()
    assert [reference() for reference in watched] == [None] * len(watched)
    assert vars(a) == {} and not orders.is_loaded and len(a._row_) == 1
    assert data == {"list": [1, 2]}  # it was taken out, and is the program's own


def test_composite_and_converted_keys(db):
    """get_pk() and repr() give the key as the program has it: UUIDs, Decimals, references within keys."""

    class Room(db.Entity):
        house = Required(UUID)
        number = Required(Decimal, 8, 2)
        PrimaryKey(house, number)
        places = Set("Place")

    class Place(db.Entity):
        room = Required(Room)
        row = Required(str)
        PrimaryKey(room, row)
        notes = Set("Note")

    class Note(db.Entity):
        place = PrimaryKey(Place)
        text = Optional(str)

    db.generate_mapping(create_tables=True)
    house = UUID(int=7)
    with strict:
        room = Room(house=house, number=Decimal("1.50"))
        place = Place(room=room, row="a")
        note = Note(place=place)
        flush()
        before = [(obj.get_pk(), repr(obj)) for obj in (room, place, note)]
    assert before[2][0] == ((house, Decimal("1.50")), "a")
    assert [(obj.get_pk(), repr(obj)) for obj in (room, place, note)] == before
    for read in (lambda: room.house, lambda: place.room, lambda: place.row, lambda: note.place):
        with pytest.raises(DatabaseSessionIsOver, match="it was strict"):
            read()
    with db_session:
        assert (Place.get(room=room, row="a").row, Note.select(place=place).count()) == ("a", 1)


def test_objects_stay_what_they_were_to_python(shop):
    """Equality and hash hold across the end of the scope, so that sets and dicts of objects work on."""
    with strict:
        objects = shop.Customer.select().fetch()
        names = {obj: obj.name for obj in objects}
    assert [names[obj] for obj in objects] == ["a", "b"]
    assert objects[0] == objects[0] and objects[0] != objects[1] and objects[0] < objects[1]


# --- which objects ------------------------------------------------------------------------------------------


def refuses(obj, name="name"):
    """Tell whether *obj* refuses to be read because its scope was strict."""
    with pytest.raises(DatabaseSessionIsOver, match="it was strict"):
        getattr(obj, name)
    return True


@pytest.mark.parametrize("then", [lambda: None, flush, commit], ids=["", "flush", "commit"])
def test_objects_in_every_state(shop, then):
    """New, changed, deleted and hollow objects, saved by the end of the scope, by flush() or by commit(), refuse alike."""
    with strict:
        a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
        a.name = "changed"
        new = shop.Customer(name="n")
        card = a.card
        card.delete()
        hollow = shop.Order[1].customer
        then()
    for obj, name in ((a, "name"), (a, "id"), (b, "name"), (new, "name"), (card, "number"), (hollow, "id")):
        assert refuses(obj, name)
    assert (a.get_pk(), new.get_pk(), card.get_pk(), repr(card)) == (1, 3, 1, "Card[1]")
    assert rows(shop.db, "SELECT name FROM customer ORDER BY id") == ["changed", "b", "n"]


def test_what_one_statement_deleted(shop):
    """Objects whose rows went with a bulk delete refuse, too."""
    with strict:
        order = shop.Order[1]
        assert shop.Order.select().delete(bulk=True) == 2
    assert refuses(order, "total") and order.get_pk() == 1


def test_a_key_that_was_taken_over(shop):
    """22. Both objects that had one key, the deleted and the new one, refuse."""
    with strict:
        old = shop.Tag["x"]
        old.delete()
        new = shop.Tag(text="x", note="second")
    assert refuses(old, "note") and refuses(new, "note")
    assert (repr(old), repr(new)) == ("Tag['x']", "Tag['x']")


@pytest.mark.parametrize("send", [lambda: None, flush], ids=["unflushed", "flushed"])
def test_a_failed_scope_is_strict_as_well(shop, send):
    """74. Objects of a failed scope refuse; one that was never saved keeps what the program gave it."""
    with pytest.raises(Odd), strict:
        a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
        a.name = "changed"
        b.delete()
        new = shop.Customer(name="n")
        send()
        raise Odd
    for obj in (a, b):
        with pytest.raises(DatabaseSessionIsOver, match="it was rolled back because of Odd, and it was strict"):
            obj.name
    assert (new.name, new.id, repr(new)) == ("n", None, "Customer[transient]")


def test_after_a_rollback_in_the_middle(shop):
    """68. Objects that went through a rollback refuse like all others."""
    with strict:
        a = shop.Customer.get(name="a")
        a.name = "changed"
        flush()
        late = shop.Customer.get(name="b")
        rollback()
        assert a.name == "a"
    assert refuses(a) and refuses(late) and refuses(late, "id")


def test_a_scope_that_loaded_nothing(shop):
    """A strict scope in which nothing was touched, or only plain rows were read, ends like any other."""
    with strict:
        pass
    with strict:
        names = shop.db.select("SELECT name FROM customer ORDER BY name")
    assert names == ["a", "b"]


# --- which scope --------------------------------------------------------------------------------------------


def test_the_outermost_scope_decides(shop):
    """A strict scope that joins one which is not changes nothing for its objects; the reverse refuses all of them."""
    with db_session:
        outer = shop.Customer.get(name="a")
        outer.name
        with strict:
            inner = shop.Customer.get(name="b")
            same = shop.Customer.get(name="a")
        assert (outer.name, inner.name, outer.bio) == ("a", "b", "bio a")
        inner.count = 3
    assert (outer.name, inner.name, inner.count, same is outer) == ("a", "b", 3, True)
    with strict:
        outer = shop.Customer.get(name="a")
        with db_session:
            inner = shop.Customer.get(name="b")
        assert (outer.name, inner.name) == ("a", "b")
    assert refuses(outer) and refuses(inner)


def test_an_independent_scope_is_its_own(shop):
    """A strict scope that is independent of the one around it is strict for its own objects, and for no others."""
    with db_session:
        outer = shop.Customer.get(name="a")
        with db_session(nested="independent", strict=True):
            inner = shop.Customer.get(name="a")
            assert inner is not outer
        assert refuses(inner) and (outer.name, outer.bio) == ("a", "bio a")
    assert outer.name == "a"


def test_what_a_failed_inner_scope_left(shop):
    """75. Objects that an inner scope deleted, changed or loaded before it failed refuse as all others do."""
    with strict:
        with pytest.raises(Odd), db_session(nested="savepoint"):
            a, order, tag = shop.Customer.get(name="a"), shop.Order[1], shop.Tag["x"]
            a.name = "changed"
            order.delete()
            flush()
            raise Odd
        assert (a.name, order.total) == ("a", 1)
    assert refuses(a) and refuses(order, "total") and refuses(tag, "note")


def test_as_a_decorator(shop):
    """120. What a strict function returns can be told apart and got again, but not read."""

    @db_session(strict=True, retry=1)
    def find(name):
        return shop.Customer.get(name=name)

    customer = find("a")
    assert refuses(customer)
    with db_session:
        again = shop.Customer[customer.get_pk()]
        assert (again.name, again == customer) == ("a", False)
        assert shop.Order.select(customer=customer).count() == 2


def test_other_scopes_are_not_concerned(shop):
    """Objects of scopes before, after and beside a strict one read on."""
    with db_session:
        before = shop.Customer.get(name="a")
    with strict:
        held = shop.Customer.get(name="a")
        beside = elsewhere(db_session(lambda: shop.Customer.get(name="b")))
    with db_session:
        after = shop.Customer.get(name="a")
    assert (before.name, beside.name, after.name) == ("a", "b", "a") and refuses(held)


def test_strict_objects_in_a_later_scope(shop):
    """23. A key is all that another scope can take of them: as a parameter."""
    with strict:
        a, order = shop.Customer.get(name="a"), shop.Order[1]
    with db_session:
        assert shop.Order.select(shop.Order.customer == a).count() == 2
        with pytest.raises(
            Exception, match=r"cannot refer to Customer\[1\]: the database session is over, .*Customer\[key\]"
        ):
            shop.Order(total=1, customer=a)
        with pytest.raises(Exception, match=r"cannot take Order\[1\]: the database session is over, .*Order\[key\]"):
            shop.Customer[2].orders.add(order)


def test_two_databases(shop, tmp_path):
    """66. A scope that used two databases is strict for the objects of both."""
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")

    class Log(other.Entity):
        text = Required(str)
        data = Optional(Json)

    other.generate_mapping(create_tables=True)
    with strict:
        a, log = shop.Customer.get(name="a"), Log(text="x", data={"k": [1]})
        data = log.data
    assert refuses(a) and refuses(log, "text")
    assert copy.copy(data) == {"k": [1]}
    other.close()
