"""Unique values that change hands within one flush: they are given up before they are taken."""

import pytest

from dbsession import (
    CacheIndexError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    TransactionIntegrityError,
    UnresolvableCyclicDependency,
    composite_key,
    db_session,
    flush,
    rollback,
)
from tests.observing import rows, sent
from tests.session.recording import recorded


@pytest.fixture
def User(db):
    class User(db.Entity):
        _table_ = "account"
        email = Required(str, unique=True)
        nick = Optional(str, unique=True)
        age = Optional(int)

    db.generate_mapping(create_tables=True)
    return User


@pytest.fixture
def Box(db):
    class Box(db.Entity):
        label = Optional(int, unique=True)
        things = Set("Thing")
        inside = Optional("Box", reverse="boxes")
        boxes = Set("Box", reverse="inside")

    class Thing(db.Entity):
        box = Required(Box)

    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(box=Box(label=1))
        Box(label=2)
    return Box


def make(User, *names):
    """Save users, and return their keys."""
    with db_session:
        users = [User(email=f"{name}@x", nick=name) for name in names]
    return [user.id for user in users]


USERS = "SELECT email, nick FROM account ORDER BY id"


# --- delete and insert --------------------------------------------------------------------------------


def test_a_new_row_takes_the_unique_value_of_a_deleted_one(db, User):
    """46. Deleting a row and inserting one with its unique value is one unit of work, in either program order."""
    (first,) = make(User, "a")
    with db_session:
        new = User(email="a@x", nick="a", age=2)
        User[first].delete()
    assert rows(db, "SELECT email, nick, age FROM account") == [("a@x", "a", 2)]
    assert new.id != first


def test_a_new_row_takes_the_value_that_another_row_gives_up(db, User):
    """46. An INSERT waits for the UPDATE that frees its value."""
    (first,) = make(User, "a")
    with db_session:
        user = User[first]
        user.nick = "b"
        user.email = "b@x"
        User(email="a@x", nick="a")
    assert rows(db, USERS) == [("b@x", "b"), ("a@x", "a")]


def test_a_row_takes_the_value_of_a_deleted_one(db, User):
    """46. An UPDATE waits for the DELETE that frees its value."""
    first, second = make(User, "a", "b")
    with db_session:
        User[first].nick = "b"
        User[second].delete()
    assert rows(db, USERS) == [("a@x", "b")]


def test_a_row_takes_the_value_of_a_row_that_is_deleted_unread(db, User):
    """46. Nothing need be read of a row for its values to be known to be free."""
    first, second = make(User, "a", "b")
    with db_session:
        User.select(User.id == second).delete()
        User[first].email = "b@x"
    assert rows(db, USERS) == [("b@x", "a")]


def test_a_new_row_takes_the_value_of_an_object_that_was_never_loaded(db, Box):
    """46. Only the key of the deleted box is known: what takes any unique value in its table waits for it to go."""
    with db_session:
        one, two = Box.select().order_by(Box.label).fetch()
        two.inside = one
    with db_session:
        two = Box.get(label=2)
        two.inside.delete()  # known by its key alone
        Box(label=1)
    assert rows(db, "SELECT label, inside FROM box ORDER BY label") == [(1, None), (2, None)]


def test_values_move_along_a_chain(db, User):
    """46. d is deleted, c takes its value, b takes that of c, a new row that of b; one flush in the right order."""
    b, c, d = make(User, "b", "c", "d")
    with sent(db) as spent, db_session:
        b, c, d = User.select().order_by(User.id).fetch()
        User(email="b@x")
        b.email = "c@x"
        c.email = "d@x"
        d.delete()
    assert rows(db, USERS) == [("c@x", "b"), ("d@x", "c"), ("b@x", None)]
    if db.backend.dialect.name == "postgresql":
        assert spent.round_trips == 2


def test_a_clash_that_no_order_avoids_is_the_databases_to_report(db, User):
    """46. A value that nobody gives up is an integrity error, and nothing is saved."""
    make(User, "a")
    with pytest.raises(TransactionIntegrityError) as caught:
        with db_session:
            User(email="b@x", nick="a")
    assert "nick" in str(caught.value) or "nick" in caught.value.columns
    assert rows(db, USERS) == [("a@x", "a")]


