"""Relations: both ends agree, whichever end is assigned, whatever the keys are."""

from __future__ import annotations

import pytest

from dbsession import (
    CacheIndexError,
    ConstraintError,
    ObjectNotFound,
    Optional,
    Required,
    Set,
    TransactionIntegrityError,
    db_session,
)
from tests.counting import counted

# --- one to many ------------------------------------------------------------------------------------


def people(db, side):
    """Declare users and their orders; *side* is Required or Optional."""

    class User(db.Entity):
        name = Required(str)
        orders = Set("Order")

    class Order(db.Entity):
        user = side(User)
        total = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    return User, Order


def test_both_ends_agree_before_the_flush(db):
    """39. A reference and the collection on its other side change together, by whichever end."""
    User, Order = people(db, Optional)
    with db_session:
        ann, bob = User(name="Ann"), User(name="Bob")
        first, second = Order(user=ann), Order()
        assert list(ann.orders) == [first] and not bob.orders
        bob.orders.add(second)
        assert second.user is bob
        first.user = bob
        assert set(bob.orders) == {first, second} and not ann.orders
        bob.orders.remove(second)
        assert second.user is None
        first.user = None
        assert not bob.orders
        second.user = ann
    with db_session:
        assert [(o.id, o.user and o.user.name) for o in Order.select().order_by(Order.id)] == [(1, None), (2, "Ann")]


def test_a_loaded_reference_moves(db):
    """39. Only the column that changed is written, and what was loaded on both ends follows."""
    User, Order = people(db, Required)
    with db_session:
        ann, bob = User(name="Ann"), User(name="Bob")
        Order(user=ann), Order(user=ann)
    with db_session:
        ann, bob = User.select().order_by(User.id)
        assert (len(ann.orders), len(bob.orders)) == (2, 0)
        Order[1].user = bob
        assert (list(ann.orders), list(bob.orders)) == ([Order[2]], [Order[1]])
    with db_session:
        assert [order.user.name for order in Order.select().order_by(Order.id)] == ["Bob", "Ann"]


def test_a_reference_given_by_its_key(db):
    """40. A reference takes an object or its key; a key sends nothing, and one without a row is refused at the end."""
    User, Order = people(db, Required)
    with db_session:
        User(name="Ann"), User(name="Bob")
    with counted(db) as sent:
        with db_session:
            order = Order(user=2)
            assert repr(order.user) == "User[2]"
    assert sent.round_trips == 1
    with db_session:
        assert Order[1].user.name == "Bob"
        Order[1].user = 1
        assert Order[1].user is User[1]
        Order[1].set(user=(2,))
        assert Order[1].user is User[2]
        with pytest.raises(TypeError, match=r"User\.id must be an int"):
            Order(user="Ann")
        with pytest.raises(TypeError, match=r"Order\.user refers to User, not to Order"):
            Order(user=order)
    with pytest.raises(TransactionIntegrityError):
        with db_session:
            Order(user=77)
    with db_session:
        order = Order(user=78)
        with pytest.raises(ObjectNotFound, match=r"User\[78\] does not exist"):
            order.user.name
        order.delete()
    with db_session:
        assert Order.select().count() == 1


def test_a_required_reference_cannot_be_empty(db):
    """A required reference refuses None, and a removal from the collection deletes, as the database would."""
    User, Order = people(db, Required)
    with db_session:
        ann = User(name="Ann")
        order = Order(user=ann)
        with pytest.raises(ValueError, match=r"Order\.user is required, and cannot be None"):
            order.user = None
        with pytest.raises(ValueError, match=r"Order\.user is required"):
            Order()
        kept = Order(user=ann)
        ann.orders.remove(order)
        assert list(ann.orders) == [kept]
    with db_session:
        assert [order.id for order in Order] == [kept.id]


def test_an_object_of_another_scope_is_refused(db):
    """23. An object whose scope is over, or lives elsewhere, cannot be referred to; the error says what to do."""
    User, Order = people(db, Required)
    with db_session:
        old = User(name="Ann")
    with db_session:
        order = Order(user=1)
        for refused in (
            lambda: Order(user=old),
            lambda: setattr(order, "user", old),
            lambda: order.set(user=old),
            lambda: old.orders.add(order),
        ):
            with pytest.raises(Exception, match=r"User\[1\]") as caught:
                refused()
            assert "session is over" in str(caught.value)
        assert order.user is User[1]


# --- one to one -------------------------------------------------------------------------------------

SIDES = {
    "required and optional": (lambda: Optional("Passport"), lambda: Required("Person"), "Passport"),
    "optional and required": (lambda: Required("Passport"), lambda: Optional("Person"), "Person"),
    "both optional": (lambda: Optional("Passport"), lambda: Optional("Person"), "Passport"),
    "column on the first": (lambda: Optional("Passport", column="pass_no"), lambda: Optional("Person"), "Person"),
    "column on the second": (lambda: Optional("Passport"), lambda: Optional("Person", column="owner"), "Passport"),
}


