"""Objects after their scope: what was loaded reads, and everything else is refused, with the way out."""

import pytest

from dbsession import (
    ConstraintError,
    DatabaseSessionIsOver,
    NoScopeError,
    OperationWithDeletedObjectError,
    QueryLeftScope,
    TransactionError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.counting import counted
from tests.observing import elsewhere, rows, sent
from tests.scope.detached_page import TABLE, USUAL, blocks, left, outcome

OVER = "the database session is over"
AGAIN = "get the object again in the db_session that needs it"
NOT_READ = "Order[3].customer was not read in it"


@pytest.fixture
def shop(db):
    """The objects of docs/detached.md after their scope; `order.customer` is Ann, of `bob` only the key was loaded."""
    return left(db)


# --- the table ----------------------------------------------------------------------------------------------


def test_the_table_of_the_documentation(db, shop):
    """120, 121. What docs/detached.md says can be read is read, and the rest refused; nothing is sent for either."""
    assert len(TABLE) > 60
    with sent(db) as spent:
        assert {code: outcome(code, shop) for code in TABLE} == {code: says[USUAL] for code, says in TABLE.items()}
    assert spent.statements == 0
    assert rows(db, f"SELECT name FROM {shop.Customer._mapping_.quoted} ORDER BY id") == ["Ann", "Bob", "Cid"]


def test_loading_ahead_as_the_documentation_says(db, shop):
    """116. The example that loads the ends of references costs two statements, and its objects read afterwards."""
    with sent(db) as spent:
        exec(blocks()[3], vars(shop))
    assert spent.statements == 2


def test_prefetching_as_the_documentation_says(db, shop):
    """116. The example that prefetches costs two round trips, and its objects read afterwards."""
    with counted(db) as spent:
        exec(blocks()[4], vars(shop))
    assert (spent.round_trips, spent.statements) == (2, 3)


# What can be read, and which value it is.
VALUES = [
    ("a key", lambda s: (s.ann.id, s.ann.get_pk(), repr(s.ann)), (1, 1, "Customer[1]")),
    ("a key that is all there is", lambda s: (s.bob.id, s.bob.get_pk(), repr(s.bob)), (2, 2, "Customer[2]")),
    ("equality", lambda s: (s.ann == s.order.customer, s.ann == s.bob, len({s.ann, s.ann})), (True, False, 1)),
    ("a loaded value", lambda s: s.ann.name, "Ann"),
    ("a value of a new object", lambda s: s.new.name, "Cid"),
    ("a key that the database made", lambda s: (s.new.id, repr(s.new)), (3, "Customer[3]")),
    ("None at INSERT", lambda s: (s.new.bio, s.new.settings, s.new.card), (None, None, None)),
    ("a reference", lambda s: s.order.customer is s.ann, True),
    ("the key behind a reference", lambda s: s.order.customer.id, 1),
    ("a loaded collection", lambda s: [order.total for order in s.ann.orders], [10, 20]),
    ("its size", lambda s: (len(s.ann.orders), s.ann.orders.count(), s.ann.orders.is_empty()), (2, 2, False)),
    ("its truth", lambda s: bool(s.ann.orders), True),
    ("what is in it", lambda s: (s.order in s.ann.orders, 3 in s.ann.orders), (True, False)),
    ("the text of collections", lambda s: str(s.ann.orders), "<Customer[1].orders: 2 objects>"),
    ("one not loaded", lambda s: str(s.ann.tags), "<Customer[1].tags: not loaded>"),
    ("a dict", lambda s: s.order.to_dict(), {"id": 1, "total": 10, "customer": 1}),
    ("a value in a value", lambda s: s.settings["list"], [1, 2]),
]


@pytest.mark.parametrize("read, value", [row[1:] for row in VALUES], ids=[row[0] for row in VALUES])
def test_what_was_loaded_reads(shop, read, value):
    """120. Loaded values read after the scope, those of new objects and those that the database made too."""
    assert read(shop) == value
    assert elsewhere(read, shop) == value


# What is refused: the message says what was tried, why it cannot be, and what would have helped.
LOAD = "read it within the scope, or load it there with "
TAGS = LOAD + "customer.tags.load(), or with query.prefetch(Customer.tags)"
SELECT = "query it within the scope, or load it there with customer.{0}.load(), and choose from it"
KEY_ONLY = f"{OVER}, and only the key of Customer[2] was known in it"
REFUSED = [
    # what is tried                                    Cannot ...                               why           way out
    (
        lambda s: s.ann.bio,
        "load attribute Customer[1].bio",
        OVER,
        LOAD + 'customer.load("bio"), or with query.prefetch(Customer.bio)',
    ),
    (
        lambda s: s.ann.card,
        "load attribute Customer[1].card",
        OVER,
        LOAD + 'customer.load("card"), or with query.prefetch(Customer.card)',
    ),
    (
        lambda s: s.bob.bio,
        "load attribute Customer[2].bio",
        KEY_ONLY,
        LOAD + 'customer.load("bio"), or with query.prefetch(Customer.bio)',
    ),
    (
        lambda s: s.bob.name,
        "load attribute Customer[2].name",
        KEY_ONLY,
        LOAD + "customer.load(), such as order.customer.load(), or with query.prefetch(Order.customer)",
    ),
    (lambda s: len(s.ann.tags), "load collection Customer[1].tags", OVER, TAGS),
    (lambda s: list(s.ann.tags), "load collection Customer[1].tags", OVER, TAGS),
    (lambda s: bool(s.ann.tags), "load collection Customer[1].tags", OVER, TAGS),
    (lambda s: s.ann.tags.count(), "load collection Customer[1].tags", OVER, TAGS),
    (lambda s: s.ann.tags.is_empty(), "load collection Customer[1].tags", OVER, TAGS),
    (lambda s: s.ann.tags.load(), "load collection Customer[1].tags", OVER, TAGS),
    (
        lambda s: s.order in s.bob.orders,
        "load collection Customer[2].orders",
        OVER,
        LOAD + "customer.orders.load(), or with query.prefetch(Customer.orders)",
    ),
    (lambda s: s.ann.tags.select(), "query collection Customer[1].tags", OVER, SELECT.format("tags")),
    (lambda s: s.ann.orders.select(), "query collection Customer[1].orders", OVER, SELECT.format("orders")),
    (lambda s: setattr(s.ann, "name", "Eve"), "assign a new value to Customer[1].name", OVER, AGAIN),
    (lambda s: setattr(s.order, "customer", s.bob), "assign a new value to Order[1].customer", OVER, AGAIN),
    (lambda s: setattr(s.ann, "tags", []), "change collection Customer[1].tags", OVER, AGAIN),
    (lambda s: s.ann.set(name="Eve"), "change object Customer[1]", OVER, AGAIN),
    (lambda s: s.ann.orders.add(s.order), "change collection Customer[1].orders", OVER, AGAIN),
    (lambda s: s.ann.orders.remove(s.order), "change collection Customer[1].orders", OVER, AGAIN),
    (lambda s: s.ann.orders.clear(), "change collection Customer[1].orders", OVER, AGAIN),
    (lambda s: s.ann.orders.create(total=1), "change collection Customer[1].orders", OVER, AGAIN),
    (lambda s: s.settings.update(theme=1), "change the value of Customer[1].settings", OVER, AGAIN),
    (lambda s: s.settings["list"].append(3), "change the value of Customer[1].settings", OVER, AGAIN),
    (lambda s: s.ann.delete(), "delete object Customer[1]", OVER, AGAIN),
    (lambda s: s.ann.flush(), "flush object Customer[1]", OVER, AGAIN),
    (lambda s: s.ann.load(), "load object Customer[1]", OVER, AGAIN),
    (
        lambda s: s.ann.to_dict(with_lazy=True),
        "load attribute Customer[1].bio",
        OVER,
        LOAD + 'customer.load("bio"), or with query.prefetch(Customer.bio)',
    ),
]


@pytest.mark.parametrize("use, doing, why, way_out", REFUSED, ids=[f"{n}-{row[1]}" for n, row in enumerate(REFUSED)])
def test_what_is_refused_says_what_would_have_helped(db, shop, use, doing, why, way_out):
    """120, 121. The error names object and attribute, why it is refused, and the call that would have loaded it."""
    with sent(db) as spent, pytest.raises(DatabaseSessionIsOver) as caught:
        use(shop)
    assert str(caught.value) == f"Cannot {doing}: {why}; {way_out}"
    assert spent.statements == 0
    assert shop.ann.name == "Ann" and [order.total for order in shop.ann.orders] == [10, 20]
    assert shop.settings == {"theme": "light", "list": [1, 2]}


def test_the_calls_that_the_messages_name(db, shop):
    """120. Each call that a message names does load what it promises, and no more than one statement is sent for it."""
    with db_session:
        ann, order = shop.Customer[1], shop.Order[3]
        for load in (
            lambda: ann.load("bio"),
            lambda: ann.load("card"),
            lambda: ann.tags.load(),
            lambda: order.customer.load(),
        ):
            with sent(db) as spent:
                load()
            assert spent.statements == 1
    assert (ann.bio, ann.card.number, len(ann.tags), order.customer.name) == ("long", "1", 2, "Bob")


def test_load_by_name_brings_the_end_without_a_column(db, shop):
    """load() without names loads the row; the other end of a one-to-one relation lies elsewhere, and is named."""
    with db_session:
        ann = shop.Customer[1]
        with sent(db) as spent:
            ann.load()
        assert spent.statements == 1
        ann.load("card", "bio", shop.Customer.tags)
    assert (ann.card.number, len(ann.tags)) == ("1", 2)
    assert ann.to_dict("card tags") == {"tags": [1, 2], "card": 1}


def test_loading_behind_references(db, shop):
    """The first reference that is followed by load() loads what all objects refer to, as reading does."""
    with db_session:
        orders = shop.Order.select().fetch()
        with sent(db) as spent:
            for order in orders:
                order.customer.load("name")
        assert spent.statements == 1
    assert [order.customer.name for order in orders] == ["Ann", "Ann", "Bob"]


# --- references that were not read ----------------------------------------------------------------------------


def test_a_reference_that_was_not_read(shop):
    """120. It leads to an object of which only the key is known; the message says how to load it with its owner."""
    with db_session:
        order = shop.Order[3]
    assert (order.customer.id, order.customer.get_pk(), repr(order.customer)) == (2, 2, "Customer[2]")
    assert order.customer is order.customer
    with pytest.raises(DatabaseSessionIsOver) as caught:
        order.customer.name
    assert str(caught.value) == (
        f"Cannot load attribute Customer[2].name: {OVER}, and {NOT_READ}; {LOAD}order.customer.load(), "
        "or with query.prefetch(Order.customer)"
    )


# --- queries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "send", [list, lambda q: q.fetch(), lambda q: q[:2], lambda q: q.first(), lambda q: q.get(), lambda q: q.count()]
)
@pytest.mark.parametrize("make", [lambda s: s.Tag.select(), lambda s: s.Customer[1].tags.select()])
def test_a_query_that_was_not_read(db, shop, make, send):
    """8, 120. A query from a scope that is over is DatabaseSessionIsOver and NoScopeError; another scope may read it."""
    with db_session:
        query = make(shop).filter(text="x").order_by(shop.Tag.id).limit(5)
    with sent(db) as spent, pytest.raises(QueryLeftScope) as caught:
        send(query)
    message = str(caught.value)
    assert "uses the database outside any db_session" in message
    assert "This query for Tag was made in a db_session, but it sends nothing before it is read" in message
    assert isinstance(caught.value, DatabaseSessionIsOver) and isinstance(caught.value, NoScopeError)
    assert spent.statements == 0
    with db_session:
        assert [tag.text for tag in query] == ["x"] and query.exists()