# --- swaps ------------------------------------------------------------------------------------------


def test_two_rows_swap_a_unique_value_that_may_be_null(db, User):
    """47. One of the two is NULL for a while; what was read of both is still checked, and right."""
    a, b = make(User, "a", "b")
    with db_session:
        one, two = User[a], User[b]
        one.nick, two.nick = two.nick, one.nick
        flush()
        assert (one.nick, two.nick) == ("b", "a")
    assert rows(db, USERS) == [("a@x", "b"), ("b@x", "a")]


def test_three_rows_rotate_a_unique_value(db, User):
    """47. A circle of three is broken at one place."""
    ids = make(User, "a", "b", "c")
    with db_session:
        one, two, three = (User[id] for id in ids)
        one.nick, two.nick, three.nick = two.nick, three.nick, one.nick
    assert rows(db, "SELECT nick FROM account ORDER BY id") == ["b", "c", "a"]


def test_two_circles_at_once(db, User):
    """47. Each circle is broken for itself, and other changes of the same rows are saved with it."""
    ids = make(User, "a", "b", "c", "d")
    with db_session:
        one, two, three, four = (User[id] for id in ids)
        one.nick, two.nick = two.nick, one.nick
        three.nick, four.nick = four.nick, three.nick
        for age, user in enumerate((one, two, three, four)):
            user.age = age
    assert rows(db, "SELECT nick, age FROM account ORDER BY id") == [("b", 0), ("a", 1), ("d", 2), ("c", 3)]


def test_a_new_row_joins_a_swap(db, User):
    """47. A new row takes what one of two swapping rows has, and the other one something new."""
    ids = make(User, "a", "b")
    with db_session:
        one, two = (User[id] for id in ids)
        one.nick, two.nick = "b", "c"
        User(email="c@x", nick="a")
    assert rows(db, "SELECT nick FROM account ORDER BY id") == ["b", "c", "a"]


def test_a_swap_with_a_reference_to_a_new_row(db, Box):
    """47. One of the two swapping rows refers to a new row, too, whose key is not known yet when the other is emptied."""
    with db_session:
        one, two = Box.select().order_by(Box.label).fetch()
        one.label, two.label = two.label, one.label
        one.inside = Box(label=3)
        two.inside = Box(label=4)
    found = rows(db, "SELECT b.label, o.label FROM box b JOIN box o ON o.id = b.inside ORDER BY b.id")
    assert found == [(2, 3), (1, 4)]


def test_a_new_row_takes_the_value_and_the_children_of_a_deleted_one(db, Box):
    """46. The things move to the new box before the old one goes, and the new one has the old one's label."""
    with db_session:
        old = Box.get(label=1)
        (thing,) = old.things
        thing.box = Box(label=1)
        old.delete()
        assert len(thing.box.things) == 1
    found = rows(db, "SELECT b.label, t.id FROM thing t JOIN box b ON b.id = t.box")
    assert found == [(1, thing.id)]
    assert rows(db, "SELECT label FROM box ORDER BY label") == [1, 2]


def test_a_swap_that_cannot_be_made_names_the_circle(db, User):
    """47. Where neither column may be NULL, the error names both objects and a way out, and nothing is saved."""
    a, b = make(User, "a", "b")
    with pytest.raises(UnresolvableCyclicDependency) as caught:
        with db_session:
            one, two = User[a], User[b]
            one.email, two.email = two.email, one.email
            two.age = 7
    message = str(caught.value)
    assert f"User[{a}]" in message and f"User[{b}]" in message
    assert "User.email" in message and "nullable" in message
    assert "flush()" in message
    assert rows(db, "SELECT email, age FROM account ORDER BY id") == [("a@x", None), ("b@x", None)]


