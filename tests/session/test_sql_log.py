"""The log of what is sent: a line a statement, the SQL first, values only for who has asked for them."""

import logging
import subprocess
import sys

import pytest

from dbsession import Required, db_session, set_sql_debug
from dbsession.session.sql_log import make_sql_log

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def quiet():
    """Whatever a test switches on is off again."""
    yield
    set_sql_debug(False, show_values=False)


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str)
        likes = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
    return Note


@pytest.fixture
def lines(caplog):
    """What the logger got."""
    caplog.set_level(logging.INFO, logger="dbsession.sql")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "dbsession.sql"]


def words(lines):
    return [line.split()[0] for line in lines]


def log_with(db, **options):
    """Give the session here a log of its own, as its options would."""
    db.gateway.unit().link.log = make_sql_log(**options)


def test_nothing_is_logged_at_first(db, Note, lines):
    """Nobody has asked for it."""
    with db_session:
        Note(text=SECRET)
    assert lines() == []


def test_a_line_for_each_statement(db, Note, lines):
    """In the order in which they are sent, BEGIN and COMMIT with them, and what fails, too."""
    set_sql_debug()
    with db_session:
        Note[1].likes = 5
        Note(text="second")
    assert words(lines()) == ["SELECT", "BEGIN", "INSERT", "UPDATE", "COMMIT"]
    with pytest.raises(Exception, match="nowhere"), db_session:
        db.select("SELECT a FROM nowhere")
    assert lines()[-1] == "SELECT a FROM nowhere"


def test_a_statement_is_one_line(db, Note, lines):
    """However many lines it was written in; blanks within a line stay, since they may be of a text."""
    set_sql_debug()
    with db_session:
        db.select("""
            SELECT 'a  b'
              FROM note
        """)
    assert lines() == ["SELECT 'a  b' FROM note"]


def test_many_runs(db, Note, lines):
    """A statement that is run for many rows is one line, with their number."""
    with db_session:
        for number in range(3):
            Note(text=str(number))
    set_sql_debug()
    with db_session:
        for note in Note.select():
            note.likes = 7
    [update] = [line for line in lines() if line.startswith("UPDATE")]
    assert update.endswith("  -- 4 runs")


@pytest.mark.parametrize("show_values", [None, False, True])
def test_values(db, Note, lines, show_values):
    """They are shown only if somebody has said so."""
    set_sql_debug(True, show_values)
    with db_session:
        Note(text=SECRET)
        assert Note.get(text=SECRET).likes == 0
        db.execute("SELECT %s", (SECRET,))
    assert len(lines()) >= 4
    assert any(SECRET in line for line in lines()) is (show_values is True)
    assert all(line.split()[0] in {"BEGIN", "INSERT", "SELECT", "COMMIT"} for line in lines())


def test_values_of_many_runs(db, Note, lines):
    """All runs have theirs, as far as a line should go."""
    with db_session:
        Note(text="second")
    for text in ("y", "x" * 5000):
        set_sql_debug(show_values=True)
        with db_session:
            for note in Note.select():
                note.text = text
    short, long = [line for line in lines() if line.startswith("UPDATE")]
    assert "  -- 2 runs  -- [" in short
    assert short.count("'y'") == 2
    assert long.endswith("xxx...")
    assert len(long) < 2500


def test_values_stay_as_they_were_set(db, Note, lines):
    """set_sql_debug() without show_values leaves that setting alone."""
    set_sql_debug(True, True)
    set_sql_debug(False)
    set_sql_debug(True)
    with db_session:
        Note.get(text=SECRET)
    assert SECRET in lines()[0]


def test_it_can_be_switched_within_a_scope(db, Note, lines):
    """Sessions that were open before follow, too."""
    with db_session:
        Note[1]
        set_sql_debug()
        Note.get(text="a")
        set_sql_debug(False)
        Note.get(text="b")
    assert len(lines()) == 1


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("debug", [None, False, True])
def test_the_log_of_one_session(db, Note, lines, everywhere, debug):
    """A session that says True or False is logged or not, whatever holds for all; None follows."""
    set_sql_debug(everywhere)
    with db_session:
        log_with(db, debug=debug, show_values=True)
        Note.get(text=SECRET)
    shown = everywhere if debug is None else debug
    assert [SECRET in line for line in lines()] == [True] * shown


def test_other_sessions_are_not_logged(db, Note, lines):
    """What one session asks for holds for that one."""
    with db_session:
        log_with(db, debug=True)
        Note.get(text="a")
    with db_session:
        Note.get(text="b")
    assert len(lines()) == 1


@pytest.mark.parametrize("given", [(1,), ("yes",), (True, "no"), (None,)], ids=str)
def test_what_is_no_setting(given):
    """A str would be true by accident."""
    with pytest.raises(TypeError, match=r"set_sql_debug\(\) takes True or False"):
        set_sql_debug(*given)


PROGRAM = """
import logging, sys
from dbsession import Database, db_session, set_sql_debug
{configure}
set_sql_debug()
with db_session:
    Database("sqlite://").select("SELECT 42")
"""


@pytest.mark.parametrize(
    ("configure", "expected"),
    [
        ("", "SELECT 42\n"),
        ("logging.basicConfig(level=logging.INFO, format='log: %(message)s')", "log: SELECT 42\n"),
        ("logging.basicConfig()", ""),
        ("logging.getLogger('dbsession').addHandler(logging.NullHandler())", ""),
    ],
    ids=["not configured", "configured", "level too high", "no handler wanted"],
)
def test_where_it_goes(configure, expected):
    """Where the program has set up no logging at all, to stderr; where it has, that decides."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(configure=configure)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", expected)
