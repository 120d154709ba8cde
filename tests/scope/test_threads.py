"""A scope belongs to the thread and task that opened it: others have their own, or get an error that says so."""

import asyncio
import contextvars
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dbsession import (
    ConstraintError,
    Database,
    Json,
    NoScopeError,
    Optional,
    Required,
    ScopeOwnershipError,
    Set,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.model.entity import EntityBase
from dbsession.scope import stack
from dbsession.session.core import SessionCore
from dbsession.session.unit_of_work import UnitOfWork
from tests.observing import elsewhere, left_behind, rows, sent


class Odd(Exception):
    pass


@pytest.fixture
def entities(db):
    class User(db.Entity):
        name = Required(str)
        bio = Optional(str, lazy=True)
        data = Optional(Json)
        orders = Set("Order")
        tags = Set("Tag")

    class Tag(db.Entity):
        users = Set(User)

    class Order(db.Entity):
        user = Required(User)
        total = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        user = User(name="Ann", bio="long", data={"a": 1}, tags=[Tag()])
        Order(user=user, total=5)
        Order(user=User(name="Bob"))
    return db.entities


# --- 113: each has its own --------------------------------------------------------------------------------


def test_threads_have_their_own_objects(entities):
    """113. Threads that are in a scope at the same time have an object each for the same row."""
    User = entities["User"]
    everybody = threading.Barrier(5)

    @db_session
    def read(number):
        user = User[1]
        user.data["mine"] = number
        everybody.wait(30)
        assert user.data == {"a": 1, "mine": number}
        assert User[1] is user
        rollback()
        everybody.wait(30)
        return user, stack.current_session()

    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(read, range(5)))
    assert len({id(user) for user, _ in found}) == 5
    assert len({id(session) for _, session in found}) == 5


def test_threads_see_their_own_work_only(db, entities):
    """113. What one thread has not committed, another does not see; what fails in one stays there."""
    User = entities["User"]

    @db_session
    def write(number):
        User(name=f"user {number}")
        if number % 3 == 0:
            raise Odd
        assert User.select(name=f"user {number - 1}").count() in {0, 1}

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(write, number) for number in range(30)]
    assert [isinstance(future.exception(), Odd) for future in futures] == [n % 3 == 0 for n in range(30)]
    expected = sorted(f"user {number}" for number in range(30) if number % 3)
    assert sorted(rows(db, "SELECT name FROM \"user\" WHERE name LIKE 'user%'")) == expected


def _good(e):
    with db_session:
        e["Order"](user=e["User"](name="x"))


def _failing(e):
    with pytest.raises(Odd), db_session:
        e["Order"](user=e["User"](name="x"))
        flush()
        raise Odd


def _reading(e):
    with db_session:
        for user in e["User"].select():
            list(user.orders)
            list(user.tags)


def _nested(e):
    with db_session, db_session:
        e["User"][1].orders.create(total=1)
        with db_session:
            rollback_by_error = e["User"][1]
            rollback_by_error.data["n"] = 1


def _swallowed(e):
    try:
        with db_session:
            try:
                with db_session:
                    e["User"](name="x")
                    raise Odd
            except Odd:
                pass
    except Exception:
        pass


def _empty(e):
    with db_session:
        pass


def _kept(e):
    with db_session:
        user = e["User"][1]
        user.name, list(user.orders)
        user.delete()
        rollback()
    return user


def test_a_thousand_scopes_leave_nothing_behind(db, entities):
    """113, 30. After 1000 scopes of all kinds no session, no object and no connection is left over."""
    kinds = itertools.cycle([_good, _failing, _reading, _nested, _swallowed, _empty, _kept])
    with left_behind(EntityBase, SessionCore, UnitOfWork, stack.Frame) as left, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda kind: kind(entities) and None, itertools.islice(kinds, 1000)))
    assert left == []
    assert db.counters.connections <= 3


# --- 114: objects and sessions of another thread ----------------------------------------------------------


def needs_the_session(e, user, order, session):
    """Return everything that loads, writes, deletes or flushes by way of an object, or of the session."""
    return {
        "load a lazy attribute": lambda: user.bio,
        "load()": user.load,
        "load a collection": lambda: list(user.orders),
        "count a collection": lambda: user.orders.count(),
        "query a collection": lambda: user.orders.select(),
        "look into a collection": lambda: e["Tag"] and (order in user.tags or list(user.tags)),
        "load what it refers to": lambda: order.user.name,
        "refer to an object that is not known": lambda: order.user,
        "assign": lambda: setattr(user, "name", "x"),
        "assign the same value": lambda: setattr(user, "name", "Ann"),
        "assign an expression": lambda: setattr(order, "total", e["Order"].total + 1),
        "assign a reference": lambda: setattr(order, "user", user),
        "set()": lambda: user.set(name="x"),
        "change in place": lambda: user.data.update(a=2),
        "add": lambda: user.orders.add(order),
        "remove": lambda: user.orders.remove(order),
        "create": lambda: user.orders.create(total=1),
        "clear": lambda: user.orders.clear(),
        "delete": user.delete,
        "flush an object": user.flush,
        "session.flush": session.flush,
        "session.commit": session.commit,
        "session.rollback": session.rollback,
        "session.no_autoflush": lambda: session.no_autoflush().__enter__(),
    }


