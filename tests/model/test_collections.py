"""Collections: what they hold, what reading and changing them sends, and what an unloaded one knows."""

from __future__ import annotations

import pytest

from dbsession import (
    ConstraintError,
    DatabaseSessionIsOver,
    OperationWithDeletedObjectError,
    Optional,
    Required,
    Set,
    TransactionIntegrityError,
    db_session,
)
from tests.counting import counted

ORDERS = 3


@pytest.fixture
def shop(db):
    """Users with orders that need one, tickets that need not, and tags."""

    class User(db.Entity):
        name = Required(str)
        orders = Set("Order")
        tickets = Set("Ticket")
        tags = Set("Tag")

    class Order(db.Entity):
        user = Required(User)
        total = Required(int)

    class Ticket(db.Entity):
        user = Optional(User)
        text = Required(str)

    class Tag(db.Entity):
        name = Required(str)
        users = Set(User)

    db.generate_mapping(create_tables=True)
    with db_session:
        tags = [Tag(name=name) for name in ("red", "green", "blue")]
        for number in range(1, 4):
            user = User(name=f"U{number}", tags=tags[:number])
            for total in range(ORDERS):
                user.orders.create(total=total)
                user.tickets.create(text=f"T{total}")
    return db


@pytest.fixture(params=["orders", "tickets", "tags"])
def kind(request):
    """The name of each collection in turn: required and optional one-to-many, many-to-many."""
    return request.param


def fresh(shop, kind, **values):
    """Make an object that fits into the collection *kind*."""
    if kind == "orders":
        return shop.entities["Order"](**{"user": shop.entities["User"][2], "total": 9, **values})
    if kind == "tickets":
        return shop.entities["Ticket"](text="new", **values)
    return shop.entities["Tag"](name="new", **values)


# --- reading --------------------------------------------------------------------------------------------


def test_reading_loads_once(shop, kind):
    """The first look at a collection loads it whole, with one statement; after that nothing is sent."""
    User = shop.entities["User"]
    with db_session:
        collection = getattr(User[3], kind)
        with counted(shop) as sent:
            items = list(collection)
            assert len(collection) == len(items) == 3
            assert items[0] in collection and collection and not collection.is_empty() and collection.count() == 3
            assert collection is getattr(User[3], kind)
        assert (sent.statements, sent.round_trips) == (1, 1)
        assert collection.is_loaded and repr(collection) == f"<User[3].{kind}: 3 objects>"
    assert list(collection) == items  # it can be read after the scope, too


@pytest.mark.parametrize(
    "question", [lambda c: c.count() == 3, lambda c: not c.is_empty(), bool, lambda c: c.select().count() == 3]
)
def test_questions_do_not_load(shop, kind, question):
    """count(), is_empty() and select() ask the database, one statement each, and load nothing."""
    with db_session:
        collection = getattr(shop.entities["User"][3], kind)
        with counted(shop) as sent:
            assert question(collection)
        assert sent.statements == 1
        assert not collection.is_loaded and "not loaded" in repr(collection)


def test_membership_of_an_unloaded_collection(shop):
    """``item in collection`` looks at the item, or asks for the one link; it loads no collection."""
    User, Order, Tag = (shop.entities[name] for name in ("User", "Order", "Tag"))
    with db_session:
        user, other, mine, foreign = User[1], User[2], Order[1], Order[ORDERS + 1]
        red, blue = Tag.get(name="red"), Tag.get(name="blue")
        with counted(shop) as sent:
            assert mine in user.orders and foreign not in user.orders
            assert "x" not in user.orders and red not in user.orders
        assert sent.statements == 0
        with counted(shop) as sent:
            assert red in user.tags and blue not in user.tags
        assert sent.statements == 2
        assert not user.orders.is_loaded and not user.tags.is_loaded
        user.tags.add(blue)
        other.tags.remove(red)
        assert blue in user.tags and red not in other.tags


def test_select_narrows(shop, kind):
    """select() is a query for the items: conditions, order, limit, count."""
    with db_session:
        collection = getattr(shop.entities["User"][3], kind)
        entity = type(next(iter(collection)))
        query = collection.select().order_by(entity.id.desc())
        assert query.fetch() == sorted(collection, key=entity.get_pk, reverse=True)
        assert query[:2] == query.fetch()[:2]
        first = min(collection, key=entity.get_pk)
        assert collection.select(entity.id == first.id).fetch() == [first] == collection.select(id=first.id).fetch()


