"""Optimistic checks: no update is lost, and no conflict is reported where there is none."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession import (
    Json,
    ObjectNotFound,
    OptimisticCheckError,
    Optional,
    Required,
    Set,
    Version,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.conftest import SELECTED
from tests.observing import elsewhere, rows, sent


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@pytest.fixture
def entities(db):
    class Team(db.Entity):
        name = Required(str)
        users = Set("User")

    class User(db.Entity):
        name = Required(str)
        age = Optional(int)
        nick = Optional(str)
        score = Optional(float)
        strict = Optional(float, optimistic=True)
        data = Optional(Json)
        seen = Optional(int, volatile=True)
        clicks = Optional(int, optimistic=False)
        team = Optional(Team)

    class Doc(db.Entity):
        title = Required(str)
        text = Optional(str)
        version = Version()

    db.generate_mapping(create_tables=True)
    with db_session:
        team = Team(name="a")
        Team(name="b")
        User(name="Ann", age=30, score=0.5, strict=0.5, data={"a": 1}, seen=1, clicks=1, team=team)
        User(name="Bob")
        Doc(title="doc")
    return db.entities


def change(entity, key=1, **values):
    """Let somebody else change an object and commit."""
    elsewhere(db_session(lambda: entity[key].set(**values)))


def column(db, name, table='"user"'):
    return rows(db, f"SELECT {name} FROM {table} WHERE id = 1")[0]


# --- what is a conflict -----------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [flush, commit, lambda: None], ids=["flush", "commit", "leave"])
def test_a_lost_update_is_a_conflict(db, entities, save):
    """89. Both read the row and both change it: the second one gets a conflict, and its work is not saved."""
    User = entities["User"]
    with pytest.raises(OptimisticCheckError), db_session:
        user = User[1]
        new_age = user.age + 1
        change(User, age=50)
        user.age = new_age
        save()
    assert column(db, "age") == 50


def test_the_error_says_what_happened(entities):
    """89. The error names object, attribute, the value seen and the value found, and what to do."""
    User = entities["User"]
    with pytest.raises(OptimisticCheckError) as caught, db_session:
        user = User[1]
        assert (user.name, user.age, user.nick) == ("Ann", 30, None)
        change(User, age=50, nick="x")
        user.name = "Ann B."
    error = caught.value
    message = str(error)
    assert "User[1] was changed by somebody else since it was read here" in message
    assert "age: 30 was seen, 50 is there now" in message
    assert "nick: None was seen, 'x' is there now" in message
    assert "name" not in message
    assert "@db_session(retry=...)" in message and "get_for_update()" in message
    assert error.obj is user
    assert sorted(error.differences) == [("age", 30, 50), ("nick", None, "x")]


def test_what_was_read_counts_not_only_what_is_written(db, entities):
    """89. A decision that rests on a value is wrong once the value has changed, whatever it was about."""
    User = entities["User"]
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 17 is there now"), db_session:
        user = User[1]
        if user.age >= 18:
            change(User, age=17)
            user.name = "adult"
    assert column(db, "name") == "Ann"


def test_what_was_filtered_by_counts_as_read(db, entities):
    """89. The same for a value that only the condition of a query has looked at."""
    User = entities["User"]
    for find in (lambda: User.get(age=30), lambda: User.select(User.age > 18).first()):
        with pytest.raises(OptimisticCheckError, match="age: 30"), db_session:
            user = find()
            change(User, age=17)
            user.name = "adult"
        change(User, age=30)
    assert column(db, "name") == "Ann"


def test_null_is_a_value_like_others(db, entities):
    """NULL that has become a value is a conflict, and a value that has become NULL; NULL that stays is none."""
    User = entities["User"]
    with pytest.raises(OptimisticCheckError, match="nick: None was seen, 'x' is there now"), db_session:
        user = User[1]
        assert user.nick is None
        change(User, nick="x")
        user.name = "changed"
    with pytest.raises(OptimisticCheckError, match="nick: 'x' was seen, None is there now"), db_session:
        user = User[1]
        assert user.nick == "x"
        change(User, nick=None)
        user.name = "changed"
    with db_session:
        user = User[1]
        assert user.nick is None
        user.name = "changed"
    assert column(db, "name") == "changed"


def test_a_reference_is_checked(db, entities):
    """A reference that was read and now refers to another object is a conflict."""
    User, Team = entities["User"], entities["Team"]
    with pytest.raises(OptimisticCheckError, match="team: 1 was seen, 2 is there now"), db_session:
        user = User[1]
        assert user.team.name == "a"
        elsewhere(db_session(lambda: User[1].set(team=Team[2])))
        user.name = "changed"
    with pytest.raises(OptimisticCheckError, match="team: 2 was seen, None is there now"), db_session:
        user = User[1]
        assert user.team.name == "b"
        change(User, team=None)
        user.team = Team[1]
    assert column(db, "team") is None


def test_an_expression_is_checked_if_its_attribute_was_read(db, entities):
    """`user.age = User.age + 1` needs no check of its own; but if age was read before, a change of it is a conflict."""
    User = entities["User"]
    with db_session:
        user = User[1]
        change(User, age=40)
        user.age = User.age + 1
        flush()
        assert user.age == 41
    with pytest.raises(OptimisticCheckError, match="age: 41 was seen, 60 is there now") as caught, db_session:
        user = User[1]
        assert user.age == 41
        change(User, age=60)
        user.age = User.age + 1
    assert caught.value.differences == [("age", 41, 60)]
    assert column(db, "age") == 60


# --- deletion ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [lambda user: user.set(age=5), lambda user: user.delete()], ids=["update", "delete"])
def test_a_row_that_is_gone_is_a_conflict(db, entities, verb):
    """92. Changing or deleting an object whose row was deleted elsewhere is a conflict, even if nothing was read."""
    User = entities["User"]
    with (
        pytest.raises(OptimisticCheckError, match=r"User\[1\] was deleted by somebody else since") as caught,
        db_session,
    ):
        user = User[1]
        User(name="new")
        elsewhere(db_session(lambda: User[1].delete()))
        verb(user)
    assert caught.value.obj is user
    assert rows(db, 'SELECT name FROM "user"') == ["Bob"]


def test_a_delete_is_checked(db, entities):
    """92. Deleting an object that has changed since it was read is a conflict; if it was not looked at, it is none."""
    User = entities["User"]
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 31 is there now"), db_session:
        user = User[1]
        if user.age < 31:
            change(User, age=31)
            user.delete()
    assert column(db, "age") == 31
    with db_session:
        user = User[1]
        change(User, age=32)
        user.delete()
    assert rows(db, 'SELECT name FROM "user"') == ["Bob"]


# --- what is none -----------------------------------------------------------------------------------------


def test_what_was_neither_read_nor_written_does_not_matter(db, entities):
    """95. Another column changed elsewhere is no conflict, and both changes stay."""
    User = entities["User"]
    with db_session:
        user = User[1]
        assert user.name == "Ann"
        change(User, age=50, nick="x")
        user.name = "changed"
    assert rows(db, 'SELECT name, age, nick FROM "user" WHERE id = 1') == [("changed", 50, "x")]


def test_a_blind_write_wins(db, entities):
    """A value that was written without being read rests on nothing: it replaces whatever is there."""
    User = entities["User"]
    with db_session:
        user = User[1]
        change(User, age=50)
        user.age = 31
    assert column(db, "age") == 31


@pytest.mark.parametrize("name, value", [("score", 0.75), ("data", {"b": 2}), ("seen", 5), ("clicks", 5)])
def test_attributes_that_are_left_out(db, entities, name, value):
    """float, Json, volatile and optimistic=False attributes are not checked."""
    User = entities["User"]
    with db_session:
        user = User[1]
        getattr(user, name)
        change(User, **{name: value})
        user.name = "changed"
    assert column(db, "name") == "changed"
    with db_session:
        assert getattr(User[1], name) == value


def test_a_float_can_be_checked_if_asked_for(db, entities):
    """With optimistic=True a float is checked, too."""
    User = entities["User"]
    with db_session:
        user = User[1]
        assert user.strict == 0.5
        user.name = "changed"
    with pytest.raises(OptimisticCheckError, match=r"strict: 0\.5 was seen, 0\.75 is there now"), db_session:
        user = User[1]
        assert user.strict == 0.5
        change(User, strict=0.75)
        user.name = "again"


def test_optimistic_false_checks_nothing_but_existence(db, entities):
    """optimistic=False: what was read is not compared, also after commit(); a row that is gone is an error still."""
    User = entities["User"]
    with db_session(optimistic=False):
        user = User[1]
        assert user.age == 30
        commit()
        change(User, age=50)
        user.age = 31
        commit()
        assert column(db, "age") == 31
        elsewhere(db_session(lambda: User[1].delete()))
        user.age = 32
        with pytest.raises(OptimisticCheckError, match="was deleted by somebody else"):
            commit()
        rollback()


def test_a_conflict_is_gone_in_a_new_scope(db, entities):
    """96. After a conflict the same work in a new scope sees what is there now, and is saved."""
    User = entities["User"]

    def add(between=lambda: None):
        with db_session:
            user = User[1]
            age = user.age
            between()
            user.age = age + 1

    with pytest.raises(OptimisticCheckError):
        add(between=lambda: change(User, age=40))
    add()
    assert column(db, "age") == 41


# --- many at once -------------------------------------------------------------------------------------------


def test_many_checked_updates_are_two_trips(db, entities):
    """91. 100 objects read and changed are one round trip to read and one to save, all of them checked."""
    Team = entities["Team"]
    with db_session:
        for number in range(100):
            Team(name=f"{number}")
    with sent(db) as spent, db_session:
        for team in Team.select(Team.name != "a"):
            team.name += "!"
    assert spent.round_trips == 2
    assert len(rows(db, "SELECT name FROM team WHERE name LIKE '%!'")) == 101


@pytest.mark.parametrize("place", [0, 41, 99])
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_the_one_of_many_that_failed_is_named(db, entities, place, verb):
    """91. Of 100 objects in one round trip the error names the one that had changed, and nothing of it is saved."""
    Team = entities["Team"]
    with db_session:
        for number in range(100):
            Team(name=f"{number}")
    with pytest.raises(OptimisticCheckError) as caught, db_session:
        teams = Team.select().order_by(Team.id).fetch()[2:]
        for team in teams:
            assert team.name
        change(Team, teams[place].id, name="changed")
        for team in teams:
            if verb == "update":
                team.name += "!"
            else:
                team.delete()
    assert caught.value.obj is teams[place]
    assert caught.value.differences == [("name", f"{place}", "changed")]
    assert len(rows(db, "SELECT name FROM team WHERE name NOT LIKE '%!'")) == 102


# --- values of every type -----------------------------------------------------------------------------------

VALUES = {
    "flag": (bool, {}, False, True),
    "small": (int, {"size": 8}, -5, 6),
    "big": (int, {"size": 64}, 2**62, 5),
    "text": (str, {}, "it's  %s é", "x"),
    "money": (Decimal, {}, Decimal("1.50"), Decimal("1.51")),
    "exact": (Decimal, {"precision": 20, "scale": 8}, Decimal("123456789012.12345678"), Decimal(0)),
    "moment": (datetime, {}, datetime(2024, 2, 29, 12, 0, 0, 123456), datetime(1, 1, 1)),
    "instant": (datetime, {"tz": True}, datetime(2024, 2, 29, 12, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),
    "day": (date, {}, date(2024, 2, 29), date(1, 1, 1)),
    "hour": (time, {}, time(23, 59, 59, 999999), time(0)),
    "span": (timedelta, {}, timedelta(days=40, microseconds=1), timedelta(-1)),
    "code": (UUID, {}, UUID(int=5), UUID(int=2**127)),
    "raw": (bytes, {}, b"\x00\xff", b""),
    "colour": (Enum, {}, Colour.RED, Colour.BLUE),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_of_every_type_are_compared_as_the_database_has_them(db, name):
    """A value that nobody has changed is no conflict, however it is stored; one that was changed is."""
    python, options, value, other = VALUES[name]

    class Thing(db.Entity):
        value = Optional(Colour if python is Enum else python, nullable=True, **options)
        text = Required(str, default="x")

    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(value=value)
        Thing(value=None)
    with db_session:
        for thing in (Thing[1], Thing[2]):
            assert thing.value in (value, None)
            thing.text = "y"
    with pytest.raises(OptimisticCheckError) as caught, db_session:
        thing = Thing[1]
        assert thing.value == value
        change(Thing, value=other)
        thing.text = "z"
    assert caught.value.differences == [("value", value, other)]
    assert rows(db, "SELECT text FROM thing") == ["y", "y"]


# --- versions ----------------------------------------------------------------------------------------------


def test_a_version_is_counted_up_by_each_update(db, entities):
    """90. Each saved change counts the version up by one, and shows it."""
    Doc = entities["Doc"]
    with db_session:
        doc = Doc[1]
        assert doc.version == 1
        doc.title = "changed"
        flush()
        assert doc.version == 2
        doc.title, doc.text = "again", "text"
        commit()
        assert doc.version == 3
    assert column(db, "version", "doc") == 3


@pytest.mark.parametrize("options", [{}, {"optimistic": False}], ids=["optimistic", "not"])
@pytest.mark.parametrize("verb", [lambda doc: doc.set(text="x"), lambda doc: doc.delete()], ids=["update", "delete"])
def test_a_version_checks_the_whole_row(db, entities, verb, options):
    """90. Any change of the row elsewhere is a conflict, of columns that were never looked at, too."""
    Doc = entities["Doc"]
    with pytest.raises(OptimisticCheckError, match="version: 1 was seen, 2 is there now"), db_session(**options):
        doc = Doc[1]
        commit()
        change(Doc, title="changed")
        verb(doc)
    assert rows(db, "SELECT title, text FROM doc") == [("changed", None)]


# --- races --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("db_url", [*SELECTED, "sqlite-file"], indirect=True)
def test_no_increment_is_lost(db, entities):
    """89, 97. 4 threads add 1 to the same row 100 times each, with retry: 400 in the end, not one less."""
    User = entities["User"]
    everybody = threading.Barrier(4)
    runs = []

    @db_session(retry=1000)
    def add():
        runs.append(1)
        user = User[2]
        user.age = (user.age or 0) + 1

    def add_a_hundred():
        everybody.wait(30)
        for _ in range(100):
            add()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(add_a_hundred) for _ in range(4)]:
            future.result(110)
    assert rows(db, 'SELECT age FROM "user" WHERE id = 2') == [400]
    assert len(runs) >= 400


def test_a_missing_row_after_a_conflict_is_found_missing(entities):
    """92. After a conflict over a row that is gone, a new scope does not find it."""
    User = entities["User"]
    with pytest.raises(OptimisticCheckError), db_session:
        user = User[1]
        elsewhere(db_session(lambda: User[1].delete()))
        user.name = "x"
    with db_session, pytest.raises(ObjectNotFound):
        User[1]
