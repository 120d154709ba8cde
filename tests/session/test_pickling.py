"""Pickles and copies: what travels, what does not, and that nothing is loaded for them."""

import copy
import datetime as dt
import io
import pickle
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession import (
    ConstraintError,
    Database,
    DatabaseSessionIsOver,
    InvalidRequestError,
    Json,
    NotLoadedError,
    OperationWithDeletedObjectError,
    Optional,
    PrimaryKey,
    Required,
    db_session,
    flush,
)
from dbsession.model.state import NOT_LOADED, UNSET, Status
from dbsession.model.tracked import TrackedBytes, TrackedDict
from tests.observing import elsewhere, rows, sent
from tests.session.travel import add, attach, make_world, session_is_open, unit

WAYS = {
    "pickle": lambda obj: pickle.loads(pickle.dumps(obj)),
    "protocol 0": lambda obj: pickle.loads(pickle.dumps(obj, 0)),
    "python": lambda obj: pickle._loads(pickle._dumps(obj)),
    "deepcopy": copy.deepcopy,
}


@pytest.fixture
def world(db):
    """Entities, and some objects of each."""
    return make_world(db)


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def again(request):
    """Each way to copy a graph."""
    return request.param


def loaded(world):
    """Return Ann of an ended scope, with all that belongs to her."""
    with db_session:
        ann = world.User[1]
        ann.load("orders", "tags", "card", "bio")
        ann.to_dict(with_lazy=True)
    return ann


# --- what travels ---------------------------------------------------------------------------------------------


def test_what_is_loaded_travels(world, again):
    """124. Values, references and collections that are loaded travel, and nothing is loaded for it, then or later."""
    ann = loaded(world)
    with sent(world.db) as spent:
        twin = again(ann)
        assert twin is not ann and type(twin) is world.User and twin != ann
        assert twin.to_dict(with_lazy=True) == ann.to_dict(with_lazy=True)
        assert [order.total for order in twin.orders] == [10, 20]
        assert all(order.user is twin and order in twin.orders for order in twin.orders)
        assert {tag.text for tag in twin.tags} == {"x", "y"} and twin.card.owner is twin
        assert (repr(twin), twin.get_pk(), twin._state_.label) == ("User[1]", 1, "detached, clean")
    assert spent.statements == 0


def test_what_is_not_loaded_does_not_travel(world, again):
    """124. In the scope that could load it, too, a pickle loads nothing: what was not loaded is refused in the copy."""
    with db_session:
        order = world.Order[1]
        with sent(world.db) as spent:
            order = again(order)
        ann = world.User[1]
        with sent(world.db) as spent_later:
            ann = again(ann)
        assert spent.statements == spent_later.statements == 0
        for read in (lambda: ann.bio, lambda: ann.card, lambda: list(ann.orders), lambda: order.user.name):
            with pytest.raises(DatabaseSessionIsOver, match=r"session\.attach\(obj\) first"):
                read()
    assert order.user.get_pk() == 1 and not ann.orders.is_loaded


def test_what_was_loaded_ahead_travels(world, again):
    """116. What a query has prefetched is loaded, though the program has not looked at it."""
    with db_session:
        orders = world.Order.select().prefetch(world.Order.user, world.User.tags).fetch()
        inside = again(orders)
    for first, second in (inside, again(orders)):
        assert first.user is second.user and first.user.name == "Ann"
        assert {tag.text for tag in first.user.tags} == {"x", "y"}


