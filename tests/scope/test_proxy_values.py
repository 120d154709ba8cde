"""Proxies made of objects, and taken for objects: in queries, in relations and in keys."""

from __future__ import annotations

import pytest

from dbsession import (
    ConstraintError,
    DatabaseSessionIsOver,
    EntityProxy,
    InvalidRequestError,
    NoScopeError,
    ObjectNotFound,
    OperationWithDeletedObjectError,
    Session,
    db_session,
    delete,
    exists,
    flush,
    make_proxy,
    rollback,
    select,
)
from tests.counting import counted
from tests.observing import elsewhere, left_behind, rows
from tests.scope.people import make_people


@pytest.fixture
def shop(db):
    """Ann has two orders, the first with two lines; Bob has none; Sue is a student."""
    return make_people(db)


# --- make_proxy -----------------------------------------------------------------------------------------------


def test_a_proxy_of_a_loaded_object(shop):
    """122. make_proxy() of a saved object sends nothing, also after its scope; a proxy is its own proxy."""
    with db_session:
        order = shop.Order["a"]
        with counted(shop.db) as sent:
            proxies = [make_proxy(order), make_proxy(order.user)]  # of the user only the key is known
        assert sent.statements == 0
        changed = order.user
        changed.name = "Anna"
        assert make_proxy(changed) == proxies[1]
    assert proxies == [EntityProxy(shop.Order, "a"), EntityProxy(shop.Person, 1)]
    assert [make_proxy(order), make_proxy(order.user)] == proxies
    assert make_proxy(proxies[0]) is proxies[0]
    with db_session(strict=True):
        emptied = shop.Person[1]
    assert make_proxy(emptied) == proxies[1]


def test_a_proxy_of_a_new_object(shop):
    """122. make_proxy() of an unsaved object saves it, and what it refers to; the rest of the scope waits."""
    with db_session:
        person = shop.Person(name="Eve")
        order = shop.Order(number="e", user=person)
        waiting = shop.Person(name="Waiting")
        proxy = make_proxy(order)
        assert (person.id, waiting.id) == (4, None)
        assert proxy.get() is order
        assert make_proxy(person).get() is person
    with db_session:
        assert proxy.user.name == "Eve"


def test_a_proxy_of_a_deleted_object(shop):
    """122. What was deleted, or never saved, has no proxy; the message says why."""
    with db_session:
        bob = shop.Person[2]
        bob.delete()
        for _ in range(2):
            with pytest.raises(OperationWithDeletedObjectError, match=r"proxy of Person\[2\]: it was deleted in this"):
                make_proxy(bob)
            flush()
        rollback()
        assert make_proxy(bob).name == "Bob"
        discarded = shop.Person(name="x")
        discarded.delete()
        undone = shop.Person(name="x")
        rollback()
    for obj, why in ((discarded, "it was deleted before it was saved"), (undone, "its creation was rolled back")):
        with pytest.raises(InvalidRequestError, match=f"proxy of Person.*, which was never saved: {why}"):
            make_proxy(obj)


def test_a_proxy_of_something_else(shop):
    """make_proxy() takes objects; classes and keys are named with the way out."""
    for wrong in (7, None, "Person"):
        with pytest.raises(TypeError, match=r"make_proxy\(\) takes an object of an entity"):
            make_proxy(wrong)
    with pytest.raises(TypeError, match=r"write EntityProxy\(Person, key\)"):
        make_proxy(shop.Person)


def test_a_proxy_of_a_subclass(shop):
    """122. An object that is only known as one of the base class gives the object of the subclass."""
    with db_session:
        shop.Order["b"].user = 3
    with db_session:
        person = shop.Order["b"].user
        assert type(person) is shop.Person  # as far as is known: nothing of it is loaded
        proxy = make_proxy(person)
    with db_session:
        assert type(proxy.get()) is shop.Student
        assert (proxy.school, proxy) == ("MIT", make_proxy(shop.Student[3]))


