"""Proxies: an entity and a key that stand for the object of that row in whatever scope is current."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession import (
    Database,
    EntityProxy,
    MappingError,
    NoScopeError,
    ObjectNotFound,
    PrimaryKey,
    Required,
    Set,
    db_session,
    flush,
    make_proxy,
    rollback,
    select,
)
from tests.counting import counted
from tests.observing import rows
from tests.pages import ROOT
from tests.scope.people import make_people


@pytest.fixture
def shop(db):
    """Ann has two orders, the first with two lines; Bob has none; Sue is a student."""
    return make_people(db)


# --- looking the object up --------------------------------------------------------------------------------


def test_the_object_of_the_current_scope(shop):
    """122. A proxy resolves in any scope to that scope's own object: one round trip, and none where it is known."""
    proxy = EntityProxy(shop.Person, 1)
    with db_session:
        with counted(shop.db) as sent:
            first = proxy.get()
        assert (sent.round_trips, first.name) == (1, "Ann")
        with counted(shop.db) as sent:
            assert proxy.get() is first is shop.Person[1]
            assert proxy.exists()
        assert sent.statements == 0
    with db_session:
        assert proxy.get() is not first
        assert proxy.get() is shop.Person[1]


def test_a_row_that_is_gone(shop):
    """122. A proxy of a row that is gone says so, with class and key, whatever is done with it."""
    proxy = EntityProxy(shop.Person, 2)
    with db_session:
        proxy.delete()
    with db_session:
        assert not proxy.exists()
        with pytest.raises(
            ObjectNotFound, match=r"resolve <EntityProxy Person\[2\]>: Person\[2\] does not exist"
        ) as caught:
            proxy.get()
        assert (caught.value.entity, caught.value.key) == (shop.Person, 2)
        with pytest.raises(ObjectNotFound, match=r"read <EntityProxy Person\[2\]>\.name: Person\[2\] does not exist"):
            _ = proxy.name
        with pytest.raises(ObjectNotFound, match=r"assign <EntityProxy Person\[2\]>\.name: .* ask proxy\.exists\(\)"):
            proxy.name = "x"


def test_existence(shop):
    """122. exists() is False after deletion, flushed or not, and True for what is new; rolled back, it is as before."""
    proxy = EntityProxy(shop.Person, 2)
    with db_session:
        assert proxy.exists()
        shop.Person[2].delete()
        assert not proxy.exists()
        flush()
        assert not proxy.exists()
        rollback()
        assert proxy.exists()
        new = EntityProxy(shop.Order, "new")
        assert not new.exists()
        order = shop.Order(number="new")
        with counted(shop.db) as sent:
            assert new.exists()
            assert new.get() is order
        assert sent.statements == 0
        order.flush()
        assert new.exists()
        order.delete()
        assert not new.exists()
        rollback()
        assert not new.exists()


def test_existence_costs_one_round_trip_at_most(shop):
    """122. Where the scope does not know the object, exists() loads it, so that get() sends nothing behind it."""
    there, gone = EntityProxy(shop.Person, 1), EntityProxy(shop.Person, 99)
    with db_session:
        with counted(shop.db) as sent:
            assert there.exists()
            assert there.name == "Ann"
        assert sent.round_trips == 1
        with counted(shop.db) as sent:
            assert not gone.exists()
        assert sent.round_trips == 1


def test_existence_of_what_is_known_by_its_key_only(shop):
    """122. A reference to a row does not tell whether it is there still: exists() asks."""
    with db_session:
        order = shop.Order["a"]
        user = order.user
        assert make_proxy(user).exists()
        missing = EntityProxy(shop.Person, 99)
        assert select(o for o in shop.Order if o.user == missing).count() == 0
        assert not missing.exists()