def test_a_copy_of_the_state_within_the_scope(world, again):
    """An object is copied as it is in its scope, with unsaved changes; the original stays as it is."""
    with db_session:
        ann = world.User[1]
        ann.load("orders", "tags")
        ann.name = "Eve"
        ann.data["list"].append(3)
        ann.tags.remove(world.Tag["x"])
        new = ann.orders.create(total=30)
        next(iter(ann.orders)).delete()
        before = (dict(ann.__dict__), dict(ann._changes_), unit(world.db).links.copy())
        twin = again(ann)
        assert (dict(ann.__dict__), dict(ann._changes_), unit(world.db).links) == before
        assert ann._state_.unit is unit(world.db) and new._state_.is_new
        world.db.gateway.unit().restore()
    assert (twin.name, twin.data, {tag.text for tag in twin.tags}) == ("Eve", {"list": [1, 2, 3]}, {"y"})
    assert sorted(order.total for order in twin.orders) == [20, 30]
    with db_session:
        attach(world.db, twin)
    with db_session:
        ann = world.User[1]
        assert (ann.name, ann.data, {tag.text for tag in ann.tags}) == ("Eve", {"list": [1, 2, 3]}, {"y"})
        assert sorted(order.total for order in ann.orders) == [20, 30]


def test_a_copy_after_a_flush(world, again):
    """What is flushed counts as saved: a rollback after the attach does not take it away."""
    with db_session:
        ann = world.User[1]
        ann.tags.load()
        ann.tags.add(world.Tag["z"])
        ann.tags.remove(world.Tag["x"])
        ann.name = "Eve"
        flush()
        twin = again(ann)
    assert (twin._state_.label, twin._state_.unit.links) == ("detached, clean", {})
    with db_session:
        attach(world.db, twin)
        unit(world.db).restore()
        assert {tag.text for tag in twin.tags} == {"y", "z"} and twin.name == "Eve"


def test_a_copy_of_a_copy(world, again):
    """A copy may be changed and copied as often as one likes; each is on its own."""
    first = again(loaded(world))
    first.name = "one"
    second = again(first)
    second.name = "two"
    second.card.number = "22"
    assert (first.name, second.name, first.card.number) == ("one", "two", "1")
    with db_session:
        attach(world.db, again(second))
    assert rows(world.db, "SELECT number FROM card") == ["22"]


def test_objects_pickled_together_belong_together(world, again):
    """Objects of one pickle share one unit of work, and an object that two of them lead to is one object."""
    with db_session:
        orders = world.Order.select().fetch()
        user = orders[0].user
        user.name
        bob, z = world.User[2], world.Tag["z"]
    first, others = again((orders[0], {"bob": bob, "z": [z], "again": orders[0], "second": orders[1], "user": user}))
    assert others["again"] is first and first.user is others["user"]
    assert first.user is others["second"].user
    units = {each._state_.unit for each in (first, first.user, others["bob"], others["z"][0])}
    assert len(units) == 1
    others["bob"].tags.add(others["z"][0])
    assert len({again(first)._state_.unit, first._state_.unit}) == 2


def test_two_objects_of_one_row(world, again):
    """Objects of two scopes for one row are two objects afterwards, each in a unit of work of its own."""
    first, second = again((loaded(world), loaded(world)))
    first.name = "one"
    assert (second.name, repr(first), repr(second)) == ("Ann", "User[1]", "User[1]")
    assert first._state_.unit is not second._state_.unit


def test_a_pickler_that_goes_on(world):
    """A pickler that is kept, as for a stream, knows the objects that it has written; others see what is true now."""
    ann = copy.deepcopy(loaded(world))
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream)
    pickler.dump(ann)
    ann.name = "Eve"
    ann.orders.create(total=30)
    pickler.dump([ann, next(iter(ann.orders))])
    twin = pickle.loads(pickle.dumps(ann))
    assert (twin.name, len(twin.orders)) == ("Eve", 3)
    stream.seek(0)
    unpickler = pickle.Unpickler(stream)
    first = unpickler.load()
    same, order = unpickler.load()
    assert same is first and first.name == "Ann" and order.user is first


# --- every status -----------------------------------------------------------------------------------------------


