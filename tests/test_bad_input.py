"""What people do wrong: each mistake gets an error that says what, where and how to go on, and loses nothing."""

import threading
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from dbsession import (
    CacheIndexError,
    ConstraintError,
    Database,
    DatabaseSessionIsOver,
    ERDiagramError,
    NoScopeError,
    ObjectNotFound,
    OperationWithDeletedObjectError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent

# --- values -------------------------------------------------------------------------------------------------


@pytest.fixture
def entities(db):
    class User(db.Entity):
        name = Required(str, 20, unique=True)
        age = Optional(int, min=0)
        balance = Optional(Decimal, 6, 2)
        birthday = Optional(date)
        login = Optional(datetime)
        orders = Set("Order")

    class Order(db.Entity):
        user = Required(User)
        total = Required(int)

    class Line(db.Entity):
        order = Required(int)
        number = Required(int)
        PrimaryKey(order, number)

    db.generate_mapping(create_tables=True)
    with db_session:
        Order(user=User(name="Ann", age=30), total=5)
        Line(order=1, number=2)
    return db.entities


@pytest.fixture
def unharmed(db, entities):
    """A scope with pending work, in which the mistake is made; afterwards all of that work must be saved."""
    User = entities["User"]
    with db_session:
        ann = User[1]
        ann.age = 31
        User(name="pending")
        with sent(db) as spent:
            yield ann
        assert spent.statements == 0
    assert rows(db, 'SELECT name, age FROM "user" ORDER BY id') == [("Ann", 31), ("pending", None)]
    assert rows(db, 'SELECT "user", total FROM "order"') == [(1, 5)]


WRONG_VALUES = [
    ({"nmae": "x"}, TypeError, "unexpected attribute 'nmae' of User; did you mean 'name'?"),
    ({"name": "x", "colour": 1}, TypeError, "unexpected attribute 'colour' of User"),
    ({}, ValueError, "User.name is required, and was not given: write User(name=...), or declare a default="),
    ({"name": None}, ValueError, "User.name is required, and cannot be None"),
    ({"name": ""}, ValueError, "User.name is required, and '' is empty"),
    ({"name": "   "}, ValueError, "User.name is required, and '' is empty"),
    ({"name": 5}, TypeError, "User.name must be a str, not int (5)"),
    ({"name": b"x"}, TypeError, "User.name must be a str, not bytes (b'x')"),
    ({"name": "x" * 21}, ValueError, "User.name is too long: 21 characters, and at most 20 are allowed"),
    ({"name": "x", "age": "many"}, TypeError, "User.age must be an int, not str ('many')"),
    ({"name": "x", "age": 1.5}, TypeError, "User.age must be an int, not float (1.5)"),
    ({"name": "x", "age": [1]}, TypeError, "User.age must be an int, not list ([1])"),
    (
        {"name": "x", "age": 2**63},
        ValueError,
        "User.age is 9223372036854775808, and must be between 0 and 9223372036854775807",
    ),
    ({"name": "x", "age": -1}, ValueError, "User.age is -1, and must be between 0 and 9223372036854775807"),
    ({"name": "x", "balance": "1,50"}, TypeError, "User.balance must be a Decimal, not str ('1,50')"),
    ({"name": "x", "balance": 100000}, ValueError, "User.balance is 100000, too large for 6 digits, 2 of them behind"),
    (
        {"name": "x", "balance": Decimal("NaN")},
        ValueError,
        "User.balance is NaN, which is no number that can be",
    ),
    ({"name": "x", "birthday": "tomorrow"}, TypeError, "User.birthday must be a date, not str ('tomorrow')"),
    ({"name": "x", "birthday": datetime(2024, 1, 1)}, TypeError, "User.birthday must be a date, not datetime"),
    ({"name": "x", "login": date(2024, 1, 1)}, TypeError, "User.login must be a datetime, not date"),
    ({"name": "x", "login": timedelta(1)}, TypeError, "User.login must be a datetime, not timedelta"),
    ({"name": "x", "orders": 5}, TypeError, "orders holds Order, not 5"),
]


@pytest.mark.parametrize("values, error, message", WRONG_VALUES, ids=lambda value: str(value)[:40])
def test_wrong_values(entities, unharmed, values, error, message):
    """A wrong value is refused where it is given, with entity, attribute and value, whatever way it comes."""
    User = entities["User"]
    with pytest.raises(error) as caught:
        User(**values)
    assert message in str(caught.value)
    *_, (name, value) = values.items() or [(None, None)]
    if name in User._attributes_ and name != "orders":
        before = unharmed.to_dict()
        with pytest.raises(error) as caught:
            setattr(unharmed, name, value)
        assert message in str(caught.value)
        with pytest.raises(error) as caught:
            unharmed.set(age=77, **{name: value}) if name != "age" else unharmed.set(name="other", age=value)
        assert message in str(caught.value)
        assert unharmed.to_dict() == before


def test_values_without_names(entities, unharmed):
    """Attributes are given by name, and the message shows how."""
    with pytest.raises(TypeError, match=r"User takes its attributes by name: User\(name=\.\.\.\)"):
        entities["User"]("Ann")


def test_unknown_attributes(entities, unharmed):
    """A misspelt attribute is an error wherever it stands, with a guess."""
    User = entities["User"]
    wrong = {
        "assign": (AttributeError, lambda: setattr(unharmed, "agee", 1)),
        "read": (AttributeError, lambda: unharmed.agee),
        "set()": (TypeError, lambda: unharmed.set(agee=1)),
        "get()": (TypeError, lambda: User.get(agee=1)),
        "exists()": (TypeError, lambda: User.exists(agee=1)),
        "select()": (TypeError, lambda: User.select(agee=1)),
        "filter()": (TypeError, lambda: User.select().filter(agee=1)),
        "order_by()": (TypeError, lambda: User.select().order_by("agee")),
        "to_dict()": (TypeError, lambda: unharmed.to_dict(only="agee")),
        "load()": (TypeError, lambda: unharmed.load("agee")),
        "class": (AttributeError, lambda: User.agee),
    }
    for name, (error, verb) in wrong.items():
        with pytest.raises(error, match="agee") as caught:
            verb()
        if name not in {"read", "class"}:  # Python's own message, whose traceback has the guess
            message = str(caught.value)
            assert "User" in message and "did you mean 'age'?" in message, (name, message)
    with pytest.raises(
        AttributeError, match="User has no attribute 'zzz'; only what the class declares can be assigned"
    ):
        unharmed.zzz = 1
    with pytest.raises(AttributeError, match=r"User\.age cannot be deleted from an object; assign None"):
        del unharmed.age


def test_wrong_references(entities, unharmed):
    """A reference takes an object of its entity, or a key: what else it got is said."""
    Order, Line = entities["Order"], entities["Line"]
    line = Line(order=9, number=9)
    wrong = [
        (None, ValueError, r"Order\.user is required, and cannot be None"),
        ("x", TypeError, r"Order\.user refers to User, and 'x' is no object or key of it"),
        (line, TypeError, r"Order\.user refers to User, not to Line \(Line\[9, 9\]\)"),
        ((1, 2), TypeError, r"Order\.user refers to User, and \(1, 2\) is no object or key of it"),
        ([unharmed], TypeError, r"Order\.user refers to User"),
        (entities["User"], TypeError, r"Order\.user refers to User"),
    ]
    for value, error, message in wrong:
        with pytest.raises(error, match=message):
            Order(user=value, total=1)
    with pytest.raises(ValueError, match=r"Order\.user is required, and was not given: write Order\(user=\.\.\.\)"):
        Order(total=1)
    for value, message in ((5, "not 5"), (line, r"not Line\[9, 9\]"), ([None], "not None")):
        with pytest.raises(TypeError, match=rf"User\[1\]\.orders holds Order, {message}"):
            unharmed.orders.add(value)
    line.delete()


# --- keys ---------------------------------------------------------------------------------------------------


def test_keys_of_the_wrong_shape(entities, unharmed):
    """A key with too many or too few parts, or of another type, shows the parts that it has."""
    User, Line = entities["User"], entities["Line"]
    wrong = [
        (
            lambda: Line[1],
            r"the key of Line has 2 parts \(order, number\), and 1 does not fit; write Line\[order, ",
        ),
        (lambda: Line[1, 2, 3], r"the key of Line has 2 parts \(order, number\), and \(1, 2, 3\) does not fit"),
        (lambda: Line[1, "x"], r"Line\.number must be an int, not str \('x'\)"),
        (lambda: User[1, 2], r"the key of User is id alone, and \(1, 2\) does not fit"),
        (lambda: User["x"], r"User\.id must be an int, not str \('x'\)"),
        (lambda: User[None], r"User\.id is a key, and cannot be None"),
        (lambda: User[1.5], r"User\.id must be an int, not float \(1\.5\)"),
        (lambda: User[unharmed], r"User\.id must be an int, not User \(User\[1\]\)"),
    ]
    for verb, message in wrong:
        with pytest.raises(TypeError, match=message):
            verb()


def test_a_key_that_is_not_there(entities):
    """A key without a row is ObjectNotFound with entity and key, and the verb that returns None is named."""
    User = entities["User"]
    with db_session:
        with pytest.raises(
            ObjectNotFound, match=r"User\[99\] does not exist: .*User\.get\(\.\.\.\) returns None"
        ) as caught:
            User[99]
        assert (caught.value.entity, caught.value.key) == (User, 99)
        assert User.get(id=99) is None


def test_a_key_that_exists_in_the_session(entities, unharmed):
    """A key that another object of the session has is refused at once; both are named, and nothing is lost."""
    User, Line = entities["User"], entities["Line"]
    with pytest.raises(
        CacheIndexError, match=r"User\[1\] exists in this session already.*change that object, or delete it first"
    ):
        User(id=1, name="double")
    line = Line(order=5, number=5)
    with pytest.raises(CacheIndexError, match=r"Line\[5, 5\] exists in this session already"):
        Line(order=5, number=5)
    line.delete()


def test_a_key_that_exists_in_the_database(db, entities):
    """A key that a row has which this session has not seen: the database refuses, and the error names the object."""
    User, Line = entities["User"], entities["Line"]
    for make, column in (
        (lambda: User(id=1, name="double"), "id"),
        (lambda: Line(order=1, number=2), "order"),
        (lambda: User(name="Ann"), "name"),
    ):
        with pytest.raises(TransactionIntegrityError) as caught, db_session:
            User(name="pending")
            make()
        text = str(caught.value)
        assert "double" not in text
        assert column in caught.value.columns
        assert "another row has this" in text and "choose another" in text, text
    assert rows(db, 'SELECT name FROM "user"') == ["Ann"]


# --- objects of elsewhere, objects that are gone ----------------------------------------------------------------


def test_an_object_of_another_database(db, entities, tmp_path):
    """An object of another database is refused, with both named."""
    other = Database(f"sqlite:///{tmp_path}/other.db")

    class User(other.Entity):
        name = Required(str)

    class Stranger(other.Entity):
        name = Required(str)

    other.generate_mapping(create_tables=True)
    with db_session:
        ann, theirs = entities["User"][1], User(name="theirs")
        for value in (theirs, Stranger(name="x")):
            with pytest.raises((TypeError, ConstraintError), match=r"Order\.user (refers|cannot refer) to"):
                entities["Order"](user=value, total=1)
        ann.age = 31
    assert rows(db, 'SELECT age FROM "user"') == [31]
    assert rows(other, 'SELECT name FROM "User"') == ["theirs"]

    with pytest.raises(ERDiagramError, match=r"Third\.user refers to User, which belongs to another database"):

        class Third(Database("sqlite://").Entity):
            user = Required(User)

        Third._catalog_.generate_mapping()
    other.close()


def test_an_object_of_another_session(db, entities):
    """An object of another live session is refused, with the way to get it here; one of a session that is over, too."""
    User, Order = entities["User"], entities["Order"]
    found, done = threading.Event(), threading.Event()
    kept = []

    @db_session
    def hold():
        kept.append(User[1])
        found.set()
        assert done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert found.wait(30)
    live = r"cannot refer to User\[1\], which belongs to another live session .*get it in this scope, .* User\[key\]"
    over = r"cannot refer to User\[1\]: the database session is over; get it again in this scope, .* User\[key\]"
    with db_session:
        ann = User[1]
        ann.age = 31
        with pytest.raises(ConstraintError, match=r"a new Order\.user " + live):
            Order(user=kept[0], total=1)
        done.set()
        holder.join(30)
        with pytest.raises(ConstraintError, match=r"a new Order\.user " + over):
            Order(user=kept[0], total=1)
        with pytest.raises(ConstraintError, match=r"Order\[1\]"):
            ann.orders.add(elsewhere(db_session(lambda: Order[1])))
    assert rows(db, 'SELECT age FROM "user"') == [31]
    assert rows(db, 'SELECT total FROM "order"') == [5]


def test_objects_after_the_scope(db, entities):
    """An object of a scope that is over can be read, and not changed, flushed, loaded or deleted: nothing is silent."""
    with db_session:
        ann = entities["User"][1]
    assert (ann.name, ann.age) == ("Ann", 30)
    for verb in (
        lambda: setattr(ann, "age", 5),
        lambda: ann.set(age=5),
        ann.delete,
        ann.flush,
        ann.load,
        lambda: list(ann.orders),
        lambda: ann.orders.add([]),
    ):
        with pytest.raises(DatabaseSessionIsOver, match=r"Cannot .*User\[1\].*the database session is over"):
            verb()
    with pytest.raises(DatabaseSessionIsOver, match="get the object again in the db_session that needs it"):
        ann.age = 5
    assert rows(db, 'SELECT age FROM "user"') == [30]


def test_a_deleted_object(db, entities):
    """A deleted object cannot be changed or referred to, before and after the flush; the message names it."""
    User, Order = entities["User"], entities["Order"]
    with db_session:
        ann = User[1]
        (order,) = ann.orders
        bob = User(name="Bob")
        ann.delete()
        for step in (lambda: None, flush):
            step()
            for verb in (
                lambda: setattr(ann, "age", 5),
                lambda: setattr(ann, "age", 30),
                lambda: ann.set(age=5),
                lambda: setattr(ann, "age", User.age + 1),
                lambda: setattr(order, "user", bob),
                lambda: order.set(total=1),
            ):
                with pytest.raises(
                    OperationWithDeletedObjectError, match=r"\[1\] was deleted in this session; rollback\(\) would"
                ):
                    verb()
            with pytest.raises(
                ConstraintError, match=r"Order\.user cannot refer to User\[1\], which was deleted in this session"
            ):
                Order(user=ann, total=1)
            with pytest.raises((ConstraintError, OperationWithDeletedObjectError), match=r"deleted in this session"):
                bob.orders.add(order)
            ann.delete()  # twice is once
        assert ann.name == "Ann"
        rollback()
        ann.age = 32
        order.total = 6
    assert rows(db, 'SELECT name, age FROM "user"') == [("Ann", 32)]
    assert rows(db, 'SELECT total FROM "order"') == [6]


def test_an_object_that_was_never_saved(db, entities):
    """An object that was deleted before it was saved, or whose creation was rolled back, says which of the two."""
    User, Order = entities["User"], entities["Order"]
    with db_session:
        gone = User(name="gone")
        gone.delete()
        with pytest.raises(
            OperationWithDeletedObjectError, match=r"it was deleted before it was saved.*make a new object"
        ):
            gone.age = 5
        lost = User(name="lost")
        rollback()
        with pytest.raises(
            DatabaseSessionIsOver, match="its creation was rolled back, it is in no database; make a new object"
        ):
            lost.age = 5
        for obj in (gone, lost):
            with pytest.raises(ConstraintError, match=r"Order\.user cannot refer to User\[transient\]"):
                Order(user=obj, total=1)
            assert obj.name
        assert rows(db, 'SELECT count(*) FROM "user"') == [1]


# --- outside ------------------------------------------------------------------------------------------------


def test_use_outside_a_scope(db, entities):
    """A use outside a scope names the function that did it, the line, and both ways to open one; nothing is sent."""
    User = entities["User"]

    def report():
        return User.select().count()

    def save():
        User(name="x")

    def end():
        commit()

    with sent(db) as spent:
        for function in (report, save, end):
            with pytest.raises(NoScopeError) as caught:
                function()
            message = str(caught.value)
            assert f"{function.__qualname__}() uses the database outside any db_session" in message
            assert f"line {function.__code__.co_firstlineno + 1} of {Path(__file__)}" in message
            assert "put @db_session on the function, or `with db_session:` around the code" in message
    assert spent.statements == 0
