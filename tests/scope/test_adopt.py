"""session.adopt(): a session is handed from one thread, task or context to another, and has one user at a time."""

import asyncio
import contextvars
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import psycopg
import pytest

from dbsession import (
    Database,
    DatabaseSessionIsOver,
    NestedScopeError,
    NoScopeError,
    Required,
    ScopeOwnershipError,
    Set,
    db_session,
    flush,
    on_commit,
    on_rollback,
    savepoint,
)
from dbsession.scope import stack
from tests.observing import rows, wait_until_blocked


class Odd(Exception):
    pass


@pytest.fixture
def desk(db):
    class Folder(db.Entity):
        name = Required(str)
        sheets = Set("Sheet")

    class Sheet(db.Entity):
        text = Required(str)
        folder = Required(Folder)

    db.generate_mapping(create_tables=True)
    with db_session:
        Sheet(text="old", folder=Folder(name="blue"))
    return SimpleNamespace(db=db, Folder=Folder, Sheet=Sheet)


class Worker:
    """A thread that does one thing after the other; its context keeps what was entered."""

    def __init__(self, name):
        self.pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def do(self, function, *args):
        return self.pool.submit(function, *args).result(60)

    def enter(self, scope=db_session):
        return self.do(scope.__enter__)

    def leave(self, scope=db_session, error=None):
        return self.do(lambda: scope.__exit__(*(() if error is None else (type(error), error, None))))


@pytest.fixture
def workers():
    """Three threads."""
    with ExitStack() as closing:
        three = [Worker(name) for name in ("anna", "bert", "carl")]
        for worker in three:
            closing.callback(worker.pool.shutdown)
        yield three


def texts(desk):
    return sorted(rows(desk.db, "SELECT text FROM sheet"))


def test_from_thread_to_thread(desk, workers):
    """118. Entered in A, used in B, left in C: one session, one identity map, one commit."""
    anna, bert, carl = workers
    session = anna.enter()
    sheet = anna.do(lambda: desk.Sheet.get(text="old"))

    def work():
        session.adopt()
        assert stack.current_session() is session._core
        assert desk.Sheet.get(text="old") is sheet
        sheet.text = "changed"
        desk.Sheet(text="new", folder=sheet.folder)
        flush()

    bert.do(work)

    def leave():
        session.adopt()
        assert {each.text for each in sheet.folder.sheets} == {"changed", "new"}
        db_session.__exit__()

    carl.do(leave)
    assert texts(desk) == ["changed", "new"]
    for worker in workers:  # nothing of it is left anywhere
        with pytest.raises((NoScopeError, ScopeOwnershipError)):
            worker.do(flush)
        worker.do(db_session(lambda: desk.Folder.get(name="blue")))


def test_the_old_place_has_it_no_more(desk, workers):
    """118. Where it was handed on from, the session and its objects are refused, and a scope of one's own is not."""
    anna, bert, _ = workers
    session = anna.enter()
    sheet = anna.do(lambda: desk.Sheet.get(text="old"))
    bert.do(session.adopt)
    uses = [
        flush,
        session.flush,
        session.commit,
        session.rollback,
        lambda: desk.Sheet.get(text="old"),
        lambda: setattr(sheet, "text", "changed"),
        sheet.delete,
        lambda: sheet.folder.sheets.load(),
        lambda: savepoint().__enter__(),
        lambda: on_commit(lambda: None),
    ]
    for use in uses:
        for _ in range(2):
            with pytest.raises(ScopeOwnershipError, match="bert"):
                anna.do(use)
    assert anna.do(lambda: sheet.text) == "old"

    @db_session
    def own():
        assert stack.current_session() is not session._core
        desk.Sheet(text="anna's own", folder=desk.Folder.get(name="blue"))

    anna.do(own)
    bert.do(lambda: setattr(sheet, "text", "bert's"))
    bert.leave()
    assert texts(desk) == ["anna's own", "bert's"]