@pytest.fixture(params=SIDES)
def pair(request, db):
    """Declare a one-to-one relation with every choice of sides; the third value is the entity that has the column."""
    first, second, holder = SIDES[request.param]

    class Person(db.Entity):
        name = Required(str)
        passport = first()

    class Passport(db.Entity):
        number = Required(int)
        person = second()

    db.generate_mapping(create_tables=True)
    return db.entities["Person"], db.entities["Passport"], db.entities[holder]


def end(entity):
    """Return the attribute of Person or Passport that refers to the other one."""
    return entity._mapping_.member("passport" if entity.__name__ == "Person" else "person")


def test_one_to_one_lies_on_one_side(pair):
    """The Required side has the column, unique; of two Optional ones that with column=, else the first by name."""
    Person, Passport, holder = pair
    for entity in (Person, Passport):
        reference = end(entity)
        assert bool(reference.columns) is (entity is holder)
    assert holder._mapping_.catalog.schema_sql().count("UNIQUE") == 1


def test_one_to_one_is_read_from_both_sides(pair):
    """Either end finds the other, in memory and from the database."""
    Person, Passport, _ = pair
    with db_session:
        if end(Person).is_required:
            person = Person(name="Ann", passport=Passport(number=7))
        else:
            person = Person(name="Ann")
            Passport(number=7, person=person)
        assert person.passport.person is person
    with db_session:
        assert Person[1].passport.number == 7
    with db_session:
        assert Passport[1].person.name == "Ann"
    with db_session:
        passport = Passport[1]
        assert Person[1].passport is passport and passport.person is Person[1]


def test_one_to_one_is_assigned_from_both_sides(pair):
    """39. Assigning one end moves the other end too; who had it before has nothing."""
    Person, Passport, _ = pair
    if end(Person).is_required or end(Passport).is_required:
        return  # below: such a relation has no moment in which somebody has nothing
    with db_session:
        ann, bob = Person(name="Ann"), Person(name="Bob")
        one, two = Passport(number=1), Passport(number=2)
        ann.passport = one
        two.person = bob
        assert (one.person, bob.passport) == (ann, two)
    with db_session:
        ann, bob = Person[1], Person[2]
        bob.passport = Passport[1]  # Ann's; Bob's own has nobody any more
        assert (ann.passport, Passport[2].person, Passport[1].person) == (None, None, bob)
    with db_session:
        assert (Person[1].passport, Person[2].passport, Passport[2].person) == (None, Passport[1], None)
        Passport[2].person = Person[2]
        assert (Person[2].passport, Passport[1].person) == (Passport[2], None)
        Person[2].passport = None
        assert Passport[2].person is None
        Passport[1].person = 1
    with db_session:
        assert (Passport[2].person, Person[1].passport) == (None, Passport[1])


def test_one_to_one_takes_over_what_was_loaded_but_not_read(pair):
    """39. An object that is in memory gives up its place even if the program has never read the relation."""
    Person, Passport, _ = pair
    if end(Person).is_required or end(Passport).is_required:
        return
    with db_session:
        Person(name="Ann", passport=Passport(number=1))
        Person(name="Bob", passport=Passport(number=2))
    with db_session:
        people, passports = list(Person.select().order_by(Person.id)), list(Passport.select().order_by(Passport.id))
        passports[1].person = people[0]
        assert (passports[0].person, people[1].passport, people[0].passport) == (None, None, passports[1])
    with db_session:
        assert [person.passport for person in Person.select().order_by(Person.id)] == [Passport[2], None]


def test_rollback_restores_both_ends(pair):
    """70. A rollback puts back what either end of a one-to-one relation had, saved in between or not."""
    Person, Passport, _ = pair
    if end(Person).is_required or end(Passport).is_required:
        return
    with db_session:
        Person(name="Ann", passport=Passport(number=1))
        Person(name="Bob", passport=Passport(number=2))
    for saved in (False, True):
        with db_session as session:
            ann, bob = Person.select().order_by(Person.id)
            assert ann.passport.person is ann
            bob.passport = ann.passport
            assert (ann.passport, bob.passport) == (None, Passport[1])
            if saved:
                session.flush()
            session.rollback()
            assert (ann.passport, bob.passport) == (Passport[1], Passport[2])
            assert (Passport[1].person, Passport[2].person) == (ann, bob)


def test_a_required_one_to_one_is_not_taken_away(pair):
    """A required end cannot be left alone by an assignment on the other end: an error that names both."""
    Person, Passport, holder = pair
    if not (end(Person).is_required or end(Passport).is_required):
        return
    mine, theirs = ("passport", Passport) if holder is Person else ("person", Person)
    other_end = "person" if mine == "passport" else "passport"
    first, second = ({"name": "Ann"}, {"number": 1}) if holder is Person else ({"number": 1}, {"name": "Ann"})
    with db_session:
        partner = theirs(**second)
        obj = holder(**first, **{mine: partner})
        with pytest.raises(ConstraintError, match=r"is required, so .* cannot be left"):
            setattr(partner, other_end, None)
        with pytest.raises(CacheIndexError, match="already"):
            holder(**first, **{mine: partner})
        assert getattr(partner, other_end) is obj
    with db_session:
        assert holder.select().count() == 1
        with pytest.raises(ValueError, match="is required"):
            setattr(holder[1], mine, None)
        setattr(holder[1], mine, theirs(**second))
    with db_session:
        assert getattr(holder[1], mine) is theirs[2] and getattr(theirs[1], other_end) is None