def test_a_row_of_another_class(shop):
    """A proxy of a class gives objects of that class and its subclasses, and of no other."""
    with db_session:
        sue = EntityProxy(shop.Person, 3).get()
        assert type(sue) is shop.Student
        assert EntityProxy(shop.Student, 3).get() is sue
        assert not EntityProxy(shop.Teacher, 3).exists()
        with pytest.raises(ObjectNotFound, match=r"Teacher\[3\] does not exist: .*, or is no Teacher"):
            EntityProxy(shop.Teacher, 3).get()


# --- forwarding ---------------------------------------------------------------------------------------------


def test_attributes_and_methods(shop):
    """122. Attributes are read and assigned, methods and properties used, on the object of the current scope."""
    proxy = EntityProxy(shop.Person, 1)
    with db_session:
        assert proxy.name == "Ann"
        proxy.login_count += 1
        proxy.login_count += 1
        assert shop.Person[1].login_count == 2
        assert (proxy.shouted, proxy.greet("Hello")) == ("ANN", "Hello, Ann")
        assert proxy.to_dict("id name") == {"id": 1, "name": "Ann"}
        assert json.loads(proxy.to_json("login_count")) == {"login_count": 2}
        assert sorted(order.number for order in proxy.orders) == ["a", "b"]
        proxy.orders += [shop.Order(number="c")]
        proxy.shouted = "ANNA"
        assert (proxy.id, proxy.get_pk()) == (1, 1)
    assert rows(shop.db, "SELECT name, login_count FROM person WHERE id = 1") == [("anna", 2)]
    assert rows(shop.db, 'SELECT COUNT(*) FROM "order" WHERE "user" = 1') == [3]
    with db_session:
        assert EntityProxy(shop.Person, 3).school == "MIT"
        proxy.delete()
    assert rows(shop.db, "SELECT COUNT(*) FROM person WHERE id = 1") == [0]


def test_names_of_the_proxy_itself(shop):
    """An attribute that is called as a method of proxies is reached through get()."""
    proxy = EntityProxy(shop.Person, 1)
    with db_session:
        proxy.get().key = "k"
        assert (proxy.get().key, proxy.key()) == ("k", 1)
        with pytest.raises(AttributeError, match=r"write proxy\.get\(\)\.key = \.\.\."):
            proxy.key = "x"
        with pytest.raises(AttributeError, match=r"name cannot be deleted .* assign None"):
            del proxy.name


def test_wrong_names(shop):
    """A name that no object has is an AttributeError at once: without a scope, and without a statement."""
    proxy = EntityProxy(shop.Person, 1)
    with pytest.raises(AttributeError, match=r"cannot read .*nmae: there is no such attribute; did you mean 'name'"):
        _ = proxy.nmae
    assert not hasattr(proxy, "_state_")
    assert not hasattr(proxy, "__iter__")
    with db_session, counted(shop.db) as sent:
        with pytest.raises(
            AttributeError, match=r"cannot assign .*nmae: there is no such attribute; did you mean 'name'"
        ):
            proxy.nmae = 1
        assert not hasattr(proxy, "anything")
        assert not hasattr(proxy, "select")  # a verb of the class
    assert sent.statements == 0
    with db_session, pytest.raises(AttributeError, match="school"):
        _ = proxy.school  # which only students have
    assert {"name", "greet", "exists", "orders"} <= set(dir(proxy))


@pytest.mark.parametrize(
    "doing, what",
    [
        (lambda proxy: proxy.get(), "resolve"),
        (lambda proxy: proxy.exists(), "ask whether there is"),
        (lambda proxy: proxy.name, "read"),
        (lambda proxy: proxy.delete(), "read"),
        (lambda proxy: setattr(proxy, "name", "x"), "assign"),
    ],
)
def test_outside_any_scope(shop, doing, what):
    """122. Outside any scope a proxy names itself, the function, and the way out."""
    proxy = EntityProxy(shop.Person, 1)
    with pytest.raises(
        NoScopeError, match=rf"Cannot {what} <EntityProxy Person\[1\]>.*: .*@db_session on the function"
    ):
        doing(proxy)


