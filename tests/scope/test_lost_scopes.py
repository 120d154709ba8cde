"""A scope that nobody leaves, and that is gone: its connection is given up, its work undone, and that is said."""

import contextvars
import gc
import threading

import pytest

from dbsession import Database, PoolTimeout, Required, db_session
from dbsession.model.entity import EntityBase
from dbsession.session.core import SessionCore
from dbsession.session.link import Link
from dbsession.session.unit_of_work import UnitOfWork
from tests.observing import elsewhere, rows, sent


def declare(db):
    class Note(db.Entity):
        text = Required(str, unique=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
    return Note


@pytest.fixture
def Note(db):
    return declare(db)


def texts(db):
    return sorted(rows(db, "SELECT text FROM note"))


def lose(work):
    """Enter a scope in a thread that ends without leaving it."""

    def enter():
        db_session.__enter__()
        work()

    elsewhere(enter)
    assert leftovers() == []


def lose_in_a_context(work):
    """Enter a scope in a copy of the context, which nobody has afterwards."""
    context = contextvars.copy_context()
    context.run(db_session.__enter__)
    context.run(work)
    del context
    assert leftovers() == []


_known = set()


@pytest.fixture(autouse=True)
def known():
    """What other tests hold."""
    _known.clear()
    _known.update(map(id, leftovers()))


def leftovers():
    gc.collect()
    kinds = EntityBase | SessionCore | UnitOfWork | Link
    return [obj for obj in gc.get_objects() if isinstance(obj, kinds) and id(obj) not in _known]


GONE = "was never ended, and is gone: its connection was closed, so that what it had not committed is rolled back"


@pytest.mark.parametrize("how", [lose, lose_in_a_context])
def test_a_lost_scope_gives_up_its_connection(db, Note, how):
    """112. The transaction is rolled back, its lock is free, a warning says so, and no object stays behind."""
    with pytest.warns(ResourceWarning, match=GONE) as caught:
        how(lambda: Note(text="lost").flush())
    assert [str(warning.message).count(str(db.backend.url)) for warning in caught] == [1]
    elsewhere(db_session(lambda: Note(text="no lock is held")))
    assert texts(db) == ["first", "no lock is held"]


def test_a_lost_scope_that_has_no_connection_says_nothing(db, Note):
    """112. What took no connection has nothing to give up."""
    with sent(db) as spent:
        lose(lambda: Note(text="never sent"))
        lose_in_a_context(lambda: None)
    assert spent.statements == 0
    assert texts(db) == ["first"]


def test_a_scope_that_was_left_is_no_lost_one(db, Note):
    """112. However a scope is left, nothing is said of it later."""
    with db_session:
        Note(text="saved")
    with pytest.raises(ZeroDivisionError), db_session:
        Note(text="undone").flush()
        1 / 0
    assert leftovers() == []  # a warning would be an error here
    assert texts(db) == ["first", "saved"]


def test_lost_scopes_free_their_places_in_the_pool(postgres_url):
    """112, 109. A pool of 2 whose connections were lost, again and again, has both of them for others."""
    db = Database(postgres_url, max_size=2, timeout=5)
    Note = declare(db)
    for number in range(10):
        with pytest.warns(ResourceWarning, match=GONE):
            lose(lambda number=number: Note(text=f"lost {number}").flush())
    both = threading.Barrier(2)

    @db_session
    def work(number):
        Note(text=f"thread {number}").flush()
        both.wait(30)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert texts(db) == ["first", "thread 0", "thread 1"]
    assert len(db.backend._holders) == 0
    db.close()


def test_whoever_waits_gets_the_place_of_a_lost_scope(postgres_url):
    """112, 109. A scope that waits for a connection gets the one of a scope that is found lost meanwhile."""
    db = Database(postgres_url, max_size=1, timeout=60)
    Note = declare(db)
    context = contextvars.copy_context()
    context.run(db_session.__enter__)
    context.run(lambda: Note(text="lost").flush())
    db.backend._timeout, patience = 0.01, db.backend._timeout
    with pytest.raises(PoolTimeout), db_session:
        Note[1]
    db.backend._timeout = patience
    waiting = threading.Event()
    take = db.backend._take

    def noted(deadline):
        waiting.set()
        return take(deadline)

    db.backend._take = noted
    waiter = threading.Thread(target=db_session(lambda: Note(text="waited")))
    waiter.start()
    assert waiting.wait(30)
    del context
    with pytest.warns(ResourceWarning, match=GONE):
        gc.collect()
    waiter.join(60)
    assert texts(db) == ["first", "waited"]
    db.close()