def test_select_sees_what_is_not_saved(shop, kind):
    """55. A query over the items saves first what concerns them."""
    with db_session:
        collection = getattr(shop.entities["User"][1], kind)
        before = collection.select().count()
        item = fresh(shop, kind)
        collection.add(item)
        assert collection.select().count() == before + 1
        collection.remove(item)
        assert (collection.select().count(), item in collection.select().fetch()) == (before, False)


# --- changing without loading -----------------------------------------------------------------------------


def test_add_does_not_load(shop, kind):
    """39. Adding to a collection that is not loaded sends nothing, and the new item is in it at once."""
    with db_session:
        user, item = shop.entities["User"][1], fresh(shop, kind)
        collection = getattr(user, kind)
        with counted(shop) as sent:
            collection.add(item)
            collection.add([item], item)  # a second time changes nothing
            assert item in collection and not collection.is_empty()
        assert sent.statements == 0 and not collection.is_loaded
        loaded = list(collection)
        assert loaded.count(item) == 1
    with db_session:
        assert set(map(repr, getattr(shop.entities["User"][1], kind))) == set(map(repr, loaded))


def test_changes_are_merged_into_what_is_loaded(shop):
    """39. What was added and removed before a collection was loaded holds in what is loaded."""
    User, Ticket, Tag = (shop.entities[name] for name in ("User", "Ticket", "Tag"))
    with db_session:
        user, new, gone = User[1], Ticket(text="new"), Ticket[1]
        user.tickets.add(new)
        user.tickets.remove(gone)
        red, blue = Tag.get(name="red"), Tag.get(name="blue")
        user.tags.add(blue)
        user.tags.remove(red)
        assert not user.tickets.is_loaded and not user.tags.is_loaded
        assert set(user.tickets) == {Ticket[2], Ticket[3], new}
        assert set(user.tags) == {blue}
    with db_session:
        assert {ticket.text for ticket in User[1].tickets} == {"T1", "T2", "new"}
        assert [tag.name for tag in User[1].tags] == ["blue"]
        assert Ticket[1].user is None


def test_an_item_moves_between_collections(shop, kind):
    """39. An item that is added to one owner's collection has left the other's, loaded or not."""
    User = shop.entities["User"]
    for loaded in (True, False):
        with db_session:
            one, two = User[1], User[2]
            if loaded:
                len(getattr(one, kind)), len(getattr(two, kind))
            item = next(iter(getattr(User[3], kind)))
            getattr(one, kind).add(item)
            getattr(two, kind).add(item)
            assert item in getattr(two, kind)
            assert (item in getattr(one, kind)) is (kind == "tags")
            assert (item in getattr(User[3], kind)) is (kind == "tags")


def test_create(shop, kind):
    """create() makes an item that belongs to the owner; what makes it belong is not the caller's to give."""
    User = shop.entities["User"]
    values = {"orders": {"total": 8}, "tickets": {"text": "new"}, "tags": {"name": "new"}}[kind]
    with db_session:
        collection = getattr(User[1], kind)
        item = collection.create(**values)
        assert item in collection
        reverse = "users" if kind == "tags" else "user"
        with pytest.raises(TypeError, match=rf"create\(\) sets {reverse} itself"):
            collection.create(**values, **{reverse: User[2]})
        with pytest.raises(TypeError, match="unexpected attribute 'nope'"):
            collection.create(nope=1)
    with db_session:
        assert getattr(User[1], kind).select(**values).count() == 1


def test_remove_and_clear(shop, kind):
    """Removing takes items out: a link goes, an optional reference becomes None, a required one deletes the item."""
    User = shop.entities["User"]
    with db_session:
        collection = getattr(User[3], kind)
        items = list(collection)
        entity = type(items[0])
        collection.remove(items[0])
        assert set(collection) == set(items[1:])
        everything = entity.select().count()
        collection.clear()
        assert len(collection) == 0 and not collection and collection.is_empty()
    with db_session:
        assert not getattr(User[3], kind)
        assert entity.select().count() == everything - (2 if kind == "orders" else 0)


def test_remove_what_is_not_there(shop, kind):
    """An item of somebody else is left alone."""
    User = shop.entities["User"]
    with db_session:
        others = [item for item in getattr(User[3], kind) if item not in getattr(User[1], kind)]
        getattr(User[1], kind).remove(others)
    with db_session:
        assert len(getattr(User[3], kind)) == 3