def test_what_a_query_gave_survives(shop):
    """120. What was fetched within the scope is a list of objects."""
    with db_session:
        fetched, sliced, first = shop.Tag.select().fetch(), shop.Tag.select()[:1], shop.Tag.select().first()
    assert ([tag.text for tag in fetched], len(sliced), first.text) == (["x", "y"], 1, "x")


def test_a_query_that_was_made_outside(shop):
    """8. A query that never saw a scope is a NoScopeError, and not one of a session that is over."""
    with pytest.raises(NoScopeError) as caught:
        list(shop.Tag.select())
    assert not isinstance(caught.value, DatabaseSessionIsOver)


# --- after a rollback -------------------------------------------------------------------------------------


def test_objects_after_a_rollback_in_the_middle(shop):
    """68, 74. They go on with the database's values; after the scope they read as others do, the new one says why not."""
    with db_session:
        ann = shop.Customer[1]
        ann.name = "Eve"
        new = shop.Customer(name="Dan", bio="b")
        flush()
        late = shop.Customer[2]  # loaded behind a write: what it shows might be undone
        rollback()
        cid = shop.Customer[3]
        cid.name = "Cyd"
    assert (ann.name, cid.name, late.id) == ("Ann", "Cyd", 2)
    assert (new.name, new.bio, new.id, new.get_pk(), new.card, list(new.orders)) == ("Dan", "b", None, None, None, [])
    with pytest.raises(DatabaseSessionIsOver, match=r"Cannot load attribute Customer\[2\]\.name: .* only the key of "):
        late.name
    for use in (lambda: setattr(new, "name", "x"), lambda: new.tags.add([]), new.delete, new.flush, new.load):
        with pytest.raises(DatabaseSessionIsOver) as caught:
            use()
        assert str(caught.value).startswith("Cannot ") and "Customer[transient]" in str(caught.value)
        assert str(caught.value).endswith(
            ": its creation was rolled back, it is in no database; make a new object, or session.add(...) this one"
        )