NEEDS = list(
    needs_the_session({}, *[type("Any", (), dict.fromkeys(["load", "delete", "flush", "commit", "rollback"]))] * 3)
)


@pytest.fixture
def loaded(entities):
    """An open scope with a user and an order that refers to another user, who is not loaded."""
    with db_session as session:
        user, order = entities["User"][1], entities["Order"][2]
        assert (user.name, user.data, order.total) == ("Ann", {"a": 1}, 0)
        yield user, order, session


@pytest.mark.parametrize("need", NEEDS)
def test_another_thread_may_not_use_the_session(db, entities, loaded, need):
    """114. Whatever needs the session is an error in another thread, each time, that names both; nothing is changed."""
    verb = needs_the_session(entities, *loaded)[need]

    def use():
        with sent(db) as spent:
            for _ in range(2):
                with pytest.raises(ScopeOwnershipError) as caught:
                    verb()
                message = str(caught.value)
                assert "belongs to thread 'MainThread'" in message
                assert f"used from thread '{threading.current_thread().name}'" in message
                assert "with db_session:" in message
        assert spent.statements == 0

    elsewhere(use)
    elsewhere(db_session(use))  # a scope of its own does not help
    user, order, session = loaded
    with sent(db) as spent:
        session.commit()
    assert spent.statements == 0
    assert (user.name, user.data, order.total, order.user.name) == ("Ann", {"a": 1}, 0, "Bob")
    assert len(user.orders) == 1


def test_a_dirty_object_may_not_be_flushed_or_deleted_elsewhere(db, entities, loaded):
    """114. The same for an object with unsaved changes, and for one that is marked for deletion."""
    user, order, session = loaded
    user.name = "changed"
    order.delete()
    for obj in (user, order):
        for verb in (obj.flush, obj.delete):
            with pytest.raises(ScopeOwnershipError):
                elsewhere(verb)
    session.commit()
    assert rows(db, 'SELECT name FROM "user" WHERE id = 1') == ["changed"]
    assert rows(db, 'SELECT count(*) FROM "order"') == [1]


def test_reading_what_is_loaded_is_allowed_everywhere(db, entities, loaded):
    """114. What is loaded can be read in any thread: values, references, collections, keys, to_dict, repr."""
    user, order, session = loaded
    orders = list(user.orders)
    assert order.user.name == "Bob"

    def read():
        assert (user.name, user.data["a"], user.id, user.get_pk()) == ("Ann", 1, 1, 1)
        assert list(user.orders) == orders and len(user.orders) == 1 and orders[0] in user.orders
        assert order.user.name == "Bob" and orders[0].user is user
        assert order.to_dict() == {"id": 2, "user": 2, "total": 0}
        assert repr(user) == "User[1]" and repr(session)
        return hash(user) and bool(user)

    with sent(db) as spent:
        assert elsewhere(read)
    assert spent.statements == 0


def test_a_first_read_in_another_thread_is_allowed(entities):
    """114. An attribute that is loaded, and that nobody has looked at yet, is read in any thread as well."""
    with db_session:
        user = entities["User"][1]
        assert elsewhere(lambda: (user.name, dict(user.data))) == ("Ann", {"a": 1})


def test_objects_do_not_mix(entities, loaded):
    """114, 23. An object of one thread's scope cannot be referred to from another's; both are named."""
    user, _, _ = loaded

    @db_session
    def refer():
        with pytest.raises(ConstraintError, match=r"Order\.user cannot refer to User\[1\], which belongs to another"):
            entities["Order"](user=user)
        with pytest.raises(
            ConstraintError, match=r"Order\[1\]\.user cannot refer to User\[1\], which belongs to another"
        ):
            entities["Order"][1].user = user

    elsewhere(refer)


def test_another_thread_has_no_scope(db, entities, loaded):
    """A new thread has no scope, and an error which says so, even while another thread is in one."""
    query = entities["User"].select()
    for verb in (lambda: entities["User"][1], query.fetch, flush, commit, lambda: db.execute("SELECT 1")):
        with pytest.raises(NoScopeError):
            elsewhere(verb)


# --- 114, 115, 118: copied contexts and tasks -------------------------------------------------------------


def test_a_copied_context_does_not_share_the_scope(db, entities):
    """118. In a thread that runs in a copy of the context the scope is seen, and cannot be used; its own can."""
    User = entities["User"]

    def use():
        for verb in (lambda: User[1], lambda: User(name="x"), flush, commit, rollback, lambda: db.select("SELECT 1")):
            with pytest.raises(ScopeOwnershipError, match="open another one there"):
                verb()
        with db_session as session:
            User(name="own")
            assert stack.current_session() is session._core
            with db_session as inner:
                assert inner._core is session._core
        with pytest.raises(ScopeOwnershipError):
            User[1]

    with db_session as outer:
        elsewhere(contextvars.copy_context().run, use)
        assert stack.current_session() is outer._core
        assert User.exists(name="own")
    assert rows(db, 'SELECT count(*) FROM "user" WHERE name = %s', ["own"]) == [1]