def test_scopes_at_once(shop):
    """122. One proxy is used in several scopes and threads at once, and is in each the object of that scope."""
    proxy = EntityProxy(shop.Person, 1)
    with db_session:
        mine = proxy.get()
        theirs = elsewhere(db_session(proxy.get))
        assert theirs is not mine
        assert proxy.get() is mine
        with db_session(nested="independent"):
            assert proxy.get() not in (mine, theirs)
    with left_behind(shop.Person) as kept:
        with db_session:
            assert EntityProxy(shop.Person, 2).name == "Bob"
        proxies = [EntityProxy(shop.Person, 2)]
    assert kept == []
    assert proxies[0] == EntityProxy(shop.Person, 2)


# --- in queries -----------------------------------------------------------------------------------------------


def _numbers(orders):
    return sorted(order.number for order in orders)


# Which orders are Ann's, asked in each form; nothing but the query itself is sent.
QUERIES = [
    lambda s, p: select(o for o in s.Order if o.user == p),
    lambda s, p: select(o for o in s.Order if p == o.user),
    lambda s, p: select(o for o in s.Order if o.user in [p]),  # noqa: FURB171
    lambda s, p: select(o for o in s.Order if o.user in (p, EntityProxy(s.Person, 99))),
    lambda s, p: select(o for o in s.Order if not o.user != p),  # noqa: SIM202
    lambda s, p: s.Order.select(lambda o: o.user == p),
    lambda s, p: s.Order.select(s.Order.user == p),
    lambda s, p: s.Order.select(p == s.Order.user),
    lambda s, p: s.Order.select(s.Order.user.in_([p])),
    lambda s, p: s.Order.select(user=p),
    lambda s, p: s.Order.select().filter(user=p),
    lambda s, p: s.Order.select().where(lambda o: o.user == p),
]


@pytest.mark.parametrize("query", QUERIES)
def test_as_parameters(shop, query):
    """122. In a query a proxy is compared by its key; nothing is loaded for it."""
    proxy = EntityProxy(shop.Person, 1)
    for _ in range(2):  # the second time the query is known
        with db_session:
            with counted(shop.db) as sent:
                assert _numbers(query(shop, proxy).fetch()) == ["a", "b"]
            assert sent.statements == 1
            assert _numbers(query(shop, EntityProxy(shop.Person, 2)).fetch()) == []


def test_as_parameters_of_the_entity_itself(shop):
    """122. The object of a loop is compared with a proxy; composite keys too."""
    person, line = EntityProxy(shop.Person, 1), EntityProxy(shop.Line, ("a", 2))
    with db_session:
        assert select(p.name for p in shop.Person if p == person).get() == "Ann"
        assert select(p.name for p in shop.Person if p not in [person]).count() == 2  # noqa: FURB171
        assert [one.place for one in select(n.line for n in shop.Note if n.line == line)] == [2]
        assert shop.Note.get(line=line) is shop.Note[line]
        assert exists(o for o in shop.Order if o.user == person)
        assert shop.Order.exists(user=person)
        assert not shop.Order.exists(user=EntityProxy(shop.Person, 2))
        assert select(o for o in shop.Order if o.user.name == person.name).count() == 2
        assert select(o for o in person.orders if o.number > "a").get().number == "b"
        assert delete(o for o in shop.Order if o.user == person and o.number == "b") == 1


def test_in_queries_made_elsewhere(shop):
    """122. A query with a proxy may be made outside any scope, and sent in one."""
    query = shop.Order.select(shop.Order.user == EntityProxy(shop.Person, 1))
    with db_session:
        assert _numbers(query) == ["a", "b"]
    with db_session:
        assert _numbers(query) == ["a", "b"]


def test_a_wrong_proxy_in_a_query(shop):
    """A proxy of another entity is refused where it is compared."""
    with db_session, pytest.raises(TypeError, match=r"Order.user and Order\['a'\] are objects of different entities"):
        shop.Order.select(shop.Order.user == EntityProxy(shop.Order, "a")).fetch()


# --- in relations ---------------------------------------------------------------------------------------------


