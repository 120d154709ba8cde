"""Whatever is asked, the answer is the same before and behind the flush of whatever is unsaved."""

from types import SimpleNamespace

import pytest

from dbsession import (
    Optional,
    PrimaryKey,
    Required,
    Set,
    count,
    db_session,
    exists,
    flush,
    max,
    rollback,
    select,
    sum,
)
from tests.observing import sent
from tests.session.recording import recorded


@pytest.fixture
def shop(db):
    """Customers have orders, which have lines; both go with what they belong to, and products have them as well."""

    class Region(db.Entity):
        name = Required(str)
        customers = Set("Customer", cascade_delete=True)

    class Customer(db.Entity):
        name = Required(str)
        region = Optional(Region)
        orders = Set("Order")
        tags = Set("Tag")
        card = Optional("Card")

    class Order(db.Entity):
        _table_ = "purchase"
        total = Required(int)
        customer = Required(Customer)
        product = Optional("Product")
        lines = Set("Line")

    class Line(db.Entity):
        number = Required(int)
        order = Required(Order)
        product = Optional("Product")

    class Product(db.Entity):
        name = Required(str)
        orders = Set(Order)
        lines = Set(Line)

    class Tag(db.Entity):
        text = PrimaryKey(str)
        note = Optional(str)
        customers = Set(Customer)

    class Card(db.Entity):
        number = Required(str)
        owner = Required(Customer)
        holder = Optional("Holder")

    class Holder(db.Entity):
        name = Required(str)
        card = Optional(Card)

    class Island(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Island(name="i")
        product = Product(name="p")
        for number in range(2):
            customer = Customer(name=f"c{number}", region=Region(name="r"), tags=[Tag(text=f"t{number}")])
            Holder(name="h", card=Card(number=str(number), owner=customer))
            for total in range(2):
                Line(number=1, order=Order(total=total, customer=customer, product=product), product=product)
    return SimpleNamespace(db=db, **db.entities)


def shown(found):
    """Return *found* in an order of its own; of objects what they hold, since new ones have no key before the flush."""
    values = [obj.to_dict() if hasattr(obj, "to_dict") else obj for obj in found]
    return sorted(str({**value, "id": 0} if isinstance(value, dict) else value) for value in values)


CHANGES = {
    "a region is deleted": lambda s: s.Region[1].delete(),
    "a customer is deleted": lambda s: s.Customer[1].delete(),
    "an order is deleted": lambda s: s.Order[1].delete(),
    "a tag is deleted": lambda s: s.Tag["t0"].delete(),
    "a link is made": lambda s: s.Customer[1].tags.add(s.Tag["t1"]),
    "a link is removed": lambda s: s.Customer[1].tags.remove(s.Tag["t0"]),
    "an order is moved": lambda s: s.Order[1].set(customer=s.Customer[2]),
    "a line is new": lambda s: s.Line(number=5, order=s.Order[1], product=s.Product[1]),
    "a customer is renamed": lambda s: s.Customer[1].set(name="z"),
    "an order is changed": lambda s: s.Order[1].set(total=77),
    "a card changes hands": lambda s: (s.Card[2].delete(), s.Card[1].set(owner=s.Customer[2])),
}

ASKED = {
    "objects": lambda s: shown(s.Line.select()),
    "objects by key": lambda s: [getattr(e.get(id=1), "id", None) for e in (s.Line, s.Order, s.Card, s.Customer)],
    "a join": lambda s: shown(select(x for x in s.Line if x.order.customer.name != "c1")),
    "an order by a join": lambda s: [o.total for o in s.Order.select().order_by(lambda o: (o.customer.name, o.total))],
    "a left join": lambda s: shown(select((h.name, h.card.number, h.card.owner.name) for h in s.Holder)),
    "a loop over links": lambda s: shown(select((t.text, c.name) for t in s.Tag for c in t.customers)),
    "links counted": lambda s: shown(select((c.id, count(c.tags)) for c in s.Customer)),
    "links compared": lambda s: shown(select(c.id for c in s.Customer if "t0" in c.tags.text)),
    "exists over links": lambda s: shown(select(c.id for c in s.Customer if exists(t for t in c.tags if t.note == ""))),
    "exists over another table": lambda s: shown(
        select(c.id for c in s.Customer if exists(x for x in s.Line if x.order.customer == c))
    ),
    "in a query": lambda s: shown(select(x.id for x in s.Line if x.order in select(o for o in s.Order if o.total > 0))),
    "groups": lambda s: shown(select((o.customer.id, max(o.total)) for o in s.Order)),
    "count()": lambda s: (s.Line.select().count(), s.Product[1].lines.count(), s.Product[1].orders.is_empty()),
    "exists()": lambda s: (s.Line.exists(lambda x: x.order.customer.id == 1), s.Customer.exists(name="z")),
    "an aggregate": lambda s: (sum(o.total for o in s.Order), s.Line.select().sum(lambda x: x.number * x.order.total)),
    "a stream": lambda s: shown(s.Line.select(lambda x: x.order.customer.name != "c1").stream(1)),
    "a lock": lambda s: shown(s.Line.select(lambda x: x.order.customer.name == "c0").for_update()),
    "raw SQL": lambda s: shown(s.db.select("SELECT customer, count(*) FROM purchase GROUP BY customer")),
    "raw SQL of links": lambda s: shown(s.db.select("SELECT * FROM customer_tag")),
    "objects by SQL": lambda s: shown(s.Line.select_by_sql("SELECT * FROM line")),
    "a bulk update": lambda s: (
        s.Line.select(lambda x: x.order.customer.name != "c1").update(number=lambda x: x.order.total),
        shown(select((x.number, x.order.total) for x in s.Line)),
    ),
    "a bulk delete": lambda s: s.Line.select(lambda x: x.order.customer.name != "c1").delete(bulk=True),
    "a bulk delete by links": lambda s: s.Tag.select(lambda t: exists(c for c in t.customers)).delete(bulk=True),
    "a collection": lambda s: (shown(s.Product[1].lines), shown(s.Product[1].orders)),
    "a collection of links": lambda s: (shown(s.Tag["t1"].customers), shown(s.Customer[2].tags)),
    "an item": lambda s: [s.Customer.get(id=1) in s.Tag["t1"].customers, s.Customer[2] in s.Tag["t1"].customers],
    "ends of one-to-one relations": lambda s: [s.Customer[2].card.id, *[bool(h.card) for h in s.Holder.select()]],
    "prefetched": lambda s: [
        (shown(p.lines), shown(p.orders)) for p in s.Product.select().prefetch(s.Line, s.Order, s.Customer)
    ],
    "refreshed": lambda s: [
        s.session.refresh(s.Product[1], "lines", "orders"),
        shown(s.Product[1].lines),
        shown(s.Product[1].orders),
    ],
    "expired": lambda s: [
        len(s.Product[1].lines),
        s.session.expire(s.Product[1]),
        shown(s.Product[1].lines),
    ][1:],
    "what references lead to": lambda s: shown((o.total, o.customer.name, o.customer.region.name) for o in s.Order),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_flush_makes_no_difference(shop, change):
    """55. Every kind of query, and what is loaded, sees each kind of unsaved change as it will be in the database."""
    different = []
    for kind, ask in ASKED.items():
        answers = []
        for flushes in (False, True):
            with db_session as session:
                shop.session = session
                CHANGES[change](shop)
                if flushes:
                    flush()
                answers.append(ask(shop))
                rollback()
        if answers[0] != answers[1]:
            different.append((kind, *answers))
    assert different == []


# --- what a deletion takes along -----------------------------------------------------------------------


def test_only_deletions_are_sent_ahead_of_what_is_loaded(shop, monkeypatch):
    """55. Rows by key and collections are loaded behind a deletion that may take them along, and behind no other."""
    with db_session:
        product, tag, island = shop.Product[1], shop.Tag["t1"], shop.Island[1]
        product.name = "q"
        tag.delete()
        shop.Order(total=9, customer=shop.Customer[2])
        with recorded(monkeypatch) as batches:
            assert (len(product.orders), len(product.lines)) == (4, 4)
            assert shop.Card[1].number == "0"
            shop.Customer[1].delete()
            assert island.name == "i"
            assert shop.Tag["t0"].text == "t0"
            assert batches.writes == []
            assert len(shop.Customer[2].orders) == 3
        assert "DELETE customer" in batches.writes
        rollback()


def test_what_is_loaded_in_no_autoflush(shop):
    """55. In the block nothing is sent for it, and rows are found that the flush will take along; then they are gone."""
    with db_session as session:
        shop.Customer[1].delete()
        product = shop.Product[1]
        with session.no_autoflush(), sent(shop.db) as spent:
            line = shop.Line[1]
            assert line in product.lines
        assert spent.transactions == 0
        flush()
        session.expire(product)
        assert line not in set(product.lines)
        assert len(product.lines) == 2


def test_an_inner_scope_sees_what_the_outer_one_deletes(shop):
    """55, 75. The deletion of the outer scope is sent before the savepoint, so that it outlives the inner one."""
    with db_session:
        shop.Customer[1].delete()
        with pytest.raises(ZeroDivisionError), db_session:
            assert len(shop.Product[1].lines) == 2
            shop.Product[1].name = "q"
            raise ZeroDivisionError
        assert shop.Line.select().count() == 2
    with db_session:
        assert shop.Order.select().count() == 2
        assert shop.Product[1].name == "p"


def test_deleting_sends_no_deletion(db, monkeypatch):
    """52, 55. What a delete() loads, so that hooks run, is loaded ahead of the deletions before it, which wait."""
    gone = []

    class Box(db.Entity):
        things = Set("Thing")

    class Thing(db.Entity):
        box = Required(Box)

        def after_delete(self):
            gone.append(self.id)

    db.generate_mapping(create_tables=True)
    with db_session:
        for _ in range(3):
            Thing(box=Box())
    with db_session:
        boxes = Box.select().order_by(Box.id).fetch()
        with recorded(monkeypatch) as batches:
            for box in boxes[:2]:
                box.delete()
            assert batches.writes == []
            assert len(batches.batches) == 2
    assert sorted(gone) == [1, 2]