def test_looks(shop):
    """repr() shows class and key, and sends nothing, in a scope and outside."""
    texts = ["<EntityProxy Person[1]>", "<EntityProxy Line['a', 1]>"]
    proxies = [EntityProxy(shop.Person, 1), EntityProxy(shop.Line, ("a", 1))]
    assert list(map(repr, proxies)) == texts == list(map(str, proxies))
    with db_session, counted(shop.db) as sent:
        assert list(map(repr, proxies)) == texts
    assert sent.statements == 0


# --- equality, hash, copies, keys ---------------------------------------------------------------------------


def test_equality(shop):
    """122. Proxies are equal, and hash alike, if they stand for one row: by the key as the database has it."""
    proxy = EntityProxy(shop.Person, 1)
    for same in (EntityProxy(shop.Person, "1"), EntityProxy(shop.Person, True), EntityProxy(shop.Person, (1,))):
        assert proxy == same
        assert hash(proxy) == hash(same)
    for other in (EntityProxy(shop.Person, 2), EntityProxy(shop.Order, "1"), 1, "Person[1]", None):
        assert proxy != other
    student = EntityProxy(shop.Student, 3)
    assert student == EntityProxy(shop.Person, 3)
    assert len({student, EntityProxy(shop.Person, 3), EntityProxy(shop.Teacher, 3)}) == 1
    with db_session:
        line = EntityProxy(shop.Line, (shop.Order["a"], 1))
        assert line == EntityProxy(shop.Line, ("a", 1)) == EntityProxy(shop.Line, (EntityProxy(shop.Order, "a"), "1"))
        person = proxy.get()
        assert proxy != person
        assert person != proxy
        assert {proxy: "p", person: "o"} == {proxy: "p", person: "o"}


def test_wrong_keys(shop):
    """A key that does not fit is refused where the proxy is made; so is what is no entity."""
    for entity, key in ((shop.Person, "x"), (shop.Person, None), (shop.Person, (1, 2)), (shop.Line, 1)):
        with pytest.raises(TypeError):
            EntityProxy(entity, key)
    for wrong in (int, "Person", None):
        with pytest.raises(TypeError, match=r"EntityProxy\(User, 7\) takes an entity and a key"):
            EntityProxy(wrong, 1)


def test_before_the_mapping(db):
    """A proxy needs the mapping, which knows what a key is."""

    class User(db.Entity):
        name = Required(str)

    with pytest.raises(MappingError, match="generate_mapping"):
        EntityProxy(User, 1)


@pytest.fixture
def importable(shop, monkeypatch):
    """The entities as if they had been declared at the head of this module, so that pickle finds them."""
    for name in ("Person", "Student", "Line"):
        entity = getattr(shop, name)
        entity.__module__, entity.__qualname__ = __name__, name
        monkeypatch.setitem(globals(), name, entity)
    return shop


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_and_copy(importable, protocol):
    """122. A proxy can be pickled and copied, in a scope and outside; the copy equals it, and resolves by itself."""
    shop = importable
    with db_session:
        made = [make_proxy(shop.Person[1]), make_proxy(shop.Line["a", 2]), make_proxy(shop.Student[3])]
        inside = pickle.dumps(made, protocol)
    assert pickle.dumps(made, protocol) == inside
    for copies in (pickle.loads(inside), copy.deepcopy(made), list(map(copy.copy, made))):
        assert copies == made
        assert list(map(type, copies)) == [EntityProxy] * 3
        assert list(map(repr, copies)) == list(map(repr, made))
        with db_session:
            assert [copies[0].name, copies[1].place, copies[2].school] == ["Ann", 2, "MIT"]


ACCOUNTS = """
from dbsession import Database, Required, db_session

db = Database({url!r})

class Account(db.Entity):
    owner = Required(str)
    balance = Required(int, default=0)

db.generate_mapping(create_tables=True)
"""

MAKES = """
import pickle, sys
from accounts import *
from dbsession import make_proxy

with db_session:
    proxies = [make_proxy(Account(owner=name)) for name in ("Ann", "Bob")]
sys.stdout.buffer.write(pickle.dumps(proxies))
"""