# --- several relations, relations to oneself -----------------------------------------------------------


def test_several_relations_between_two_entities(db):
    """``reverse=`` tells them apart: by name or by the attribute, on one side or on both."""

    class User(db.Entity):
        name = Required(str)
        written = Set("Message", reverse="sender")
        received = Set("Message")
        starred = Set("Message", reverse="fans")

    class Message(db.Entity):
        sender = Required(User)
        receiver = Optional(User, reverse=User.received)
        fans = Set(User)

    db.generate_mapping(create_tables=True)
    with db_session:
        ann, bob = User(name="Ann"), User(name="Bob")
        message = Message(sender=ann, receiver=bob, fans=[ann, bob])
        assert (list(ann.written), list(ann.received), list(bob.received)) == ([message], [], [message])
    with db_session:
        assert (len(User[1].written), len(User[1].received), len(User[1].starred)) == (1, 0, 1)
        assert {user.name for user in Message[1].fans} == {"Ann", "Bob"}


def test_a_reverse_names_an_attribute_of_its_own_target(db):
    """``reverse="m"`` means the m of the entity that is referred to: another entity's m finds its reverse by itself."""

    class Machine(db.Entity):
        card = Optional("Card", reverse="m")
        kids = Set("Kid")

    class Card(db.Entity):
        m = Optional(Machine)

    class Kid(db.Entity):
        m = Required(Machine)

    db.generate_mapping(create_tables=True)
    machine, card, kid = Machine._mapping_, Card._mapping_, Kid._mapping_
    assert machine.member("card").reverse is card.member("m")
    assert machine.member("kids").reverse is kid.member("m")
    with db_session:
        machine = Machine(card=Card())
        kid = Kid(m=machine)
        assert list(machine.kids) == [kid]
    with db_session:
        assert Machine[1].card is Card[1] and list(Machine[1].kids) == [Kid[1]]


def test_a_tree(db):
    """44. A self reference: a reference to the parent and a collection of children."""

    class Node(db.Entity):
        name = Required(str)
        parent = Optional("Node", reverse="children")
        children = Set("Node", reverse="parent")

    db.generate_mapping(create_tables=True)
    with db_session:
        leaf = Node(name="leaf", parent=Node(name="branch", parent=Node(name="root")))
    with db_session:
        root = Node.get(name="root")
        (branch,) = root.children
        assert [node.name for node in branch.children] == ["leaf"]
        assert root.parent is None
        Node.get(name="leaf").parent = root
        assert len(root.children) == 2 and not branch.children
        root.parent = None
    with db_session:
        assert sorted(node.name for node in Node.get(name="root").children) == ["branch", "leaf"]


def test_an_object_may_refer_to_itself(db):
    """45. A reference to the object itself is saved, though its key is not known before."""

    class Node(db.Entity):
        name = Required(str)
        best = Optional("Node", reverse="admirers")
        admirers = Set("Node", reverse="best")

    db.generate_mapping(create_tables=True)
    with db_session:
        node = Node(name="Narcissus")
        node.best = node
    with db_session:
        assert Node[1].best is Node[1] and list(Node[1].admirers) == [Node[1]]


def test_symmetric_one_to_one(db):
    """A one-to-one relation that is its own reverse: whoever is my spouse has me as spouse."""

    class Person(db.Entity):
        name = Required(str)
        spouse = Optional("Person", reverse="spouse")

    db.generate_mapping(create_tables=True)
    with db_session:
        ann, bob, cid, dot = (Person(name=name) for name in ("Ann", "Bob", "Cid", "Dot"))
        ann.spouse = bob
        dot.spouse = cid
        assert (bob.spouse, cid.spouse) == (ann, dot)
    with db_session:
        ann, bob, cid, dot = Person.select().order_by(Person.id)
        cid.spouse = ann  # nobody has read whose spouse Ann was
        assert [person.spouse for person in (ann, bob, cid, dot)] == [cid, None, ann, None]
    with db_session:
        ann, bob, cid, dot = Person.select().order_by(Person.id)
        assert [person.spouse for person in (ann, bob, cid, dot)] == [cid, None, ann, None]
        ann.spouse = None
        assert cid.spouse is None
        bob.spouse = bob
    with db_session:
        assert [person.spouse for person in Person.select().order_by(Person.id)] == [None, Person[2], None, None]


def test_symmetric_one_to_one_of_an_object_that_is_not_loaded(db):
    """Ending a symmetric relation ends it for the other end too, though that one was never loaded."""

    class Person(db.Entity):
        name = Required(str)
        spouse = Optional("Person", reverse="spouse")

    db.generate_mapping(create_tables=True)
    with db_session:
        Person(name="Ann", spouse=Person(name="Bob"))
    with db_session:
        Person.get(name="Ann").spouse = None
    with db_session:
        assert [person.spouse for person in Person] == [None, None]