def test_as_the_value_of_a_reference(shop):
    """122. A reference takes a proxy, of a new object and of a saved one, and nothing is loaded for it."""
    bob = EntityProxy(shop.Person, 2)
    with db_session:
        with counted(shop.db) as sent:
            made = shop.Order(number="c", user=bob)
        assert sent.statements == 0
        assert made.user is bob.get()
        shop.Order["a"].user = bob
        shop.Order["b"].set(user=bob, student=EntityProxy(shop.Student, 3))
        assert _numbers(bob.orders) == ["a", "b", "c"]
        assert shop.Order["b"].student.school == "MIT"
    assert rows(shop.db, 'SELECT "user" FROM "order"') == [2, 2, 2]


def test_as_an_item_of_a_collection(shop):
    """122. Collections take proxies: add, remove, assignment, construction; ``in`` finds them by their row."""
    order, other = EntityProxy(shop.Order, "a"), EntityProxy(shop.Order, "b")
    x, y = EntityProxy(shop.Tag, "x"), EntityProxy(shop.Tag, "y")
    with db_session:
        ann, bob = shop.Person[1], shop.Person[2]
        assert order in ann.orders
        assert order not in bob.orders
        bob.orders.add(order)
        assert (order in ann.orders, order in bob.orders) == (False, True)
        bob.orders = [other]
        assert _numbers(bob.orders) == ["b"]
        bob.orders.remove(other)
        assert bob.orders.is_empty()
        made = shop.Person(name="Cid", orders=[order, [other]])
        tagged = shop.Order["a"]
        assert (x in tagged.tags, y in tagged.tags) == (True, False)
        tagged.tags.add(y)
        tagged.tags -= [x]
        assert (x in tagged.tags, y in tagged.tags) == (False, True)
        assert list(tagged.tags) == [y.get()]
    assert rows(shop.db, 'SELECT "user" FROM "order"') == [made.id, made.id]
    assert rows(shop.db, "SELECT * FROM order_tag") == [("a", "y")]


def test_looking_for_a_proxy_in_a_collection(shop):
    """122. ``proxy in user.orders`` is False for another entity, and for a row that is gone; it works afterwards, too."""
    order, gone = EntityProxy(shop.Order, "a"), EntityProxy(shop.Order, "gone")
    with db_session:
        ann = shop.Person[1]
        assert gone not in ann.orders
        assert EntityProxy(shop.Person, 1) not in ann.orders
        not_loaded = shop.Person[2]
        ann.orders.load()
        with counted(shop.db) as sent:
            assert order in ann.orders
            assert gone not in ann.orders
        assert sent.statements == 0
    assert order in ann.orders
    assert gone not in ann.orders
    assert "a" not in ann.orders
    with pytest.raises(DatabaseSessionIsOver, match=r"collection Person\[2\]\.orders"):
        assert order in not_loaded.orders


def test_a_proxy_of_the_base_class(shop):
    """122. Where a relation leads to a subclass, a proxy of the base class is loaded to see what it is."""
    sue, ann = EntityProxy(shop.Person, 3), EntityProxy(shop.Person, 1)
    with db_session:
        shop.Order["a"].student = sue
        assert type(shop.Order["a"].student) is shop.Student
        with pytest.raises(TypeError, match=r"Order.student refers to Student, not to Person"):
            shop.Order["b"].student = ann
        assert shop.Order.get(student=sue) is shop.Order["a"]


def test_proxies_that_are_refused(shop):
    """A proxy of another entity, or of an object that was deleted here, is refused as the object would be."""
    with db_session:
        order = shop.Order["a"]
        with pytest.raises(TypeError, match=r"Order.user refers to Person, not to Order"):
            order.user = EntityProxy(shop.Order, "b")
        with pytest.raises(TypeError, match=r"Person\[1\]\.orders holds Order, not Person\[2\]"):
            shop.Person[1].orders.add(EntityProxy(shop.Person, 2))
        with pytest.raises(TypeError, match=r"Order.number must be a str, not EntityProxy"):
            order.number = EntityProxy(shop.Order, "b")
        shop.Person[2].delete()
        for deleted in (EntityProxy(shop.Person, 2), 2):
            with pytest.raises(
                ConstraintError, match=r"cannot refer to Person\[2\], which was deleted in this session"
            ):
                order.user = deleted
        assert order.user is shop.Person[1]