def test_there_and_back(desk, workers):
    """118. A session comes back by adopt(), any number of times; where it is already, adopt() changes nothing."""
    anna, bert, _ = workers
    session = anna.enter()
    for number in range(3):
        for worker in (bert, anna, anna):
            worker.do(session.adopt)
            worker.do(lambda name=f"{number}": desk.Sheet(text=name, folder=desk.Folder.get(name="blue")))
    anna.leave()
    assert texts(desk) == [*"000111222", "old"]


def test_from_a_thread_that_has_ended(desk):
    """118. The thread that opened the scope is gone, and its id may be used again: the session can still be adopted."""
    sessions = []
    thread = threading.Thread(target=lambda: sessions.append(db_session.__enter__()))
    thread.start()
    thread.join(60)
    del thread
    gc.collect()
    with pytest.raises(ScopeOwnershipError):
        sessions[0].flush()
    sessions[0].adopt()
    desk.Sheet(text="new", folder=desk.Folder.get(name="blue"))
    db_session.__exit__()
    assert texts(desk) == ["new", "old"]


def test_a_failure_elsewhere(desk, workers):
    """3. Left by an error where it was handed to: rolled back, and the hooks run there."""
    anna, bert, _ = workers
    session = anna.enter()
    names = []
    anna.do(lambda: desk.Sheet(text="new", folder=desk.Folder.get(name="blue")))
    bert.do(session.adopt)
    bert.do(flush)
    bert.do(on_rollback, lambda: names.append(threading.current_thread().name))
    bert.leave(error=Odd())
    assert [name.startswith("bert") for name in names] == [True]
    assert texts(desk) == ["old"]


def test_inner_scopes(desk, workers):
    """75. An inner scope is entered in A and fails in B: what both have done in it is undone, and only that."""
    anna, bert, carl = workers
    session = anna.enter()
    sheet = anna.do(lambda: desk.Sheet.get(text="old"))
    anna.do(lambda: setattr(sheet, "text", "outer"))
    anna.enter(savepoint())
    anna.do(lambda: setattr(sheet, "text", "inner"))
    bert.do(session.adopt)
    bert.do(lambda: desk.Sheet(text="inner too", folder=sheet.folder))
    bert.do(flush)
    bert.leave(savepoint(), Odd())
    carl.do(session.adopt)
    assert carl.do(lambda: sheet.text) == "outer"
    carl.leave()
    assert texts(desk) == ["outer"]


def test_after_the_end(desk, workers):
    """There is nothing to adopt when the scope has ended, wherever that was."""
    anna, bert, _ = workers
    session = anna.enter()
    bert.do(session.adopt)
    bert.leave()
    for worker in (anna, bert):
        with pytest.raises(DatabaseSessionIsOver, match="Cannot adopt"):
            worker.do(session.adopt)
    with db_session as ended:
        pass
    with pytest.raises(DatabaseSessionIsOver):
        ended.adopt()


def test_within_another_scope(desk, workers):
    """A scope that is open here would be left in the adopted one's place: an error, and both stay what they are."""
    anna, bert, _ = workers
    session = anna.enter()
    own = bert.enter()
    with pytest.raises(NestedScopeError, match="leave that one first"):
        bert.do(session.adopt)
    assert bert.do(stack.current_session) is own._core
    assert anna.do(stack.current_session) is session._core
    bert.do(lambda: desk.Sheet(text="bert's", folder=desk.Folder.get(name="blue")))
    bert.leave()
    bert.do(session.adopt)
    bert.do(lambda: desk.Sheet(text="anna's", folder=desk.Folder.get(name="blue")))
    bert.leave()
    assert texts(desk) == ["anna's", "bert's", "old"]


def test_an_independent_scope_is_handed_on_with_its_outer_one(desk, workers):
    """Both sessions of nested independent scopes can be adopted, the outer one first, and are left in the usual order."""
    anna, bert, _ = workers
    independent = db_session(nested="independent")
    outer, inner = anna.enter(), anna.enter(independent)
    bert.do(outer.adopt)
    bert.do(inner.adopt)
    assert bert.do(stack.current_session) is inner._core
    bert.do(lambda: desk.Sheet(text="independent", folder=desk.Folder.get(name="blue")))
    bert.leave(independent)
    assert bert.do(stack.current_session) is outer._core
    bert.leave(error=Odd())
    assert texts(desk) == ["independent", "old"]


