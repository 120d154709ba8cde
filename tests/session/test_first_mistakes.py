"""What those meet who know other libraries, or are new: names that do not exist here, and the wrong thing given."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    InvalidRequestError,
    MultipleObjectsFoundError,
    NestedScopeError,
    ObjectNotFound,
    ProgrammingError,
    Required,
    Session,
    db_session,
    desc,
    select,
    sessionmaker,
)
from dbsession.model import elsewhere
from tests.session.shop import make_shop


@pytest.fixture
def shop(db) -> SimpleNamespace:
    return make_shop(db)


@pytest.fixture
def session(shop):
    session = Session(shop.db)
    yield session
    session.rollback()
    session.close()


# --- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        ("entity", elsewhere.ENTITY),
        ("query", elsewhere.QUERY),
        ("session", elsewhere.SESSION),
        ("factory", elsewhere.FACTORY),
        ("collection", elsewhere.COLLECTION),
        ("result", elsewhere.RESULT),
        ("database", elsewhere.DATABASE),
    ],
)
def test_names_from_elsewhere_name_the_way(shop, session, owner, names):
    """A name that SQLAlchemy or Django would have is an AttributeError that says what does it here."""
    owners = {
        "entity": shop.Customer,
        "query": session.query(shop.Customer),
        "session": session,
        "factory": sessionmaker(shop.db),
        "collection": session.get(shop.Customer, 1).orders,
        "result": session.execute("SELECT 1"),
        "database": shop.db,
    }
    for name, way in names.items():
        with pytest.raises(AttributeError) as caught:
            getattr(owners[owner], name)
        assert way.replace("{owner}", "Customer").replace("{name}", name) in str(caught.value)
        assert (caught.value.name, caught.value.obj) == (name, owners[owner])
        assert not hasattr(owners[owner], name)
        assert name not in dir(owners[owner])


@pytest.mark.parametrize("name", ["nmae", "__wrapped__", "_x"])
def test_other_names_are_what_python_says(shop, session, name):
    """What nobody has is an ordinary AttributeError, on classes, queries and sessions."""
    with pytest.raises(AttributeError, match=f"^type object 'Customer' has no attribute '{name}'$"):
        getattr(shop.Customer, name)
    with pytest.raises(AttributeError, match=f"^'Query' object has no attribute '{name}'$"):
        getattr(session.query(shop.Customer), name)
    with pytest.raises(AttributeError, match=f"^'Session' object has no attribute '{name}'$"):
        getattr(session, name)


def test_a_declared_attribute_of_such_a_name_is_the_users(db):
    """An entity may have an attribute `query` or `objects`, and methods of these names; nothing is in their way."""

    class Search(db.Entity):
        query = Required(str)
        objects = Required(int)

        @classmethod
        def find(cls, text):
            return cls.get(query=text)

    db.generate_mapping(create_tables=True)
    with db_session:
        Search(query="x", objects=1)
        assert Search.find("x").objects == 1
        assert Search.select(Search.query == "x").count() == 1


# --- one -------------------------------------------------------------------------------------------------------


def test_one_is_exactly_one(shop, session):
    """query.one() returns the only result; none and more than one are errors that say so, get() has None for none."""
    found = session.query(shop.Customer).filter(shop.Customer.name == "a").one()
    assert found is session.get(shop.Customer, 1)
    with pytest.raises(MultipleObjectsFoundError, match=r"more than one Customer fits, and one\(\) takes one"):
        session.query(shop.Customer).one()
    with pytest.raises(ObjectNotFound, match=r"no Customer fits, and one\(\) takes exactly one") as caught:
        session.query(shop.Customer).filter_by(name="x").one()
    assert caught.value.entity is shop.Customer
    assert session.query(shop.Customer).filter_by(name="x").get() is None


def test_one_takes_none_for_a_value(shop):
    """A query for values tells a NULL from nothing, which get() cannot."""
    with db_session:
        shop.Order(total=7)
        assert select(o.customer for o in shop.Order if o.total == 7).one() is None
        with pytest.raises(ObjectNotFound, match="no result fits"):
            select(o.total for o in shop.Order if o.total == 8).one()
        assert shop.Customer.select().order_by(desc(shop.Customer.name)).limit(1).one().name == "b"


# --- the wrong thing ---------------------------------------------------------------------------------------------


def test_names_of_attributes_go_one_by_one(shop, session):
    """expire() and refresh() with a list of names say how names are given."""
    customer = session.get(shop.Customer, 1)
    for verb in (session.expire, session.refresh):
        with pytest.raises(TypeError, match="one by one"):
            verb(customer, ["name"])


def test_bind_may_be_named(shop):
    """Session(bind=db) is Session(db), as sessionmaker(bind=db) is sessionmaker(db)."""
    with Session(bind=shop.db) as session:
        assert session.get(shop.Customer, 1).name == "a"
    with pytest.raises(TypeError, match="bind"):
        Session()


def test_wrong_objects_name_the_verb_that_takes_them(shop, session):
    """add() of a class or a list, delete() of a query: the message says which verb was meant, nothing is changed."""
    customer = shop.Customer(name="c")
    for verb, given, way in (
        (session.add, shop.Customer, r"write session.add\(Customer\(...\)\)"),
        (session.add, [customer], r"session.add_all\(...\) takes several"),
        (session.add_all, customer, r"session.add\(...\) takes Customer\[transient\]"),
        (session.delete, session.query(shop.Customer), r"query.delete\(\)"),
        (session.delete, shop.Customer, "get an object of Customer"),
        (session.refresh, session.query(shop.Customer), "read it first"),
        (session.query, shop.Customer.name, "not Customer.name"),
        (session.execute, session.query(shop.Customer), r"query.fetch\(\)"),
        (session.query, "Customer", r"session.query\(User\)"),
        (session.add, {"name": "c"}, r"session.merge\(User, {...}\)"),
        (session.merge, {"name": "c"}, r"session.merge\(User, {...}\)"),
    ):
        with pytest.raises(TypeError, match=way):
            verb(given)
    assert not session.new
    assert not session.deleted


@pytest.mark.parametrize(
    ("lookup", "way"),
    [
        ("count__gt", "Customer.count > ..."),
        ("name__startswith", "Customer.name.startswith(...)"),
        ("name__in", "Customer.name.in_([...])"),
        ("card__owner__name", "Customer.card.owner.name == ..."),
        ("card__owner__count__lte", "Customer.card.owner.count <= ..."),
        ("card__isnull", "Customer.card == None"),
    ],
)
def test_conditions_of_django(shop, session, lookup, way):
    """An attribute with two underscores is refused with the expression that says the same."""
    with pytest.raises(TypeError, match=f"write {re.escape(way)}$"):
        session.query(shop.Customer).filter_by(**{lookup: 1})


@pytest.mark.parametrize("placeholder", [":name", "@name", "$name"])
def test_placeholders_of_other_libraries(shop, session, placeholder):
    """SQL with :name and a dict of parameters is refused with the way to write it, before anything is sent."""
    before = shop.db.counters.round_trips
    with pytest.raises(ProgrammingError, match=r"is no placeholder here: write %\(name\)s"):
        session.execute(f"SELECT id FROM customer WHERE name = {placeholder}", {"name": "a"})
    assert shop.db.counters.round_trips == before
    assert session.execute("SELECT id FROM customer WHERE name = %(name)s", {"name": "a"}).rows == [(1,)]
    assert session.execute("SELECT ':other'", {"name": "a"}).rows == [(":other",)]
    session.rollback()


def test_commit_in_a_savepoint_says_so(shop, session):
    """79. commit() within begin_nested() is refused, and the message names that verb."""
    with session.begin_nested(), pytest.raises(NestedScopeError, match="begin_nested"):
        session.commit()


def test_close_in_its_own_block(shop):
    """close() in the block of the session says to leave it out; the block was not saved."""
    with pytest.raises(InvalidRequestError, match=r"leave close\(\) out"), Session(shop.db) as session:
        shop.Customer(name="c")
        session.close()
    with db_session:
        assert shop.Customer.select().count() == 2


def test_a_closed_session_says_what_it_is(shop):
    """A closed session names itself as one that is over, and the way to another session."""
    session = Session(shop.db)
    session.close()
    assert "which is over" in repr(session)
    with pytest.raises(DatabaseSessionIsOver, match=r"in another session: Session\(db\)"):
        session.get(shop.Customer, 1)