@pytest.mark.parametrize("send", [lambda: None, flush], ids=["unflushed", "flushed"])
def test_the_end_of_a_relation_of_a_new_object_after_a_rollback(shop, send):
    """67, 70. A new object that was referred to by a one-to-one relation is left by it, on both ends."""
    with db_session:
        card = shop.Card[1]
        new = shop.Customer(name="Dan")
        fresh = shop.Card(number="2", customer=new)
        card.customer = shop.Customer(name="Eve")
        send()
        rollback()
        assert (new.card, fresh.customer, card.customer.name, card.customer.card) == (None, new, "Ann", card)
    assert (new.card, card.customer.card) == (None, card)


@pytest.mark.parametrize("send", [lambda: None, flush], ids=["unflushed", "flushed"])
def test_the_end_of_a_relation_of_a_new_object_after_a_savepoint(shop, send):
    """67, 75. The same where an inner scope made it, and failed; what the outer one then leaves behind agrees."""
    with db_session:
        card = shop.Card[1]
        with pytest.raises(ZeroDivisionError), db_session(nested="savepoint"):
            new = shop.Customer(name="Dan")
            fresh = shop.Card(number="2", customer=new)
            card.customer = other = shop.Customer(name="Eve")
            send()
            1 / 0
        assert (new.card, other.card, fresh.customer, card.customer.name) == (None, None, new, "Ann")
        card.number = "3"
    assert (new.card, other.card, card.customer.name, card.number) == (None, None, "Ann", "3")
    with pytest.raises(
        DatabaseSessionIsOver, match=r"Customer\[transient\]: its creation was rolled back, .*; make a new object"
    ):
        new.delete()