# --- two users at once ---------------------------------------------------------------------------------------------


def test_at_work_elsewhere(postgres_url, workers):
    """114. While A waits for an answer of the database, B cannot adopt the session: an error, each time, that says so."""
    anna, bert, _ = workers
    db = Database(postgres_url)

    class Sheet(db.Entity):
        text = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Sheet(text="old")
    with psycopg.connect(postgres_url) as holder, psycopg.connect(postgres_url, autocommit=True) as watcher:
        holder.execute("SELECT * FROM sheet FOR UPDATE")
        session = anna.enter()
        waiting = anna.pool.submit(lambda: Sheet.get_for_update(text="old"))
        wait_until_blocked(watcher, 1)
        for _ in range(3):
            with pytest.raises(ScopeOwnershipError, match="two users of one session"):
                bert.do(session.adopt)
            with pytest.raises(ScopeOwnershipError):
                bert.do(session.flush)
        holder.rollback()
        sheet = waiting.result(60)
    bert.do(session.adopt)
    bert.do(lambda: setattr(sheet, "text", "changed"))
    bert.leave()
    assert rows(db, "SELECT text FROM sheet") == ["changed"]
    db.close()


# --- contexts and tasks ----------------------------------------------------------------------------------------------


def test_a_copied_context(desk, workers):
    """118. In a thread that runs in a copy of the context the scope is refused until it is adopted there."""
    _, bert, _ = workers
    with db_session as session:
        sheet = desk.Sheet.get(text="old")

        def work():
            with pytest.raises(ScopeOwnershipError):
                flush()
            session.adopt()
            sheet.text = "changed there"
            flush()

        bert.do(contextvars.copy_context().run, work)
        with pytest.raises(ScopeOwnershipError):
            flush()
        session.adopt()
        assert sheet.text == "changed there"
        sheet.text = "changed here"
    assert texts(desk) == ["changed here"]


def test_left_in_a_copied_context(desk, workers):
    """118. Frameworks enter a scope in one thread and leave it in a copy of the context in another."""
    anna, bert, _ = workers
    context = anna.do(contextvars.copy_context)
    session = anna.do(context.run, db_session.__enter__)
    anna.do(context.run, lambda: desk.Sheet(text="new", folder=desk.Folder.get(name="blue")))

    def leave():
        session.adopt()
        db_session.__exit__()

    bert.do(context.copy().run, leave)
    assert texts(desk) == ["new", "old"]
    with pytest.raises(NoScopeError):
        bert.do(flush)
    anna.do(context.run, db_session(lambda: desk.Folder.get(name="blue")))  # the stale frame is in nobody's way


def test_from_task_to_task(desk):
    """115. A child task has no part in the scope of its parent, until it adopts it; then the parent has none."""

    async def child(session):
        with pytest.raises(ScopeOwnershipError, match="task"):
            desk.Sheet.get(text="old")
        session.adopt()
        desk.Sheet.get(text="old").text = "by the child"
        flush()

    async def parent():
        with db_session as session:
            await asyncio.create_task(child(session))
            with pytest.raises(ScopeOwnershipError):
                flush()
            session.adopt()
            assert desk.Sheet.get(text="by the child") is not None

    asyncio.run(parent())
    assert texts(desk) == ["by the child"]


def test_from_a_task_to_a_thread(desk):
    """118. asyncio.to_thread copies the context: adopt() makes the scope usable in the thread, and back in the task."""

    async def main():
        with db_session as session:
            sheet = desk.Sheet.get(text="old")

            def work():
                with pytest.raises(ScopeOwnershipError):
                    sheet.text = "changed"
                session.adopt()
                sheet.text = "changed"
                flush()

            await asyncio.to_thread(work)
            session.adopt()
            desk.Sheet(text="new", folder=sheet.folder)

    asyncio.run(main())
    assert texts(desk) == ["changed", "new"]
