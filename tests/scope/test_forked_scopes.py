"""Fork: what the parent has opened is the parent's; the child is told so, and opens scopes of its own."""

import os
import threading
import warnings

import pytest

from dbsession import Database, Required, Session, commit, db_session, flush, rollback
from dbsession.scope import stack
from tests.observing import elsewhere, rows, sent

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


def declare(db):
    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)

    return Note


@pytest.fixture
def url(db_url, tmp_path):
    """A database that two processes can reach."""
    return f"sqlite:///{tmp_path}/forked.db" if db_url == "sqlite://" else db_url


@pytest.fixture
def db(url):
    db = Database(url)
    yield db
    db.close()


@pytest.fixture
def Note(db):
    Note = declare(db)
    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
    return Note


def in_child(*checks):
    """Fork, run each of *checks* in the child, and return what they returned or raised, as texts."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        answers = []
        for check in checks:
            try:
                answers.append(str(check()))
            except BaseException as exc:
                answers.append(f"{type(exc).__name__}: {exc}")
        os.write(sink, "\n".join(answers).encode())
        os._exit(0)
    os.close(sink)
    assert os.waitpid(pid, 0)[1] == 0
    with os.fdopen(source) as pipe:
        return pipe.read().split("\n")


def own_work(url, text):
    """Return a function that saves a note with a Database of its own."""

    def work():
        db = Database(url)
        Note = declare(db)
        db.generate_mapping()
        with db_session:
            Note(text=text)
        with db_session:
            found = Note.get(text=text).text
        db.close()
        return found

    return work


def texts(db):
    return sorted(rows(db, "SELECT text FROM note"))


REFUSED = "SessionForkError: "


def test_a_scope_on_the_database_of_the_parent(db, Note, url):
    """111. A child that opens a scope on its parent's Database is refused; on one of its own it works."""

    def read():
        with db_session:
            return Note[1].text

    def write():
        with db_session:
            Note(text="lost")

    *refused, empty, own = in_child(read, write, db_session(read), empty_scope, own_work(url, "child"))
    assert [answer.startswith(REFUSED) and "make a new Database in the child" in answer for answer in refused] == [
        True
    ] * 3
    assert (empty, own) == ("None", "child")
    with db_session:
        Note[1].likes += 1
        Note(text="parent")
    assert texts(db) == ["child", "first", "parent"]


def empty_scope():
    with db_session:
        pass


@pytest.mark.parametrize("stage", ["unused", "pending", "read", "written", "locked"])
def test_within_a_scope_of_the_parent(db, Note, url, stage):
    """111. In the child nothing of the parent's open scope can be used, and the scope goes on unharmed in the parent."""
    scope = db_session(immediate=stage == "locked")
    with sent(db) as spent, scope as session:
        note = None
        if stage == "pending":
            Note(text="parent")
        if stage in ("read", "locked"):
            note = Note[1]
            assert note.text == "first"
        if stage == "written":
            Note(text="parent").flush()
        checks = {
            "get": lambda: Note[1],
            "new": lambda: Note(text="lost"),
            "raw": lambda: db.execute("UPDATE note SET likes = 99"),
            "flush": flush,
            "commit": commit,
            "rollback": rollback,
            "session.commit": session.commit,
            "session.adopt": session.adopt,
        }
        if note is not None:
            checks["assign"] = lambda: setattr(note, "likes", 99)
            checks["delete"] = note.delete
        if stage != "unused":  # which has nothing to lose
            checks["leave"] = scope.__exit__
        answers = in_child(*checks.values())
        assert {name: answer.partition(": ")[0] for name, answer in zip(checks, answers, strict=True)} == dict.fromkeys(
            checks, "SessionForkError"
        )
        assert stack.current_session() is session._core
        if note is not None:
            note.likes += 1
        if stage in ("unused", "read", "locked"):
            Note(text="parent")
    assert spent.connections == 0
    assert texts(db) == ["first", "parent"]
    assert rows(db, "SELECT likes FROM note WHERE id = 1") == [1 if note is not None else 0]