def test_transient_objects_travel(world, again):
    """New objects are transient in the copy, and so are those that were rolled back: both can be added."""
    with session_is_open(world.db):
        user = world.User(name="n", data={"k": [1]}, tags=[world.Tag(text="t")])
        world.Order(total=1, user=user)
    twin = again(user)
    assert (repr(twin), twin._state_.label, twin.data) == ("User[transient]", "transient", {"k": [1]})
    with pytest.raises(RuntimeError), db_session:
        back = world.User(name="back", tags=[world.Tag(text="u"), world.Tag["x"]])
        world.Order(total=2, user=back)
        flush()
        raise RuntimeError
    other = again(back)
    assert other.id is None
    with db_session:
        add(world.db, twin, other)
    with db_session:
        found = {user.name: {tag.text for tag in user.tags} for user in world.User.select()}
        assert found == {"Ann": {"x", "y"}, "Bob": set(), "n": {"t"}, "back": {"u", "x"}}
    assert rows(world.db, "SELECT total FROM purchase ORDER BY total") == [1, 2, 10, 20]


def test_a_new_object_and_the_saved_one_that_it_refers_to(world, again):
    """A transient object that refers to one of a session takes a copy of that along, which knows of it."""
    with db_session:
        ann = world.User[1]
        ann.load("orders", "tags")
        order = world.Order(total=3, user=ann)
        twin = again(order)
        unit(world.db).restore()
    assert twin.user.name == "Ann" and twin in twin.user.orders and len(twin.user.orders) == 3


def test_marked_and_deleted_objects(world, again):
    """A delete that is not flushed travels; an object whose row is gone cannot be copied."""
    with db_session:
        order = world.Order[1]
        order.delete()
        twin = again(order)
        assert twin._state_.status is Status.MARKED_FOR_DELETION
        flush()
        for gone in (lambda: again(order), lambda: copy.copy(order)):
            with pytest.raises(
                OperationWithDeletedObjectError, match=r"Order\[1\] cannot be copied or pickled: it was"
            ):
                gone()
        unit(world.db).restore()
    with db_session:
        order = world.Order[2]
        order.delete()
    with pytest.raises(OperationWithDeletedObjectError):
        again(order)


def test_emptied_and_key_only_objects(world, again):
    """Of an object of a strict scope the key travels, and so of one of which only the key was known."""
    with db_session(strict=True):
        ann = world.User[1]
    with db_session:
        user = world.Order[1].user
    with sent(world.db) as spent:
        for twin in (again(ann), again(user), copy.copy(ann)):
            assert (repr(twin), twin.get_pk()) == ("User[1]", 1)
            with pytest.raises(DatabaseSessionIsOver):
                twin.name
    assert spent.statements == 0
    with db_session:
        assert attach(world.db, again(ann)).name == "Ann"


def test_inheritance_and_composite_keys(world, again):
    """24. Objects of subclasses and with keys of several parts, references among them, travel as what they are."""
    with db_session:
        animal, guest = world.Animal[1], world.Guest[1]
        guest.load("seats", "stays")
    animal, guest = again((animal, guest))
    assert type(animal) is world.Dog and (animal.name, animal.breed) == ("Rex", "Beagle")
    assert sorted(seat.get_pk() for seat in guest.seats) == [(1, "a"), (1, "b")]
    assert min(guest.seats).place == "a" and [stay.get_pk() for stay in guest.stays] == [(1, 1)]


def test_an_sql_expression_does_not_travel(world, again):
    """37. What only the database can work out is refused, with the way out."""
    with db_session:
        order = world.Order[1]
        order.total = world.Order.total + 1
        for attempt in (lambda: again(order), lambda: copy.copy(order)):
            with pytest.raises(
                InvalidRequestError, match=r"Order\[1\] .*total has an unsaved SQL expression.*flush\(\)"
            ):
                attempt()
        flush()
        assert again(order).total == 11


def test_a_collection_becomes_a_list(world, again):
    """A loaded collection is copied as a list of its items; one that is not loaded is refused, and not loaded."""
    with db_session:
        ann = world.User[1]
        ann.orders.load()
        orders = again(ann.orders)
        assert type(orders) is list and [order.total for order in orders] == [10, 20]
        with sent(world.db) as spent, pytest.raises(NotLoadedError, match=r"User\[1\]\.tags.*user\.tags\.load\(\)"):
            again(ann.tags)
        assert spent.statements == 0


