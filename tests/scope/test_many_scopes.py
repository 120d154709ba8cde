"""Thousands of scopes of every kind, one after the other and at once: nothing of them stays behind."""

import contextvars
import gc
import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from dbsession import (
    ObjectNotFound,
    OptimisticCheckError,
    Required,
    Session,
    Set,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.errors import OrmError
from dbsession.model.collections import Collection
from dbsession.model.entity import EntityBase
from dbsession.model.state import State
from dbsession.scope import stack
from dbsession.session.identity_map import IdentityMap
from dbsession.session.journal import Journal
from dbsession.session.link import Link
from dbsession.session.ownership import Owner
from dbsession.session.transaction import Transaction
from dbsession.session.unit_of_work import UnitOfWork
from tests.observing import sent

SCOPES = 10_000
OURS = (
    *(Collection, EntityBase, IdentityMap, Journal, Link, OrmError, Owner, Session, State, stack.Frame),
    *(Transaction, UnitOfWork),
)


class Odd(Exception):
    pass


@pytest.fixture
def entities(db):
    class User(db.Entity):
        name = Required(str, unique=True)
        age = Required(int, default=0)
        orders = Set("Order")

    class Order(db.Entity):
        user = Required(User)
        total = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        for number in range(8):
            Order(user=User(name=f"user {number}"))
    return db.entities


# --- kinds of scopes; *place* is that of the caller, so that callers do not meet -----------------------------------


def _empty(e, place):
    with db_session:
        pass


def _reading(e, place):
    with db_session:
        return e["User"][place], e["User"].get(name="nobody")


def _collection(e, place):
    with db_session:
        return [order.total for order in e["User"][place].orders]


def _missing(e, place):
    with db_session, pytest.raises(ObjectNotFound):
        e["User"][77]


def _writing(e, place):
    with db_session:
        e["User"][place].age += 1


def _making(e, place):
    with db_session:
        user = e["User"][place]
        order = e["Order"](user=user, total=5)
        flush()
        order.delete()
        return order


def _failing(e, place):
    with pytest.raises(Odd), db_session:
        user = e["User"][place]
        user.age += 1
        flush()
        e["Order"](user=user)
        raise Odd


def _refused(e, place):
    with pytest.raises(TransactionIntegrityError), db_session:
        e["User"](name="user 0")


def _swallowed(e, place):
    with db_session:
        user = e["User"][place]
        with pytest.raises(TransactionIntegrityError):
            e["User"](name="user 0").flush()
        rollback()
        return user


def _conflict(e, place):
    def change():
        with db_session:
            e["User"][place].age += 1

    with pytest.raises(OptimisticCheckError), db_session:
        user = e["User"][place]
        user.age += 1
        thread = threading.Thread(target=change)
        thread.start()
        thread.join(30)


def _nested(e, place):
    with db_session:
        user = e["User"][place]
        with db_session:
            user.age += 1
        with db_session:
            return list(e["User"].select(e["User"].age > 0))


def _committing(e, place):
    with db_session(serializable=True, retry=0):
        user = e["User"][place]
        user.age -= 1
        commit()
        return user.age


def _decorated(e, place):
    return db_session(retry=2)(lambda: e["User"][place].name)()


def _in_a_context(e, place):
    return contextvars.copy_context().run(_reading, e, place)


COMMON = (_empty, _reading, _collection, _missing, _writing, _making, _failing, _nested, _decorated, _in_a_context)
RARE = (_refused, _swallowed, _conflict, _committing)  # which take longer: a connection or a thread more


def kinds():
    """Each common kind nineteen times, and then a rare one."""
    rare = itertools.cycle(RARE)
    for number, kind in enumerate(itertools.cycle(COMMON)):
        yield kind if number % 20 else next(rare)


def alive():
    """Count what there is of ours, by class, and of everything."""
    for _ in range(3):  # what a finaliser lets go is found by the next round
        gc.collect()
    objects = gc.get_objects()
    ours = Counter(type(obj).__name__ for obj in objects if isinstance(obj, OURS))
    return ours, len(objects)


def connections_of(db, db_url):
    """Return how many connections there are: in use, idle, and as the database sees them."""
    if db.backend.dialect.name == "sqlite":
        return 0, len(db.backend._idle)
    stats = db.backend._pool.get_stats()
    with psycopg.connect(db_url, autocommit=True) as link:
        seen = link.execute(
            "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'dbsession'"
        ).fetchone()
    assert seen == (stats["pool_size"], 0)
    assert stats["pool_available"] == stats["pool_size"]
    return len(db.backend._holders), stats["pool_size"]


@pytest.mark.slow
def test_ten_thousand_scopes_one_after_the_other(db, db_url, entities):
    """30, 113. After 10,000 scopes no object, session, frame, error or connection of them is left; memory stays level."""
    work = kinds()
    for kind in itertools.islice(work, 500):  # caches are full then
        kind(entities, 1)
    before, everything_before = alive()
    with sent(db) as spent:
        for kind in itertools.islice(work, SCOPES):
            kind(entities, 1)
    ours, everything = alive()
    assert ours == before
    # Far below one object for each scope; a connection more that the pool has made keeps 200, with its caches.
    assert everything - everything_before < (100 if db.backend.dialect.name == "sqlite" else SCOPES / 10)
    assert stack.current_frame() is None
    in_use, kept = connections_of(db, db_url)
    assert in_use == 0 and kept <= 4  # a conflict needs two, and the pool replaces those that failed in advance
    if db.backend.dialect.name == "sqlite":
        assert spent.connections <= 1
    else:  # a failed pipeline costs its connection
        assert spent.connections <= SCOPES / 20


def test_two_thousand_scopes_in_four_threads(db, db_url, entities):
    """113. The same from four threads at once, each with rows of its own; the threads' own memory goes with them."""

    def work(place):
        for kind in itertools.islice(kinds(), 500):
            if kind is not _committing:  # which conflicts with others
                kind(entities, place)
        return stack.current_frame() is None

    def in_threads():
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(work, (1, 3, 5, 7)))

    assert in_threads() == [True] * 4
    before, everything_before = alive()
    assert in_threads() == [True] * 4
    ours, everything = alive()
    assert ours == before
    assert everything - everything_before < 1000
    in_use, kept = connections_of(db, db_url)
    assert in_use == 0 and kept <= 10  # the size of the pool