def test_a_scope_of_the_child_does_not_join_that_of_the_parent(db, Note, url):
    """111. Within the parent's open scope the child opens an outermost one: its work is committed when it ends."""
    with db_session as session:
        Note[1]  # a reader, which keeps nobody from writing
        assert in_child(own_work(url, "child"), lambda: stack.current_frame().session is session._core) == [
            "child",
            "True",
        ]
        assert texts(db) == ["child", "first"]
        Note(text="parent")
    assert texts(db) == ["child", "first", "parent"]


def test_what_is_loaded_can_be_read_in_the_child(db, Note):
    """111. Values that were loaded are the child's to read, as after a scope."""
    with db_session:
        note = Note[1]
        assert note.text == "first"
        read, write = in_child(lambda: (note.text, note.likes, note.id, repr(note)), lambda: note.set(likes=3))
    assert read == "('first', 0, 1, 'Note[1]')"
    assert write.startswith("SessionForkError: this db_session was opened by the parent process")


def test_close_lets_the_child_use_the_database(db, Note, url):
    """111. db.close() in the child closes nothing of the parent's, and lets the child open connections of its own."""

    def use():
        db.close()
        with db_session:
            Note(text="child")
        return Note.__name__

    with db_session:
        Note[1]
        assert in_child(use) == ["Note"]
        Note(text="parent").flush()
        Note[1].likes += 1
    assert texts(db) == ["child", "first", "parent"]


def test_the_end_of_a_child(db, Note, url):
    """111. A child that leaves the parent's block, by its end or by an exception, ends nothing of the parent's."""
    for end in (lambda: None, lambda: 1 / 0, lambda: os._exit(0)):
        with db_session:
            Note[1].likes += 1
            flush()
            pid = os.fork()
            if pid == 0:
                try:
                    with db_session:  # joins nothing
                        end()
                    stack.current_session().commit()
                except BaseException:
                    os._exit(0)
                os._exit(1)
            assert os.waitpid(pid, 0)[1] == 0
            Note[1].likes += 1
    assert rows(db, "SELECT likes FROM note") == [6]


def test_a_fork_while_other_threads_work(db, Note, url):
    """111. Scopes of other threads go on as if there had been no fork, and the child can work meanwhile."""
    inside, forked = threading.Barrier(4), threading.Event()

    @db_session
    def work(number):
        Note[1]
        inside.wait(30)
        assert forked.wait(30)
        Note(text=f"thread {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    inside.wait(30)
    assert in_child(own_work(url, "child")) == ["child"]
    forked.set()
    for thread in threads:
        thread.join(30)
    assert texts(db) == ["child", "first", "thread 0", "thread 1", "thread 2"]


def test_a_child_of_a_child(db, Note, url):
    """111. What the child has opened is not its own child's either."""

    def nest():
        own = Database(url)
        Own = declare(own)
        own.generate_mapping()
        with db_session:
            Own(text="child").flush()
            first, second = in_child(lambda: Own[1], lambda: Note[1])
            Own[1].likes += 1
        own.close()
        return first.startswith(REFUSED), second.startswith(REFUSED)

    assert in_child(nest) == ["(True, True)"]
    assert texts(db) == ["child", "first"]
    assert elsewhere(db_session(lambda: Note[1].likes)) == 1


def test_an_open_session_of_the_parent_says_nothing_in_the_child(db, Note):
    """111, 112. A session that the parent holds is not lost where the child's copy of it goes; the parent goes on."""
    held = [Session(db)]
    held[0].add(Note(text="parent"))
    held[0].flush()

    def let_go():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            held.clear()
        return [str(warning.message) for warning in caught]

    assert in_child(let_go) == ["[]"]
    held[0].commit()
    held[0].close()
    assert "parent" in rows(db, "SELECT text FROM note")
