"""Loading ahead with ``query.prefetch(...)``: what is loaded, what it costs, and what can be read after the scope."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from dbsession import (
    ConstraintError,
    DatabaseSessionIsOver,
    Discriminator,
    OptimisticCheckError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    commit,
    db_session,
    flush,
    rollback,
    select,
)
from dbsession.model.collections import CollectionAttribute
from dbsession.model.expressions import plain_expression
from tests.counting import counted


def declare(db):
    """Declare people of two kinds, with companies, orders, tags, cards and places."""

    class Company(db.Entity):
        name = Required(str)
        motto = Optional(str, lazy=True)
        people = Set("Person")
        parent = Optional("Company", reverse="children")
        children = Set("Company", reverse="parent")

    class Person(db.Entity):
        kind = Discriminator(str)
        name = Required(str)
        bio = Optional(str, lazy=True)
        company = Optional(Company)
        boss = Optional("Manager", reverse="team")
        orders = Set("Order")
        tags = Set("Tag")
        card = Optional("Card")

    class Manager(Person):
        level = Required(int)
        vows = Optional(str, lazy=True)
        team = Set(Person, reverse="boss")
        cars = Set("Car")

    class Place(db.Entity):
        country = Required(str)
        city = Required(str)
        orders = Set("Order")
        PrimaryKey(country, city)

    class Order(db.Entity):
        total = Required(int)
        note = Optional(str, lazy=True)
        person = Optional(Person)
        place = Optional(Place)
        approved_by = Optional("Card", lazy=True, reverse="approved")

    class Tag(db.Entity):
        text = PrimaryKey(str)
        note = Optional(str, lazy=True)
        people = Set(Person)

    class Card(db.Entity):
        number = Required(str)
        pin = Optional(str, lazy=True)
        person = Required(Person)
        approved = Set(Order, reverse="approved_by")

    class Car(db.Entity):
        manager = Required(Manager)

    db.generate_mapping(create_tables=True)
    return SimpleNamespace(db=db, **db.entities)


@pytest.fixture
def w(db):
    """Two companies with a parent; Ann over Bob over Cid, and Dot; four orders; tags, cards, places."""
    w = declare(db)

    def saved(obj):
        flush()  # keys in the order of the lines
        return obj

    with db_session:
        top = saved(w.Company(name="Top", motto="up"))
        acme = saved(w.Company(name="Acme", motto="more", parent=top))
        none = saved(w.Company(name="None"))
        ann = saved(w.Manager(name="Ann", bio="bio Ann", level=2, vows="all", company=acme))
        bob = saved(w.Manager(name="Bob", bio="bio Bob", level=1, boss=ann, company=acme))
        cid = saved(w.Person(name="Cid", bio="bio Cid", boss=bob, company=none))
        saved(w.Person(name="Dot"))
        x, y = w.Tag(text="x", note="note x"), w.Tag(text="y")
        ann.tags, cid.tags = [x, y], [x]
        card = saved(w.Card(number="1", pin="11", person=ann))
        saved(w.Card(number="3", person=cid))
        oslo, rome = w.Place(country="no", city="Oslo"), w.Place(country="it", city="Rome")
        saved(w.Order(total=1, note="one", person=ann, place=oslo, approved_by=card))
        saved(w.Order(total=2, note="two", person=ann, place=rome))
        saved(w.Order(total=3, person=cid, place=oslo))
        saved(w.Order(total=4))
        w.Car(manager=bob)
    return w


def spent(w, query, work=len):
    """Fetch *query* in a scope, do *work* there, and return what was found and what the fetching cost."""
    with db_session:
        with counted(w.db) as sent:
            found = query.fetch()
        with counted(w.db) as after:
            work(found)
        assert after.statements == 0
    return found, (sent.round_trips, sent.statements)


# --- references -----------------------------------------------------------------------------------------


def test_a_reference(w):
    """116, 120. References are loaded in one more round trip, whoever shares a target, and read after the scope."""
    orders, cost = spent(w, w.Order.select().order_by(w.Order.id).prefetch(w.Order.person))
    assert cost == (2, 2)
    assert [order.person and order.person.name for order in orders] == ["Ann", "Ann", "Cid", None]
    assert orders[0].person is orders[1].person and type(orders[0].person) is w.Manager
    assert orders[0].person.level == 2 and type(orders[2].person) is w.Person
    with pytest.raises(DatabaseSessionIsOver, match=r"Order\[1\]\.place was not read in it"):
        orders[0].place.orders.load()


def test_within_the_scope(w):
    """116. What was prefetched is read within the scope without any statement."""

    def read(orders):
        assert [order.person and order.person.name for order in orders] == ["Ann", "Ann", "Cid", None]

    spent(w, w.Order.select().order_by(w.Order.id).prefetch(w.Order.person), read)


def test_several_references_share_a_round_trip(w):
    """Statements of one level travel together: one for each table."""
    orders, cost = spent(w, w.Order.select().order_by(w.Order.id).prefetch(w.Order.person, w.Order.place))
    assert cost == (2, 3)
    assert [order.place and order.place.city for order in orders] == ["Oslo", "Rome", "Oslo", None]
    assert orders[0].person.name == "Ann"


def test_two_references_to_one_table_share_a_statement(db):
    """What several attributes refer to in one table is loaded by one statement."""

    class Town(db.Entity):
        name = Required(str)
        starts = Set("Trip", reverse="start")
        ends = Set("Trip", reverse="end")

    class Trip(db.Entity):
        start = Required(Town, reverse="starts")
        end = Required(Town, reverse="ends")

    db.generate_mapping(create_tables=True)
    with db_session:
        oslo, rome = Town(name="Oslo"), Town(name="Rome")
        Trip(start=oslo, end=rome)
        Trip(start=rome, end=oslo)
    with db_session, counted(db) as sent:
        trips = Trip.select().prefetch(Trip.start, Trip.end).fetch()
    assert (sent.round_trips, sent.statements) == (2, 2)
    assert sorted((trip.start.name, trip.end.name) for trip in trips) == [("Oslo", "Rome"), ("Rome", "Oslo")]


def test_several_steps(w):
    """Each step is named, and costs a round trip; the depth counts, not the objects."""
    query = w.Order.select().order_by(w.Order.id).prefetch(w.Order.person, w.Person.company, w.Company.parent)
    orders, cost = spent(w, query)
    assert cost == (4, 4)
    assert orders[0].person.company.parent.name == "Top"
    assert orders[2].person.company.name == "None" and orders[2].person.company.parent is None


def test_the_order_of_the_steps_does_not_matter(w):
    """The names of one call are a set; calls add to each other."""
    orders, cost = spent(w, w.Order.select().prefetch(w.Company.parent, w.Person.company, w.Order.person))
    assert cost == (4, 4) and orders[0].person.company.parent.name == "Top"
    chained = w.Order.select().prefetch(w.Order.person).filter(total=1).prefetch(w.Person.company)
    (order,), cost = spent(w, chained)
    assert cost == (3, 3) and order.person.company.name == "Acme"


def test_a_reference_to_oneself(w):
    """Each naming of a reference is one step, so that naming it twice goes two up."""
    query = w.Person.select(name="Cid")
    (cid,), cost = spent(w, query.prefetch(w.Person.boss))
    assert cost == (2, 2) and cid.boss.name == "Bob"
    with pytest.raises(DatabaseSessionIsOver, match=r"Manager\[1\]\.name.*Manager\[2\]\.boss was not read in it"):
        cid.boss.boss.name
    (cid,), cost = spent(w, query.prefetch(w.Person.boss, w.Person.boss))
    assert cost == (3, 3) and cid.boss.boss.name == "Ann" and cid.boss.boss.boss is None


def test_a_step_is_taken_from_wherever_it_is_reached(w):
    """An attribute that is named once is loaded for all objects that any path has reached."""
    query = w.Person.select(name="Cid").prefetch(w.Person.boss, w.Person.company)
    (cid,), cost = spent(w, query)
    assert cost == (3, 4)  # the person; boss and company; the boss's company
    assert (cid.company.name, cid.boss.company.name) == ("None", "Acme")


def test_composite_keys(w):
    """References and collections of several columns."""
    places, cost = spent(w, w.Place.select().order_by(w.Place.city).prefetch(w.Place.orders, w.Order.person))
    assert cost == (3, 3)
    assert [sorted(order.total for order in place.orders) for place in places] == [[1, 3], [2]]
    assert {order.person.name for place in places for order in place.orders} == {"Ann", "Cid"}


def test_a_lazy_reference(w):
    """A lazy reference that is prefetched comes with its row, and its object with the next round trip."""
    orders, cost = spent(w, w.Order.select().order_by(w.Order.id).prefetch(w.Order.approved_by))
    assert cost == (2, 2)
    assert [order.approved_by and order.approved_by.number for order in orders] == ["1", None, None, None]


# --- lazy attributes --------------------------------------------------------------------------------------


def test_lazy_attributes_come_with_the_select(w):
    """A lazy attribute is a column more of the SELECT itself."""
    people, cost = spent(w, w.Person.select().order_by(w.Person.id).prefetch(w.Person.bio))
    assert cost == (1, 1)
    assert [person.bio for person in people] == ["bio Ann", "bio Bob", "bio Cid", None]
    with pytest.raises(DatabaseSessionIsOver, match=r"Manager\[1\]\.vows"):
        people[0].vows


def test_lazy_attributes_of_a_subclass(w):
    """Those of a subclass are prefetched with the base class; its other objects have none."""
    people, cost = spent(w, w.Person.select().order_by(w.Person.id).prefetch(w.Manager.vows, w.Person.bio))
    assert cost == (1, 1)
    assert (people[0].vows, people[1].vows, people[2].bio) == ("all", None, "bio Cid")


def test_lazy_attributes_behind_a_step(w):
    """They come with the statement that loads the objects, of references and of collections."""
    steps = (w.Order.person, w.Person.bio, w.Person.tags, w.Tag.note, w.Person.card, w.Card.pin)
    orders, cost = spent(w, w.Order.select(total=1).prefetch(*steps))
    assert cost == (3, 4)
    ann = orders[0].person
    assert (ann.bio, ann.card.pin) == ("bio Ann", "11")
    assert {tag.text: tag.note for tag in ann.tags} == {"x": "note x", "y": None}
    companies, cost = spent(w, w.Company.select(name="Acme").prefetch(w.Company.people, w.Person.bio, w.Manager.vows))
    assert cost == (2, 2) and {person.bio for person in companies[0].people} == {"bio Ann", "bio Bob"}
    assert {person.vows for person in companies[0].people} == {"all", None}


def test_lazy_attributes_of_what_is_in_memory(w):
    """Objects that are known already get their lazy columns alone, in the same round trip as all else."""
    with db_session:
        ann = w.Person[1]
        list(ann.orders)
        with counted(w.db) as sent:
            orders = w.Order.select().prefetch(w.Order.person, w.Person.bio).fetch()
        assert (sent.round_trips, sent.statements) == (2, 3)  # Cid whole, and Ann's bio
        with counted(w.db) as sent:
            w.Order.select().prefetch(w.Order.person, w.Person.bio).fetch()
        assert sent.round_trips == 1
    assert {order.person.bio for order in orders if order.person} == {"bio Ann", "bio Cid"}


def test_a_plain_attribute(w):
    """An attribute that is loaded anyway may be named, and changes nothing."""
    people, cost = spent(w, w.Person.select().prefetch(w.Person.name))
    assert cost == (1, 1) and len(people) == 4


# --- collections ------------------------------------------------------------------------------------------


def test_a_collection(w):
    """A collection is loaded for all objects with one statement; who has no items has an empty one."""
    people, cost = spent(w, w.Person.select().order_by(w.Person.id).prefetch(w.Person.orders))
    assert cost == (2, 2)
    assert [sorted(order.total for order in person.orders) for person in people] == [[1, 2], [], [3], []]
    assert all(person.orders.is_loaded and not person.tags.is_loaded for person in people)
    assert [order.person for order in people[0].orders] == [people[0], people[0]]


def test_many_to_many(w):
    """The items of a many-to-many collection, the same object for whoever shares it."""
    people, cost = spent(w, w.Person.select().order_by(w.Person.id).prefetch(w.Person.tags))
    assert cost == (2, 2)
    assert [sorted(tag.text for tag in person.tags) for person in people] == [["x", "y"], [], ["x"], []]
    (shared,) = people[2].tags
    assert shared in people[0].tags


def test_both_ends(w):
    """A relation may be followed to its other end and back, which costs nothing where that is known."""
    people, cost = spent(w, w.Person.select().order_by(w.Person.id).prefetch(w.Person.tags, w.Tag.people))
    assert cost == (3, 3)
    x = next(tag for tag in people[0].tags if tag.text == "x")
    assert {person.name for person in x.people} == {"Ann", "Cid"}
    people, cost = spent(w, w.Person.select().order_by(w.Person.id).prefetch(w.Person.orders, w.Order.person))
    assert cost == (2, 2) and all(order.person is people[0] for order in people[0].orders)


def test_the_end_without_a_column(w):
    """120. The end of a one-to-one relation that has no column, whether there is anybody or not."""
    people, cost = spent(w, w.Person.select().order_by(w.Person.id).prefetch(w.Person.card))
    assert cost == (2, 2)
    assert [person.card and person.card.number for person in people] == ["1", None, "3", None]


def test_the_end_with_the_column(w):
    """A one-to-one reference is one as any other."""
    cards, cost = spent(w, w.Card.select().order_by(w.Card.id).prefetch(w.Card.person, w.Person.card))
    assert cost == (3, 3)  # who has a card is asked by its own attribute, which is not known
    assert [card.person.name for card in cards] == ["Ann", "Cid"] and all(c.person.card is c for c in cards)


def test_relations_of_a_subclass(w):
    """What only a subclass has is loaded for its objects, and no others are asked about."""
    people, cost = spent(w, w.Person.select().order_by(w.Person.id).prefetch(w.Manager.team, w.Manager.cars))
    assert cost == (2, 3)
    assert [[p.name for p in people[0].team], [p.name for p in people[1].team]] == [["Bob"], ["Cid"]]
    assert (len(people[0].cars), len(people[1].cars)) == (0, 1)
    dot = w.Person.select(name="Dot").prefetch(w.Manager.team)
    assert spent(w, dot)[1] == (1, 1)


def test_a_collection_that_is_loaded(w):
    """Nothing is asked twice; what the items lack is."""
    query = w.Person.select(name="Ann").prefetch(w.Person.orders, w.Order.place)
    with db_session:
        ann = w.Person[1]
        list(ann.orders)
        with counted(w.db) as sent:
            query.fetch()
        assert (sent.round_trips, sent.statements) == (2, 2)  # the person; the places
        with counted(w.db) as sent:
            query.fetch()
        assert sent.round_trips == 1
    assert {order.place.city for order in ann.orders} == {"Oslo", "Rome"}


# --- entities ---------------------------------------------------------------------------------------------


def test_an_entity(w):
    """An entity stands for each reference to it and collection of it."""
    orders, cost = spent(w, w.Order.select().order_by(w.Order.id).prefetch(w.Person))
    assert orders[0].person.name == "Ann" and orders[2].person.boss.boss is orders[0].person
    assert [person.name for person in orders[0].person.team] == ["Bob"]
    assert cost == (4, 5)  # orders; persons; Bob, and who is in Ann's team; who is in Bob's


def test_entities_lead_to_each_other(w):
    """Named entities are followed among each other, in both directions."""
    companies, _ = spent(w, w.Company.select().order_by(w.Company.id).prefetch(w.Person, w.Order))
    people = {person.name: person for company in companies for person in company.people}
    assert sorted(people) == ["Ann", "Bob", "Cid"]
    assert sorted(order.total for order in people["Ann"].orders) == [1, 2]
    with pytest.raises(DatabaseSessionIsOver, match="parent"):
        companies[1].parent.name


def test_an_entity_that_refers_to_itself(w):
    """A chain is followed to its end, a round trip for each link."""
    with db_session:
        before = w.Company[2]
        for number in range(3):
            before = w.Company(name=f"c{number}", parent=before)
    (last,), cost = spent(w, w.Company.select(name="c2").prefetch(w.Company))
    assert last.parent.parent.parent.name == "Acme" and last.parent.parent.parent.parent.name == "Top"
    assert [company.name for company in last.parent.children] == ["c2"] and len(last.children) == 0
    assert cost[0] == 6  # and one for each link


def test_a_circle(db):
    """A circle of references ends where it began."""

    class Node(db.Entity):
        follower = Optional("Node", reverse="before")
        before = Optional("Node", reverse="follower")

    db.generate_mapping(create_tables=True)
    with db_session:
        nodes = [Node() for _ in range(3)]
        flush()
        for node, follower in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
            node.follower = follower
    with db_session, counted(db) as sent:
        node = Node.select(id=1).prefetch(Node).get()
    assert node.follower.follower.follower is node and node.before.before.before is node
    assert sent.round_trips <= 4


def test_a_subclass_as_the_entity(w):
    """A named entity is not its base class: what leads to persons does not lead to managers alone."""
    people, _ = spent(w, w.Person.select(name="Cid").prefetch(w.Manager))
    assert people[0].boss.boss.name == "Ann"
    with pytest.raises(TypeError, match=r"^prefetch\(Manager\): nothing leads to Manager from .* this query, Order; "):
        w.Order.select().prefetch(w.Manager)


def test_lazy_references_to_an_entity(w):
    """They are followed, too."""
    orders, cost = spent(w, w.Order.select(total=1).prefetch(w.Card))
    assert orders[0].approved_by.number == "1" and cost == (2, 2)


# --- results of other kinds -------------------------------------------------------------------------------


def test_objects_in_tuples(w):
    """Objects in tuples are followed, each from where it stands; None among them leads nowhere."""
    query = select((o.total, o, o.person) for o in w.Order).prefetch(w.Order.place, w.Person.company, w.Order.note)
    rows, cost = spent(w, query.order_by(1))
    assert cost == (2, 3)
    assert [(total, order.note, order.place and order.place.city) for total, order, _ in rows] == [
        *((1, "one", "Oslo"), (2, "two", "Rome"), (3, None, "Oslo"), (4, None, None))
    ]
    assert [person and person.company.name for *_, person in rows] == ["Acme", "Acme", "None", None]


def test_objects_behind_a_reference(w):
    """The objects that a reference leads to are those of the query, and bring their lazy attributes."""
    people, cost = spent(w, select(o.person for o in w.Order if o.total < 4).prefetch(w.Person.bio, w.Person.company))
    assert cost == (2, 2)
    assert sorted((person.bio, person.company.name) for person in people) == [
        *(("bio Ann", "Acme"), ("bio Ann", "Acme"), ("bio Cid", "None"))
    ]


def test_lazy_attributes_beside_other_items(w):
    """Places in the result are those of its items, whatever columns an object has."""
    query = select((p, p.name.upper()) for p in w.Person).prefetch(w.Person.bio)
    rows, cost = spent(w, query.order_by(-2))
    assert cost == (1, 1)
    assert [(person.bio, name) for person, name in rows][:2] == [(None, "DOT"), ("bio Cid", "CID")]


def test_values(w):
    """A query for values has no objects that could lead anywhere."""
    with pytest.raises(
        TypeError, match=r"prefetch\(\) loads what objects lead to, and this query gives values: o.total"
    ):
        select(o.total for o in w.Order).prefetch(w.Order.person)


# --- verbs ------------------------------------------------------------------------------------------------


def test_with_other_verbs(w):
    """first(), get(), slices and limits prefetch what they return; count(), exists() and delete() need nothing."""
    query = w.Order.select().order_by(w.Order.id).prefetch(w.Order.person)
    with db_session:
        first, got, some = query.first(), query.filter(total=3).get(), query[1:2]
    assert (first.person.name, got.person.name, some[0].person.name) == ("Ann", "Cid", "Ann")
    with db_session:
        with counted(w.db) as sent:
            assert (query.count(), query.exists(), query.limit(0).fetch()) == (4, True, [])
        assert sent.round_trips == 3
        with counted(w.db) as sent:
            assert query.filter(total=4).delete() == 1
        assert sent.round_trips == 1
        rollback()


def test_nothing_is_sent_for_nothing(w):
    """An empty result, references to nobody and prefetch() without arguments cost no more."""
    assert spent(w, w.Order.select(total=77).prefetch(w.Order.person, w.Person))[1] == (1, 1)
    assert spent(w, w.Order.select(total=4).prefetch(w.Order.person, w.Order.place))[1] == (1, 1)
    assert spent(w, w.Order.select().prefetch())[1] == (1, 1)


def test_a_query_is_a_value(w):
    """prefetch() gives a new query, and sends nothing."""
    query = w.Order.select()
    with counted(w.db) as sent:
        ahead = query.prefetch(w.Order.person)
    assert sent.statements == 0 and ahead is not query
    assert spent(w, query)[1] == (1, 1) and spent(w, ahead)[1] == (2, 2)


def test_with_for_update(w):
    """93. Locked rows bring their lazy attributes with them; what they refer to is read, and not locked."""
    with db_session:
        with counted(w.db) as sent:
            ann = w.Person.select(name="Ann").for_update().prefetch(w.Person.bio, w.Person.company).get()
        assert sent.round_trips == 2
    assert (ann.bio, ann.company.name) == ("bio Ann", "Acme")


def test_more_keys_than_one_statement_takes(db):
    """60. Long lists of keys are cut, and travel together all the same."""

    class Owner(db.Entity):
        things = Set("Thing")

    class Thing(db.Entity):
        owner = Required(Owner)

    db.generate_mapping(create_tables=True)
    with db_session:
        for _ in range(1001):
            Thing(owner=Owner())
    with db_session, counted(db) as sent:
        things = Thing.select().prefetch(Thing.owner).fetch()
    assert (sent.round_trips, sent.statements) == (2, 1 + 3)
    with db_session, counted(db) as sent:
        owners = Owner.select().prefetch(Owner.things).fetch()
    assert (sent.round_trips, sent.statements) == (2, 1 + 3)
    assert len({thing.owner for thing in things}) == 1001 and all(len(owner.things) == 1 for owner in owners)


# --- what is in memory already ----------------------------------------------------------------------------


def test_unsaved_changes_of_references(w):
    """127. Memory counts: what an unsaved reference leads to is loaded, and stays where it leads."""
    with db_session as session:
        order, dot = w.Order[3], w.Person.get(name="Dot")
        order.person = dot
        w.Order[4].place = w.Place["it", "Rome"]
        with session.no_autoflush():
            orders = w.Order.select().order_by(w.Order.id).prefetch(w.Order.person, w.Order.place).fetch()
        assert (order.person, orders[3].place.city) == (dot, "Rome")
        assert orders[0].person.name == "Ann"
        rollback()
        assert order.person.name == "Cid"


def test_unsaved_changes_of_collections(w):
    """127. Items that came and went in this session are merged into what is loaded."""
    with db_session as session:
        ann, cid = w.Person[1], w.Person[3]
        new = w.Order(total=5, person=ann)
        w.Order[1].person = cid
        w.Order[2].delete()
        ann.tags.remove(w.Tag["x"])
        with session.no_autoflush():
            people = w.Person.select().order_by(w.Person.id).prefetch(w.Person.orders, w.Person.tags).fetch()
        assert [sorted(order.total for order in person.orders) for person in people] == [[5], [], [1, 3], []]
        assert [tag.text for tag in ann.tags] == ["y"]
        rollback()
        assert sorted(order.total for order in ann.orders) == [1, 2] and new not in ann.orders
        assert sorted(tag.text for tag in ann.tags) == ["x", "y"]


def test_new_objects(w):
    """New objects are followed as far as they lead to saved ones."""
    with db_session as session:
        dot = w.Person.get(name="Dot")
        dot.orders.create(total=9, place=("no", "Oslo"))
        with session.no_autoflush():
            w.Person.select(name="Dot").prefetch(w.Person.orders, w.Order.place).fetch()
        with counted(w.db) as sent:
            assert [order.place.city for order in dot.orders] == ["Oslo"]
        assert sent.statements == 0
        rollback()


def test_changes_that_were_flushed(w):
    """55. Unsaved changes in the queried table are flushed first; then the database and memory say the same."""
    with db_session:
        w.Order(total=5, person=w.Person[4])
        orders = w.Order.select().order_by(w.Order.total).prefetch(w.Order.person).fetch()
    assert orders[-1].person.name == "Dot"


def test_deleted_objects(w):
    """22. What was deleted in this session is in no collection, and nothing is loaded for it."""
    with db_session as session:
        w.Order[1].delete()
        with session.no_autoflush():
            people = w.Person.select(name="Ann").prefetch(w.Person.orders, w.Order.place).fetch()
        assert [order.total for order in people[0].orders] == [2]
        rollback()


def test_objects_of_which_only_the_key_is_known(w):
    """A reference that was read before the prefetch is filled by it."""
    with db_session:
        order = w.Order[1]
        ann = order.person
        with counted(w.db) as sent:
            w.Order.select().prefetch(w.Order.person).fetch()
        assert sent.round_trips == 2
    assert ann.name == "Ann" and order.person is ann and type(ann) is w.Manager


def test_after_a_commit(w):
    """65. What was prefetched before a commit in the middle reads after the scope."""
    with db_session:
        orders = w.Order.select().order_by(w.Order.id).prefetch(w.Order.person).fetch()
        w.Tag(text="z")
        commit()
    assert orders[0].person.name == "Ann"


def test_after_a_rollback(w):
    """68. A rollback takes back what was written, and references lead where they led before."""
    with db_session:
        orders = w.Order.select().order_by(w.Order.id).prefetch(w.Order.person).fetch()
        orders[0].person = None
        orders[1].total = 77
        flush()
        rollback()
    assert [order.person and order.person.name for order in orders] == ["Ann", "Ann", "Cid", None]
    assert orders[1].total == 2


def test_after_a_failed_scope(w):
    """74. Objects of a failed scope can be read, too."""
    with pytest.raises(ZeroDivisionError), db_session:
        orders = w.Order.select().order_by(w.Order.id).prefetch(w.Order.person, w.Person.orders).fetch()
        orders[3].person = orders[0].person
        1 / 0
    assert [order.person and order.person.name for order in orders] == ["Ann", "Ann", "Cid", None]
    assert sorted(order.total for order in orders[0].person.orders) == [1, 2]


def test_after_a_strict_scope(w):
    """A strict scope leaves nothing of what was prefetched."""
    with db_session(strict=True):
        orders = w.Order.select().prefetch(w.Order.person, w.Order.note).fetch()
        person = orders[0].person
    for read in (lambda: orders[0].person, lambda: orders[1].person, lambda: orders[0].note, lambda: person.name):
        with pytest.raises(DatabaseSessionIsOver):
            read()


def test_a_row_that_is_gone(db):
    """A reference to a row that is not there stays one of which only the key is known; nothing fails ahead of time."""

    class House(db.Entity):
        people = Set("Tenant")

    class Tenant(db.Entity):
        name = Required(str)
        house = Optional(House, fk_name=None)

    db.generate_mapping(create_tables=True)
    with db_session:
        Tenant(name="Ann", house=House())
    with db_session:
        ann = Tenant[1]
        with counted(db) as sent:
            assert Tenant.select().prefetch(Tenant.house).fetch() == [ann]
            assert ann.house.people is not None
        assert sent.round_trips == 2


# --- at random --------------------------------------------------------------------------------------------


def paths(obj, names, limit=2000):
    """Yield what is reached from *obj* by paths that take each of the attributes *names* once, as plain values."""
    todo = [((), obj, tuple(names))]
    while todo and limit:
        limit -= 1
        path, here, left = todo.pop()
        mapping = here._mapping_ if here is not None else None
        plain = [a.name for a in mapping.value_attributes if not a.is_lazy] if mapping is not None else []
        yield path, repr(here), [getattr(here, name) for name in plain]
        for index, attribute in enumerate(left):
            if isinstance(here, attribute.mapping.entity):
                found = getattr(here, attribute.name)
                rest = (*left[:index], *left[index + 1 :])
                items = sorted(found) if isinstance(attribute, CollectionAttribute) else [found]
                todo += [((*path, repr(attribute)), item, rest) for item in items]


@pytest.mark.parametrize("seed", range(25))
def test_random_steps(w, seed):
    """120. Whatever is named, each path that takes each name once reads after the scope as it does within one."""
    dice = random.Random(seed)
    with db_session:
        people, managers, places = list(w.Person.select()), list(w.Manager.select()), list(w.Place.select())
        for _ in range(8):
            w.Order(total=dice.randint(5, 9), person=dice.choice([None, *people]), place=dice.choice([None, *places]))
            person = w.Person(name="p", boss=dice.choice([None, *managers]), company=dice.choice([None, w.Company[1]]))
            dice.choice(list(w.Tag.select())).people.add(person)
        dice.choice(managers).boss = dice.choice(managers)
    relations = [
        *(w.Order.person, w.Order.place, w.Order.approved_by, w.Place.orders, w.Tag.people, w.Card.person),
        *(w.Person.company, w.Person.boss, w.Person.orders, w.Person.tags, w.Person.card, w.Card.approved),
        *(w.Manager.team, w.Manager.cars, w.Company.people, w.Company.parent, w.Company.children, w.Car.manager),
    ]
    relations = list(map(plain_expression, relations))
    entity = dice.choice([w.Order, w.Person, w.Company, w.Card, w.Tag])
    query, names = entity.select(), []
    for _ in range(dice.randint(1, 6)):
        relation = dice.choice(relations)
        try:
            query = query.prefetch(relation)
        except TypeError:
            continue  # not reached yet
        names.append(relation)
    with db_session:
        list(w.Person.select())  # so that references know which of them are managers
        before = [sorted(paths(obj, names)) for obj in sorted(entity.select())]
    with db_session:
        for known in dice.sample(relations, 2):  # some of it is in memory already
            for obj in known.mapping.entity.select():
                getattr(obj, known.name)
        with counted(w.db) as sent:
            found = query.fetch()
    assert [sorted(paths(obj, names)) for obj in sorted(found)] == before
    assert sent.round_trips <= 1 + len(names)


# --- what counts as read ----------------------------------------------------------------------------------


def change(w):
    """Let somebody else change the first order and its person."""
    with db_session(nested="independent"):
        w.Order[1].set(person=w.Person[3], note="other")
        w.Person[1].set(name="Eve", bio="other")


def test_nothing_counts_as_read(w):
    """89, 95. What was prefetched and not read is not compared by the flush: others may change it."""
    with db_session:
        ahead = (w.Order.person, w.Order.note, w.Person.bio, w.Person.orders, w.Person.card)
        orders = w.Order.select().order_by(w.Order.id).prefetch(*ahead).fetch()
        change(w)
        orders[0].total = 10
        w.Person[1].level = 7
    with db_session:
        order, ann = w.Order[1], w.Person[1]
        assert (order.total, order.note, order.person.name) == (10, "other", "Cid")
        assert (ann.level, ann.name, ann.bio) == (7, "Eve", "other")


@pytest.mark.parametrize("read", [lambda order: order.person, lambda order: order.note])
def test_what_is_read_afterwards_is_compared(w, read):
    """89. Reading what was prefetched within the scope counts as read, as always."""
    with pytest.raises(OptimisticCheckError), db_session:
        order = w.Order.select(total=1).prefetch(w.Order.person, w.Order.note).get()
        read(order)
        change(w)
        order.total = 10


# --- mistakes ---------------------------------------------------------------------------------------------

WRONG = [
    (
        lambda w: w.Order.select().prefetch(w.Person.company),
        (
            "prefetch(Person.company): nothing leads to Person from the objects of this query, Order; "
            "name each step: prefetch(Order.person, Person.company)"
        ),
    ),
    (
        lambda w: w.Order.select().prefetch(w.Order.person, w.Company.parent),
        (
            "prefetch(Company.parent): nothing leads to Company from the objects of this query, Order (and of what leads "
            "on from there, Person); name each step: prefetch(Person.company, Company.parent)"
        ),
    ),
    (
        lambda w: w.Order.select().prefetch(w.Tag),
        (
            "prefetch(Tag): nothing leads to Tag from the objects of this query, Order; "
            "name each step: prefetch(Order.person, Person.tags)"
        ),
    ),
    (
        lambda w: w.Tag.select().prefetch(w.Tag),
        (
            "prefetch(Tag): nothing leads to Tag from the objects of this query, Tag; "
            "name each step: prefetch(Tag.people, Person.tags)"
        ),
    ),
    (
        lambda w: w.Order.select().prefetch("person"),
        ("prefetch() takes entities and attributes, such as User or Order.user, not 'person'; write Order.person"),
    ),
    (
        lambda w: w.Order.select().prefetch("persn"),
        ("prefetch() takes entities and attributes, such as User or Order.user, not 'persn'; did you mean 'person'?"),
    ),
    (lambda w: w.Order.select().prefetch(3), "prefetch() takes entities and attributes, such as User or Order.user"),
    (lambda w: w.Order.select().prefetch(w.Order.total > 3), "prefetch() takes entities and attributes, such as User"),
    (lambda w: w.Order.select().prefetch(int), "prefetch() takes entities and attributes, such as User or Order.user"),
    (lambda w: w.Order.select().prefetch(w.db.Entity), "prefetch() takes entities and attributes, such as User"),
]


@pytest.mark.parametrize("wrong, message", WRONG, ids=[row[1][:30] for row in WRONG])
def test_mistakes_are_told_before_anything_is_sent(w, wrong, message):
    """What cannot be reached, and what is no entity or attribute, is a TypeError that says what to write."""
    with counted(w.db) as sent, pytest.raises(TypeError) as caught:
        wrong(w)
    assert str(caught.value).startswith(message) and sent.statements == 0
    if message.endswith(")"):
        assert str(caught.value) == message


def test_a_model_without_relations(db):
    """Where there are no relations, the message says so."""

    class Alone(db.Entity):
        name = Required(str)

    class Other(db.Entity):
        name = Required(str, lazy=True)

    db.generate_mapping(create_tables=True)
    with pytest.raises(TypeError, match=r"nothing leads to Other from .* this query, Alone; they have no relations$"):
        Alone.select().prefetch(Other.name)


def test_entities_of_another_database(w):
    """An entity of another database is reached from nowhere."""
    other = declare(type(w.db)("sqlite://"))
    with pytest.raises(TypeError, match=r"prefetch\(Person\): nothing leads to Person from the objects"):
        w.Order.select().prefetch(other.Person)
    other.db.close()


def test_messages_name_prefetch(w):
    """120. What is missing after the scope is an error that says how the query could have loaded it."""
    with db_session:
        order = w.Order.select(total=1).get()
        person = w.Person.select(name="Ann").get()
    for read, call in (
        (lambda: order.note, 'order.load("note"), or with query.prefetch(Order.note)'),
        (lambda: order.person.name, "order.person.load(), or with query.prefetch(Order.person)"),
        (lambda: list(person.orders), "manager.orders.load(), or with query.prefetch(Manager.orders)"),
        (lambda: person.card, 'manager.load("card"), or with query.prefetch(Manager.card)'),
    ):
        with pytest.raises(DatabaseSessionIsOver) as caught:
            read()
        assert str(caught.value).endswith(f"read it within the scope, or load it there with {call}")


def test_they_do_not_change(w):
    """121. What was prefetched is detached after the scope as all else is."""
    with db_session:
        orders = w.Order.select().prefetch(w.Order.person).fetch()
    with pytest.raises(DatabaseSessionIsOver):
        orders[0].person.name = "Eve"
    with db_session, pytest.raises(ConstraintError):
        w.Order[1].person = orders[0].person