def test_the_way_out_that_the_error_names_works(db, User):
    """47. A temporary value and a flush in between swap what cannot be NULL."""
    a, b = make(User, "a", "b")
    with db_session:
        one, two = User[a], User[b]
        mine, theirs = one.email, two.email
        one.email = "temporary"
        flush()
        two.email = mine
        one.email = theirs
    assert rows(db, USERS) == [("b@x", "a"), ("a@x", "b")]


def test_a_failed_swap_can_be_undone_and_the_scope_goes_on(db, User):
    """47. After rollback() the objects have their old values, and other work commits."""
    a, b = make(User, "a", "b")
    with db_session:
        one, two = User[a], User[b]
        one.email, two.email = two.email, one.email
        with pytest.raises(UnresolvableCyclicDependency):
            flush()
        rollback()
        assert (one.email, two.email) == ("a@x", "b@x")
        one.age = 3
    assert rows(db, "SELECT email, age FROM account ORDER BY id") == [("a@x", 3), ("b@x", None)]


def test_composite_values_swap(db):
    """47. Of a composite unique value one nullable part is emptied."""

    class Seat(db.Entity):
        row = Required(int)
        number = Optional(int)
        guest = Required(str)
        composite_key(row, number)

    db.generate_mapping(create_tables=True)
    with db_session:
        Seat(row=1, number=1, guest="a")
        Seat(row=1, number=2, guest="b")
    with db_session:
        one, two = Seat.select().order_by(Seat.guest).fetch()
        one.number, two.number = two.number, one.number
    assert rows(db, "SELECT guest, number FROM seat ORDER BY guest") == [("a", 2), ("b", 1)]