def test_required_items_are_not_removed_without_cascade(db):
    """53. With ``cascade_delete=False`` an item that needs its owner cannot be taken out, and the owner not deleted."""

    class User(db.Entity):
        orders = Set("Order", cascade_delete=False)

    class Order(db.Entity):
        user = Required(User)

    db.generate_mapping(create_tables=True)
    with db_session:
        order = User().orders.create()
        with pytest.raises(
            ConstraintError, match=r"cannot be removed from User\[new\]\.orders: Order\.user is required"
        ):
            order.user.orders.remove(order)
    with db_session:
        with pytest.raises(ConstraintError, match=r"User\[1\] cannot be deleted: 1 Order .*refer to it"):
            User[1].delete()
    with pytest.raises(TransactionIntegrityError):
        with db_session:
            User.select().delete(bulk=True)


def test_assignment_replaces(shop, kind):
    """``user.orders = [...]`` leaves exactly these; += and -= add and remove; itself changes nothing."""
    User = shop.entities["User"]
    with db_session:
        user = User[3]
        items = list(getattr(user, kind))
        new = fresh(shop, kind)
        setattr(user, kind, [items[0], new])
        assert set(getattr(user, kind)) == {items[0], new}
        collection = getattr(user, kind)
        collection += fresh(shop, kind)
        collection -= [items[0]]
        setattr(user, kind, collection)
        assert len(getattr(user, kind)) == 2 and items[0] not in getattr(user, kind)
        assert getattr(user, kind) is collection
    with db_session:
        assert len(getattr(User[3], kind)) == 2
        setattr(User[3], kind, [])
    with db_session:
        assert not getattr(User[3], kind)


def test_augmented_assignment_of_the_attribute(shop):
    """``user.tags += [...]`` is the collection's own, and sends nothing to look at what was there."""
    User, Tag = shop.entities["User"], shop.entities["Tag"]
    with db_session:
        user, blue = User[1], Tag.get(name="blue")
        with counted(shop) as sent:
            user.tags += [blue]
            user.tags -= [blue]
            user.tags += [blue]
        assert sent.statements == 0
    with db_session:
        assert {tag.name for tag in User[1].tags} == {"red", "blue"}


def test_iterating_while_changing(shop):
    """A loop over a collection goes over what was in it when it began."""
    User = shop.entities["User"]
    with db_session:
        for ticket in User[1].tickets:
            User[1].tickets.remove(ticket)
        for tag in User[3].tags:
            tag.users.remove(User[3])
    with db_session:
        assert not User[1].tickets and not User[3].tags


# --- what is refused ----------------------------------------------------------------------------------------


def test_wrong_items(shop, kind):
    """What is no object of the target is a TypeError; one of another scope, or deleted, an error that names it."""
    User = shop.entities["User"]
    with db_session:
        old = next(iter(getattr(User[1], kind)))
    with db_session:
        user = User[2]
        collection = getattr(user, kind)
        before = list(collection)
        for wrong in (1, "x", None, user, [[user]]):
            with pytest.raises(TypeError, match=rf"User\[2\]\.{kind} holds"):
                collection.add(wrong)
        for wrong in (1, [1], [user], "text", None):
            with pytest.raises(TypeError, match=rf"User\[2\]\.{kind} holds"):
                setattr(user, kind, wrong)
        with pytest.raises(
            ConstraintError,
            match=rf"User\[2\]\.{kind} cannot take .*: the database session is over; get it again in this scope",
        ):
            collection.add(old)
        gone = fresh(shop, kind)
        gone.delete()
        with pytest.raises((OperationWithDeletedObjectError, ConstraintError, DatabaseSessionIsOver), match="new"):
            collection.add(gone)
        assert list(collection) == before


def test_after_the_scope(shop, kind):
    """120. 121. After the scope a loaded collection reads; what needs the database, and every change, is refused."""
    User = shop.entities["User"]
    with db_session:
        loaded, unloaded = getattr(User[1], kind), getattr(User[2], kind)
        items = list(loaded)
    assert (list(loaded), len(loaded), items[0] in loaded) == (items, len(items), True)
    for use in (list, len, bool, lambda c: c.count(), lambda c: c.select(), lambda c: c.load()):
        with pytest.raises(DatabaseSessionIsOver, match=rf"collection User\[2\]\.{kind}"):
            use(unloaded)
    for change in (
        lambda c: c.add(items[0]),
        lambda c: c.remove(items[0]),
        lambda c: c.clear(),
        lambda c: c.create(),
        lambda c: setattr(c.owner, kind, []),
    ):
        with pytest.raises(DatabaseSessionIsOver, match=rf"User\[1\]\.{kind}"):
            change(loaded)