def test_objects_of_a_failed_attempt(shop):
    """102. They show what was committed, name the error that ended them, and the next attempt does not take them."""
    failed = []

    @db_session(retry=1)
    def work():
        ann = shop.Customer[1]
        if not failed:
            failed.append(ann)
            ann.name = "Eve"
            flush()
            raise TransactionError("conflict")
        with pytest.raises(
            ConstraintError, match=r"rolled back because of TransactionError; get it again in this scope"
        ):
            shop.Order(total=1, customer=failed[0])
        return ann

    ann = work()
    assert (ann.name, failed[0].name, ann == failed[0]) == ("Ann", "Ann", False)
    with pytest.raises(DatabaseSessionIsOver) as caught:
        failed[0].bio
    assert str(caught.value) == (
        f"Cannot load attribute Customer[1].bio: {OVER}: it was rolled back because of TransactionError; "
        f'{LOAD}customer.load("bio"), or with query.prefetch(Customer.bio)'
    )


def test_a_deleted_object(shop):
    """42, 120. A deleted object reads as it was, after the scope too; it cannot come back by an accident."""
    with db_session:
        card = shop.Card[1]
        card.delete()
        saved = shop.Tag[1]
        saved.delete()
        commit()
        discarded = shop.Tag(text="z")
        discarded.delete()
    assert (card.number, card.id, saved.text, discarded.text) == ("1", 1, "x", "z")
    for gone, error in ((card, DatabaseSessionIsOver), (discarded, OperationWithDeletedObjectError)):
        with pytest.raises(error):
            gone.delete()
        with pytest.raises(error):
            gone.set()