USES = """
import pickle, sys
from accounts import *

proxies = pickle.load(sys.stdin.buffer)
with db_session:
    for proxy in proxies:
        proxy.balance += len(proxy.owner)
"""


def test_from_one_process_to_another(sqlite_file_url, tmp_path):
    """122. A proxy that was pickled in one process resolves in another, which has the same entities."""
    (tmp_path / "accounts.py").write_text(ACCOUNTS.format(url=sqlite_file_url), encoding="utf-8")
    sent = b""
    for program in (MAKES, USES):
        command = [sys.executable, "-c", program]
        paths = os.pathsep.join((str(ROOT), str(tmp_path)))
        done = subprocess.run(command, input=sent, capture_output=True, env={"PYTHONPATH": paths}, check=False)
        assert done.returncode == 0, done.stderr.decode()
        sent = done.stdout
    db = Database(sqlite_file_url)
    with db_session:
        assert db.select("SELECT owner, balance FROM account ORDER BY id") == [("Ann", 3), ("Bob", 3)]
    db.close()


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Size(Enum):
    SMALL = 1


KEYS = [
    (int, 7, 7),
    (str, "seven", "seven"),
    (bool, True, True),
    (float, 1.5, 1.5),
    (Decimal, Decimal("1.50"), "1.50"),
    (date, date(2026, 11, 20), "2026-11-20"),
    (datetime, datetime(2026, 11, 20, 1, 2, 3, 4), "2026-11-20T01:02:03.000004"),
    (time, time(1, 2, 3), "01:02:03"),
    (timedelta, timedelta(days=-1, seconds=5, microseconds=60), "-PT86394.99994S"),
    (UUID, UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (bytes, b"\x00\xff", "AP8="),
    (Colour, Colour.RED, "r"),
    (Size, Size.SMALL, 1),
]


@pytest.mark.parametrize("python, key, text", KEYS, ids=[row[0].__name__ for row in KEYS])
def test_keys_as_json(db, python, key, text):
    """122. key() has the types of JSON; json.dumps() and from_key() bring the proxy back, for each type of key."""

    class Thing(db.Entity):
        key = PrimaryKey(python)
        parts = Set("Part")

    class Part(db.Entity):
        thing = Required(Thing)
        number = Required(int)
        PrimaryKey(thing, number)

    db.generate_mapping(create_tables=True)
    with db_session:
        proxy, part = make_proxy(Thing(key=key)), make_proxy(Part(thing=key, number=1))
    assert (proxy.key(), part.key()) == (text, [text, 1])
    for each in (proxy, part):
        entity = Thing if each is proxy else Part
        back = EntityProxy.from_key(entity, json.loads(json.dumps(each.key())))
        assert back == each
        with db_session:
            assert back.get().get_pk() == (key if each is proxy else (key, 1))


@pytest.mark.parametrize(
    "python, key, error, message",
    [
        (bytes, "*", ValueError, "Thing.key cannot be read from '\\*': .* base64"),
        (timedelta, "1 hour", ValueError, "Thing.key cannot be read from '1 hour': .* ISO 8601"),
        (time, "25:00", ValueError, "Thing.key cannot be read from '25:00'"),
        (UUID, "x", TypeError, "Thing.key must be a UUID"),
        (int, [1, 2], TypeError, "key"),
    ],
)
def test_keys_that_are_no_json_of_one(db, python, key, error, message):
    """Text that is no key is refused, with the attribute and the text."""

    class Thing(db.Entity):
        key = PrimaryKey(python)

    db.generate_mapping(create_tables=True)
    with pytest.raises(error, match=message):
        EntityProxy.from_key(Thing, key)


def test_nested_keys_as_json(shop):
    """122. References within keys are lists within lists, however deep."""
    with db_session:
        note = make_proxy(shop.Note.select().first())
    assert note.key() == ["a", 2]
    assert EntityProxy.from_key(shop.Note, json.loads(json.dumps(note.key()))) == note