def test_values_of_two_unique_columns_swap_together(db):
    """47. Two rows that swap two unique columns at once give both up for a while."""

    class Slot(db.Entity):
        red = Optional(int, unique=True)
        blue = Optional(int, unique=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Slot(red=1, blue=10)
        Slot(red=2, blue=20)
    with db_session:
        one, two = Slot.select().order_by(Slot.red).fetch()
        one.red, two.red = two.red, one.red
        one.blue, two.blue = two.blue, one.blue
    assert rows(db, "SELECT red, blue FROM slot ORDER BY id") == [(2, 20), (1, 10)]


def test_a_one_to_one_partner_is_swapped(db):
    """47. The column of a one-to-one relation is unique, and is given up like other unique values."""

    class Person(db.Entity):
        name = Required(str)
        desk = Optional("Desk", column="desk")

    class Desk(db.Entity):
        name = Required(str)
        person = Optional(Person)

    db.generate_mapping(create_tables=True)
    with db_session:
        for name in "ab":
            Person(name=name, desk=Desk(name=name.upper()))
    with db_session:
        a, b = Person.select().order_by(Person.name).fetch()
        first, second = a.desk, b.desk
        a.desk = None
        b.desk = first
        a.desk = second
        assert first.person is b and second.person is a
    found = rows(db, "SELECT p.name, d.name FROM person p JOIN desk d ON d.id = p.desk ORDER BY p.name")
    assert found == [("a", "B"), ("b", "A")]


# --- keys -------------------------------------------------------------------------------------------


@pytest.fixture
def Country(db):
    class Country(db.Entity):
        code = PrimaryKey(str)
        name = Required(str)
        note = Optional(str)
        size = Optional(int, sql_default="7")
        cities = Set("City")

    class City(db.Entity):
        name = Required(str)
        country = Optional(Country)

    db.generate_mapping(create_tables=True)
    with db_session:
        old = Country(code="de", name="old", note="note", size=1)
        City(name="bonn", country=old)
    return Country


COUNTRIES = "SELECT code, name, note, size FROM country"


def test_a_deleted_key_is_used_again(db, Country):
    """48. One row remains, with the new object's values and defaults, and none of the old one's."""
    with db_session:
        old = Country["de"]
        old.delete()
        new = Country(code="de", name="new")
        assert Country["de"] is new
        flush()
        assert Country["de"] is new
        assert (new.name, new.note, new.size) == ("new", None, 7)
    assert rows(db, COUNTRIES) == [("de", "new", None, 7)]


def test_a_deleted_generated_key_is_used_again(db, User):
    """48. The same with a key that the database made, given by hand the second time."""
    (first,) = make(User, "a")
    with db_session:
        User[first].delete()
        User(id=first, email="new@x")
    assert rows(db, "SELECT id, email, nick FROM account") == [(first, "new@x", None)]


def test_children_move_to_the_new_owner_of_their_parents_key(db, Country):
    """48. Children given to the new object keep it, although the database takes them from the old row."""
    with db_session:
        old = Country["de"]
        cities = list(old.cities)
        old.delete()
        new = Country(code="de", name="new")
        for city in cities:
            city.country = new
        flush()
        assert [city.name for city in new.cities] == ["bonn"]
    assert rows(db, "SELECT name, country FROM city") == [("bonn", "de")]


def test_a_key_that_is_in_use_is_refused_at_once(db, Country):
    """48. Without a delete() before it, the second object with a key is refused where it is made."""
    with db_session:
        old = Country["de"]
        with pytest.raises(CacheIndexError, match=r"Country\['de'\]"):
            Country(code="de", name="new")
        assert Country["de"] is old
    assert rows(db, COUNTRIES) == [("de", "old", "note", 1)]


def test_a_key_that_another_row_gives_up_is_taken(db):
    """48. a moves from key 1 to 3, b from 2 to 1: one flush, in the order that the keys allow."""

    class Item(db.Entity):
        id = PrimaryKey(int)
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Item(id=1, name="a")
        Item(id=2, name="b")
    with db_session:
        a, b = Item[1], Item[2]
        a.id = 3
        b.id = 1
        assert Item[1] is b and Item[3] is a
    assert rows(db, "SELECT id, name FROM item ORDER BY id") == [(1, "b"), (3, "a")]


@pytest.mark.parametrize("leave", ["release", "move", "delete"])
@pytest.mark.parametrize("first", ["key", "child"])
def test_a_key_changes_behind_those_who_refer_to_it_no_more(db, leave, first):
    """26, 44. Whoever referred to the old key is saved before the row gets its new one, whatever was changed first."""

    class Owner(db.Entity):
        code = PrimaryKey(int)
        things = Set("Thing")

    class Thing(db.Entity):
        owner = Optional(Owner, column="owner")

    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(owner=Owner(code=1))
        Owner(code=2)
    with db_session:
        owner, other, thing = Owner[1], Owner[2], Thing[1]
        if first == "key":
            owner.code = 5
        if leave == "delete":
            thing.delete()
        else:
            thing.owner = None if leave == "release" else other
        if first == "child":
            owner.code = 5
    assert rows(db, "SELECT code FROM owner ORDER BY code") == [2, 5]
    assert rows(db, "SELECT owner FROM thing") == {"release": [None], "move": [2], "delete": []}[leave]


# --- the order of updates -----------------------------------------------------------------------------


def test_updates_and_deletes_go_by_key(User, monkeypatch):
    """51. The rows of a table are locked in the order of their keys, whatever the program's order was."""
    ids = make(User, *"abcdef")
    with recorded(monkeypatch) as batches:
        with db_session:
            users = {id: User[id] for id in ids}
            for id in (ids[4], ids[1], ids[3]):
                users[id].age = 1
            for id in (ids[5], ids[0], ids[2]):
                users[id].delete()
    updated = [values[1] for values in batches.runs("UPDATE")]
    deleted = [values[0] for values in batches.runs("DELETE")]
    assert updated == [ids[1], ids[3], ids[4]]
    assert deleted == [ids[0], ids[2], ids[5]]


def test_updates_go_by_key_where_unique_values_move_too(User, monkeypatch):
    """51. A graph of operations keeps the order of the keys wherever nothing else demands another one."""
    ids = make(User, *"abcdef")
    with recorded(monkeypatch) as batches:
        with db_session:
            users = [User[id] for id in reversed(ids)]
            for user in users:
                user.age = 1
            users[0].nick, users[5].nick = "x", "f"
    updated = [values[-1] for values in batches.runs("UPDATE")]
    assert [id for id in updated if id in ids[1:5]] == ids[1:5]
    assert updated.index(ids[5]) < updated.index(ids[0])