def test_what_was_read_is_known_to_the_copy(world, again):
    """123. A copy counts as read what the original has read, and no more."""
    with db_session:
        ann = world.User[1]
        ann.name, ann.height
        twin = again(ann)
    assert set(twin.__dict__) == {"name", "height"}
    assert set(again(copy.copy(twin)).__dict__) == {"name", "height"}


def test_values_that_can_change_in_place(world, again):
    """34. Json and the like travel as plain values, and are tracked again in the copy."""
    ann = again(loaded(world))
    assert type(ann.data) is TrackedDict and b"TrackedDict" not in pickle.dumps(ann)
    ann.data["list"].append(3)
    twin = again(ann)
    assert twin._state_.status is Status.DIRTY and twin.data == {"list": [1, 2, 3]}
    twin.data["list"].append(4)
    assert ann.data == {"list": [1, 2, 3]}
    with db_session:
        attach(world.db, twin)
    with db_session:
        assert world.User[1].data == {"list": [1, 2, 3, 4]}


# --- copy.copy ---------------------------------------------------------------------------------------------------


def test_a_shallow_copy_is_alone(world):
    """copy.copy copies one object: references are known by their keys, and collections are not loaded."""
    ann = loaded(world)
    order = next(iter(ann.orders))
    with sent(world.db) as spent:
        twin, mine = copy.copy(order), copy.copy(ann)
        assert twin.user is not ann and twin.user.get_pk() == 1 and twin.total == 10
        assert not mine.orders.is_loaded and (mine.name, mine.bio, mine.data) == (ann.name, ann.bio, ann.data)
        mine.data["list"].append(3)
        assert ann.data == {"list": [1, 2]}
    assert spent.statements == 0


def test_a_shallow_copy_has_the_changes(world):
    """Unsaved changes are copied; a reference to an object without a key cannot be, and the error names the way out."""
    with db_session:
        order, bob = world.Order[1], world.User[2]
        order.user, order.total = bob, 99
        twin = copy.copy(order)
        order.user = world.User(name="new")
        with pytest.raises(ConstraintError, match=r"Order\[1\] cannot be copied alone.*user is User\[new\].*deepcopy"):
            copy.copy(order)
        assert copy.deepcopy(order).user.name == "new"
        new = copy.copy(order.user)
        unit(world.db).restore()
    assert (twin.total, twin.user.get_pk(), new.name, repr(new)) == (99, 2, "new", "User[transient]")
    with db_session:
        attach(world.db, twin)
    assert rows(world.db, 'SELECT "user", total FROM purchase ORDER BY id') == [(2, 99), (1, 20)]


# --- another program on the other side -----------------------------------------------------------------------------


def declare(db, *, wide):
    """Declare Thing in *db*, with or without some of its columns."""

    class Thing(db.Entity):
        name = Required(str)
        if wide:
            old = Optional(int)
        else:
            new = Optional(int)
        kind = Optional(str)

    Thing.__qualname__ = "Thing"
    globals()["Thing"] = Thing
    db.generate_mapping(create_tables=True)
    return Thing


def test_columns_that_have_come_and_gone():
    """A pickle of an earlier version of the class: a column that is gone is left out, a new one is not loaded."""
    first = Database("sqlite://")
    Thing = declare(first, wide=True)
    with db_session:
        Thing(name="n", old=1, kind="k")
    with db_session:
        thing = Thing[1]
        thing.to_dict()
        thing.old, thing.name = 2, "m"
        data = pickle.dumps(thing)
        unit(first).restore()
    second = Database("sqlite://")
    declare(second, wide=False)
    twin = pickle.loads(data)
    assert (twin.name, twin.kind, twin._changes_) == ("m", "k", {"name": True})
    with pytest.raises(DatabaseSessionIsOver, match=r"attribute Thing\[1\]\.new"):
        twin.new
    first.close(), second.close()