def test_retry_works_in_a_copied_context(entities, recwarn):
    """101, 118. A decorated function with retry is outermost in a thread of its own: no warning, and it retries."""
    tried = []

    @db_session(retry=2, retry_exceptions=Odd)
    def work():
        tried.append(entities["User"][1].name)
        if len(tried) < 3:
            raise Odd

    with db_session:
        elsewhere(contextvars.copy_context().run, work)
    assert tried == ["Ann"] * 3
    assert not recwarn.list


def test_a_task_does_not_inherit_the_scope(db, entities):
    """114, 115. A sync scope in a task is not usable from another task; that one opens its own."""
    User = entities["User"]

    async def child(user, session):
        for verb in (
            lambda: User[2],
            lambda: User(name="x"),
            lambda: user.bio,
            lambda: setattr(user, "name", "x"),
            user.delete,
            user.flush,
            session.commit,
            flush,
        ):
            with pytest.raises(ScopeOwnershipError, match=r"belongs to task 'parent', and was used from task 'child'"):
                verb()
        assert user.name == "Ann"
        with db_session as own:
            assert own is not session
            assert User[1] is not user
        return "done"

    async def parent():
        with db_session as session:
            user = User[1]
            assert user.name == "Ann"
            task = asyncio.create_task(child(user, session), name="child")
            assert await task == "done"
            assert stack.current_session() is session._core
            user.name = "changed"

    async def main():
        await asyncio.create_task(parent(), name="parent")

    asyncio.run(main())
    assert rows(db, 'SELECT name FROM "user" WHERE id = 1') == ["changed"]


def test_tasks_side_by_side(db, entities):
    """115. Tasks that are in a scope each, and wait in the middle, keep apart: one fails, the others are saved."""
    User = entities["User"]

    async def work(number, everybody, all_are_in):
        with db_session as session:
            everybody.append(session)
            user = User[1]
            name = user.name
            if len(everybody) == 10:
                all_are_in.set()
            await all_are_in.wait()
            assert stack.current_session() is session._core
            if number % 2:
                raise Odd
            User(name=f"task {number} {name}")

    async def main():
        everybody, all_are_in = [], asyncio.Event()
        tasks = [work(number, everybody, all_are_in) for number in range(10)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    assert [isinstance(result, Odd) for result in results] == [False, True] * 5
    names = rows(db, "SELECT name FROM \"user\" WHERE name LIKE 'task%' ORDER BY name")
    assert names == [f"task {number} Ann" for number in range(0, 10, 2)]


def test_to_thread_and_executors_are_other_threads(entities):
    """118. asyncio.to_thread and run_in_executor: an error each time, not only where it goes wrong by chance."""
    User = entities["User"]

    async def main():
        with db_session:
            user = User[1]
            for _ in range(3):
                with pytest.raises(ScopeOwnershipError):
                    await asyncio.to_thread(lambda: User[2])
                with pytest.raises(ScopeOwnershipError):
                    await asyncio.to_thread(lambda: setattr(user, "name", "x"))
                with pytest.raises((ScopeOwnershipError, NoScopeError)):
                    await asyncio.get_running_loop().run_in_executor(None, lambda: User[2])

    asyncio.run(main())


def test_a_loop_within_a_sync_scope_is_not_the_scope(entities):
    """114. asyncio.run() inside a sync scope: its tasks are not the owner of that scope."""
    User = entities["User"]

    async def use():
        with pytest.raises(ScopeOwnershipError):
            User[1]
        with db_session:
            return User[1].name

    with db_session:
        user = User[1]
        assert asyncio.run(use()) == "Ann"
        assert User[1] is user


def test_thread_ids_that_are_used_again(entities):
    """114. A thread that gets the id of one that has ended is not taken for it."""
    kept = {}

    def leave_open():
        kept["session"] = db_session.__enter__()
        kept["user"] = entities["User"](name="new")  # takes no connection
        kept["id"] = threading.get_ident()

    def use():
        with pytest.raises(ScopeOwnershipError):
            kept["user"].name = "x"
        with pytest.raises(ScopeOwnershipError):
            kept["session"].flush()
        return threading.get_ident() == kept["id"]

    elsewhere(leave_open)
    assert any(elsewhere(use) for _ in range(50))


def test_a_database_of_one_connection(postgres_url):
    """Joined scopes and other threads' finished ones need no second connection."""
    db = Database(postgres_url, max_size=1, timeout=5)

    class User(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        User(name="a").flush()
        with db_session:
            User(name="b").flush()
    elsewhere(db_session(lambda: User(name="c")))
    assert rows(db, 'SELECT name FROM "user" ORDER BY name') == ["a", "b", "c"]
    db.close()