# --- in keys --------------------------------------------------------------------------------------------------


def test_in_keys(shop):
    """122. A proxy stands in a key where the object could."""
    order = EntityProxy(shop.Order, "a")
    with db_session:
        line = shop.Line[order, 2]
        assert (line.order.number, line.place) == ("a", 2)
        assert shop.Line.get(order=order, place=2) is line
        assert shop.Note[make_proxy(line)].line is line
        assert shop.Line(order=order, place=3).get_pk() == ("a", 3)
        assert shop.Line[order, 3].order is order.get()
        with pytest.raises(ObjectNotFound, match=r"Line\['a', 9\] does not exist"):
            shop.Line[order, 9]
        with pytest.raises(TypeError):
            shop.Line[EntityProxy(shop.Person, 1), 2]


def test_a_scope_learns_of_no_object_by_a_comparison(shop):
    """122. A proxy that was compared, or looked for, leaves nothing behind: its key is free for a new object."""
    person, order = EntityProxy(shop.Person, 9), EntityProxy(shop.Order, "z")
    with db_session:
        assert select(o for o in shop.Order if o.user == person).count() == 0
        assert order not in shop.Person[1].orders
        assert EntityProxy(shop.Tag, "z") not in shop.Order["a"].tags
        made = shop.Order(number="z", user=shop.Person(id=9, name="Nia"))
        assert (order.get(), person.get()) == (made, made.user)
        assert order in person.orders


def test_a_key_that_has_changed(shop):
    """122. make_proxy() of an object whose key has an unsaved change saves it: a proxy is of a row."""
    with db_session:
        tag = shop.Tag["y"]
        tag.name = "z"
        proxy = make_proxy(tag)
        assert (proxy, proxy.get()) == (EntityProxy(shop.Tag, "z"), tag)
        assert not EntityProxy(shop.Tag, "y").exists()


def test_in_bulk(shop):
    """122. An UPDATE of many rows takes a proxy as the new value."""
    with db_session:
        order = shop.Order["a"]
        assert shop.Order.select().update(user=EntityProxy(shop.Person, 2)) == 2
        assert order.user is shop.Person[2]
        assert shop.Order.select(user=EntityProxy(shop.Person, 2)).delete(bulk=True) == 2


# --- with a session that is held ------------------------------------------------------------------------------


def test_a_session_that_is_held(shop):
    """122. get() and exists() take a session that is no scope, and give its object; without one they name the way."""
    ann, gone = EntityProxy(shop.Person, 1), EntityProxy(shop.Person, 99)
    session = Session(shop.db)
    try:
        assert ann.exists(session)
        assert ann.get(session) is session.get(shop.Person, 1)
        assert not gone.exists(session)
        with pytest.raises(ObjectNotFound, match=r"resolve <EntityProxy Person\[99\]>"):
            gone.get(session)
        with pytest.raises(NoScopeError, match=r"proxy\.get\(session\)"):
            ann.get()
        with db_session:
            assert ann.get() is not ann.get(session)
        order = session.get(shop.Order, "a")
        order.user = EntityProxy(shop.Person, 2)
        assert order in session.get(shop.Person, 2).orders
        assert EntityProxy(shop.Order, "a") in session.get(shop.Person, 2).orders
        session.commit()
    finally:
        session.close()
    assert rows(shop.db, """SELECT "user" FROM "order" WHERE number = 'a'""") == [2]


def test_in_no_session(shop):
    """122. A transient object refers to a proxy, and is added with it."""
    session = Session(shop.db)
    try:
        order = shop.Order(number="t", user=EntityProxy(shop.Person, 2))
        with pytest.raises(DatabaseSessionIsOver, match=r"flush object Order.*session\.add\(obj\) first"):
            make_proxy(order)
        session.add(order)
        assert order.user is session.get(shop.Person, 2)
        session.commit()
        assert make_proxy(order).get(session) is order
    finally:
        session.close()
    assert rows(shop.db, """SELECT "user" FROM "order" WHERE number = 't'""") == [2]