def test_a_pickle_of_another_kind_of_database(world):
    """Rows of SQLite are none of PostgreSQL: such a pickle is refused with what to do instead."""
    data = pickle.dumps(loaded(world))
    name = world.User._mapping_.dialect.name
    other = "postgresql" if name == "sqlite" else "sqlite"
    data = pickle.dumps(loaded(world), 0).replace(b"V" + name.encode(), b"V" + other.encode())
    with pytest.raises(InvalidRequestError, match=f"comes from a database on {other}.*is on {name}.*session.merge"):
        pickle.loads(data)


def test_every_type_of_value(db):
    """Values of every type are the same in a copy, whatever the database holds them as."""

    class Colour(Enum):
        RED = "r"

    class Everything(db.Entity):
        name = PrimaryKey(str)
        number = Optional(int)
        ratio = Optional(float)
        price = Optional(Decimal, 10, 2)
        at = Optional(dt.datetime)
        day = Optional(dt.date)
        time = Optional(dt.time)
        span = Optional(dt.timedelta)
        token = Optional(UUID)
        blob = Optional(bytes)
        data = Optional(Json)
        flag = Optional(bool)
        colour = Optional(Colour)

    Everything.__qualname__ = "Everything"
    globals()["Everything"] = Everything
    db.generate_mapping(create_tables=True)
    values = {
        "number": 2**40, "ratio": 1.5, "price": Decimal("1.50"), "at": dt.datetime(2026, 1, 2, 3, 4, 5, 6),
        "day": dt.date(2026, 1, 2), "time": dt.time(1, 2, 3), "span": dt.timedelta(days=1, seconds=2),
        "token": UUID(int=7), "blob": b"\0\xff", "data": {"a": [1, None]}, "flag": True, "colour": Colour.RED,
    }  # fmt: skip
    with db_session:
        Everything(name="n", **values)
    with db_session:
        thing = Everything["n"]
        twin = pickle.loads(pickle.dumps(thing))
    assert twin.to_dict(exclude="name") == values
    twin.blob = b"\1"
    if isinstance(twin.blob, TrackedBytes):
        twin.blob.append(2)
    twin.at, twin.price = dt.datetime(2027, 1, 1), Decimal("2.25")
    twin = pickle.loads(pickle.dumps(twin))
    with db_session:
        attach(db, twin)
    with db_session:
        assert Everything["n"].to_dict() == twin.to_dict()


def test_the_words_of_states_survive():
    """What stands for no value is itself again after a pickle, and so is a status."""
    for word in (NOT_LOADED, UNSET, *Status):
        assert pickle.loads(pickle.dumps(word)) is word and copy.deepcopy(word) is word


# --- depth ------------------------------------------------------------------------------------------------------


def test_a_long_chain(world, again):
    """A thousand objects each of which refers to the next are copied without running into Python's depth of recursion."""
    with session_is_open(world.db):
        node = None
        for value in range(1000):
            node = world.Node(value=value, parent=node)
    twin, depth = again(node), 0
    while twin.parent is not None:
        assert twin in twin.parent.children
        twin, depth = twin.parent, depth + 1
    assert (depth, twin.value) == (999, 0)


def test_many_objects_that_do_not_reach_each_other(world, again):
    """A list of a thousand objects that do not reach each other is a list of a thousand objects of one unit of work."""
    with session_is_open(world.db):
        nodes = [world.Node(value=value) for value in range(1000)]
    with db_session:
        add(world.db, *nodes)
    with db_session:
        twins = again(world.Node.select().order_by(world.Node.value).fetch())
    assert [twin.value for twin in twins] == list(range(1000)) and len({twin._state_.unit for twin in twins}) == 1
    assert elsewhere(lambda: again(twins)[7].value) == 7