# --- in a later scope ---------------------------------------------------------------------------------------


STRANGERS = [
    # who is the stranger, how it is used, what is refused
    ("Customer", lambda s: s.Order(total=1, customer=s.ann), r"a new Order\.customer cannot refer to Customer\[1\]"),
    (
        "Customer",
        lambda s: setattr(s.Order[1], "customer", s.ann),
        r"Order\[1\]\.customer cannot refer to Customer\[1\]",
    ),
    ("Customer", lambda s: s.Order[1].set(customer=s.bob), r"Order\[1\]\.customer cannot refer to Customer\[2\]"),
    ("Order", lambda s: s.Customer[2].orders.add(s.order), r"Customer\[2\]\.orders cannot take Order\[1\]"),
    ("Order", lambda s: s.Customer[2].orders.remove(s.order), r"Customer\[2\]\.orders cannot take Order\[1\]"),
    ("Order", lambda s: setattr(s.Customer[2], "orders", [s.order]), r"Customer\[2\]\.orders cannot take Order\[1\]"),
    ("Order", lambda s: s.Customer(name="n", orders=[s.order]), r"Customer\[new\]\.orders cannot take Order\[1\]"),
    (
        "Order",
        lambda s: s.order in s.Customer[1].orders,
        r"look for Order\[1\] in Customer\[1\]\.orders: .* Order\[1\]",
    ),
    (
        "Customer",
        lambda s: s.Order[1] in s.ann.orders,
        r"look for Order\[1\] in Customer\[1\]\.orders: .* Customer\[1\]",
    ),
]


@pytest.mark.parametrize("stranger, use, refused", STRANGERS)
def test_a_detached_object_is_no_part_of_a_later_scope(db, shop, stranger, use, refused):
    """23, 102. As a value, in a collection, or looked for in one: an error that names it and the way out."""
    way_out = rf"{refused}: {OVER}; get it again in this scope, for instance with {stranger}\[key\]"
    with db_session:
        with pytest.raises(ConstraintError, match=way_out):
            use(shop)
        with sent(db) as spent:
            flush()
        assert spent.statements == 0


def test_looking_for_an_object_of_no_database(shop):
    """67. A new object that was rolled back is in no collection: that is an answer."""
    with db_session:
        new = shop.Customer(name="Dan")
        order = new.orders.create(total=1)
        rollback()
        assert order not in shop.Customer[1].orders and order not in shop.Customer[2].orders
        assert new not in shop.Tag[1].customers
        with pytest.raises(
            ConstraintError, match=r"cannot refer to Customer\[transient\]: its creation was .*; make a new object"
        ):
            shop.Order(total=1, customer=new)
        with pytest.raises(
            ConstraintError, match=r"cannot take Order\[transient\]: its creation was rolled back.*; make a new"
        ):
            shop.Customer[1].orders.add(order)
        with pytest.raises(
            ConstraintError, match=r"Customer\[transient\] has no key, .* compared with it; its creation was"
        ):
            shop.Order.select(customer=new).fetch()


ASKED = [
    ("keyword", lambda s, c: s.Order.select(customer=c), 2),
    ("condition", lambda s, c: s.Order.select(s.Order.customer == c), 2),
    ("not", lambda s, c: s.Order.select(s.Order.customer != c), 1),
    ("one of", lambda s, c: s.Order.select(s.Order.customer.in_([c])), 2),
]


@pytest.mark.parametrize("ask, count", [row[1:] for row in ASKED], ids=[row[0] for row in ASKED])
def test_a_detached_object_in_a_condition(shop, ask, count):
    """In a condition a detached object stands for its key, as it does in its own scope."""
    with db_session:
        assert len(ask(shop, shop.ann).fetch()) == count
        assert shop.Customer[shop.ann.get_pk()].name == "Ann"