# --- rollback -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flushed", [False, True])
def test_rollback_restores_collections(shop, kind, flushed):
    """70. After a rollback a collection is as it was loaded; one that was not loaded is loaded anew."""
    User = shop.entities["User"]
    with db_session as session:
        loaded, unloaded = getattr(User[3], kind), getattr(User[2], kind)
        items = list(loaded)
        loaded.add(fresh(shop, kind))
        loaded.remove(items[0])
        unloaded.add(fresh(shop, kind))
        if flushed:
            session.flush()
        session.rollback()
        assert set(loaded) == set(items)
        assert len(unloaded) == (2 if kind == "tags" else 3)
    with db_session:
        assert len(getattr(User[3], kind)) == 3


# --- N + 1 ----------------------------------------------------------------------------------------------------


def test_collections_of_many_owners(shop, kind):
    """The second collection of a kind that is read is loaded for all: 1 + 1 + 1 round trips for any number."""
    User = shop.entities["User"]
    with db_session:
        for number in range(20):
            User(name=f"V{number}")
    with counted(shop) as sent:
        with db_session:
            assert sum(len(getattr(user, kind)) for user in User.select()) == (6 if kind == "tags" else 9)
    assert sent.round_trips == 3
    with counted(shop) as sent:
        with db_session:
            assert len(getattr(User[1], kind)) > 0
    assert sent.round_trips == 2


def test_both_ends_of_many_to_many_are_loaded_in_a_few_trips(shop):
    """Walking a many-to-many relation there and back costs two trips for each side."""
    User = shop.entities["User"]
    with counted(shop) as sent:
        with db_session:
            for user in User.select():
                for tag in user.tags:
                    assert user in list(tag.users)
    assert sent.round_trips == 5


def test_references_of_many_objects(shop):
    """The first unread reference that is touched loads what all the others refer to: 1 + 1 round trips."""
    Order, Ticket = shop.entities["Order"], shop.entities["Ticket"]
    with counted(shop) as sent:
        with db_session:
            assert {order.user.name for order in Order.select()} == {"U1", "U2", "U3"}
            assert {ticket.user.name for ticket in Ticket.select()} == {"U1", "U2", "U3"}
    assert sent.round_trips == 3


def test_references_are_loaded_for_the_attribute_that_was_touched(db):
    """Touching one reference loads its like, and not what other attributes refer to."""

    class User(db.Entity):
        name = Required(str)
        sent = Set("Mail", reverse="sender")
        got = Set("Mail", reverse="receiver")

    class Mail(db.Entity):
        sender = Required(User)
        receiver = Required(User)

    db.generate_mapping(create_tables=True)
    with db_session:
        for number in range(10):
            Mail(sender=User(name=f"s{number}"), receiver=User(name=f"r{number}"))
    with db_session:
        mails = list(Mail.select().order_by(Mail.id))
        with counted(db) as sent:
            assert [mail.sender.name for mail in mails] == [f"s{number}" for number in range(10)]
        assert sent.round_trips == 1
        with counted(db) as sent:
            assert [mail.receiver.name for mail in mails] == [f"r{number}" for number in range(10)]
        assert sent.round_trips == 1


def test_one_to_one_of_many_objects(db):
    """The end without a column follows the rule of collections; the other that of references."""

    class Person(db.Entity):
        passport = Optional("Passport")

    class Passport(db.Entity):
        number = Required(int)
        person = Required(Person)

    db.generate_mapping(create_tables=True)
    with db_session:
        for number in range(10):
            Passport(number=number, person=Person())
        Person()
    with counted(db) as sent:
        with db_session:
            passports = [person.passport for person in Person.select().order_by(Person.id)]
            assert [passport and passport.number for passport in passports] == [*range(10), None]
    assert sent.round_trips == 3


def test_the_rule_reaches_over_several_steps(shop):
    """A walk over three relations costs a few trips for each, not one for each object."""
    User = shop.entities["User"]
    with counted(shop) as sent:
        with db_session:
            seen = {
                order.user.name for tag in shop.entities["Tag"].select() for user in tag.users for order in user.orders
            }
    assert seen == {"U1", "U2", "U3"}
    assert sent.round_trips == 5
