"""Objects from SQL of the user's own: which columns they take, and how they meet what is in memory."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession import (
    InvalidRequestError,
    Json,
    MultipleObjectsFoundError,
    Optional,
    PrimaryKey,
    ProgrammingError,
    Required,
    UnrepeatableReadError,
    db_session,
)
from tests.observing import elsewhere, rows, sent
from tests.session.squad import declare, fill


@pytest.fixture
def squad(db):
    squad = declare(db)
    fill(squad)
    return squad


# --- what it returns --------------------------------------------------------------------------------------------


def test_objects_in_the_order_of_the_sql(squad):
    """The rows become the objects of their keys, in the order of the SQL, as often as it gives them."""
    Player = squad.Player
    with db_session:
        with sent(squad.db) as spent:
            found = Player.select_by_sql("SELECT * FROM player WHERE count > %s ORDER BY count DESC", [2])
            assert [player.name for player in found] == ["eve", "dan", "cid"]
            assert found[0].balance == Decimal("7.50") and found[0].data == {"n": 5} and found[0].bio == "bio of eve"
        assert (spent.round_trips, spent.transactions) == (1, 0)
        twice = Player.select_by_sql("SELECT p.* FROM player p, team t WHERE p.name = %(name)s", {"name": "ann"})
        assert twice == [Player[1], Player[1]]
        assert Player.select_by_sql("SELECT * FROM player WHERE 1 = 0") == []


def test_one_object(squad):
    """get_by_sql() returns the object of the only row, None without one, and raises if there are more."""
    Player = squad.Player
    with db_session:
        assert Player.get_by_sql("SELECT * FROM player WHERE name = %s", ["bob"]) is Player[2]
        assert Player.get_by_sql("SELECT * FROM player WHERE name = %s", ["nobody"]) is None
        with pytest.raises(MultipleObjectsFoundError, match=r"5 rows of Player.*select_by_sql"):
            Player.get_by_sql("SELECT * FROM player")


def test_what_is_left_out_is_loaded_when_it_is_needed(squad):
    """Columns that are there are shown without a SELECT; the others are loaded, for all such objects at once."""
    Player = squad.Player
    with db_session:
        found = Player.select_by_sql("SELECT name, id FROM player ORDER BY id")
        with sent(squad.db) as spent:
            assert [player.name for player in found] == ["ann", "bob", "cid", "dan", "eve"]
        assert spent.statements == 0
        with sent(squad.db) as spent:
            assert [player.count for player in found] == [1, 2, 3, 4, 5]
            assert [player.team and player.team.id for player in found] == [1, 1, 2, 2, None]
        assert spent.round_trips == 1
        assert Player[3] is found[2]


def test_values_that_the_sql_works_out(squad):
    """A column may be computed, as long as it has the name of one."""
    with db_session:
        found = squad.Player.select_by_sql("SELECT id, upper(name) AS name FROM player WHERE id = 1")
        assert found[0].name == "ANN"
    with db_session:
        sql = "SELECT team AS id, max(name) AS name FROM player WHERE team IS NOT NULL GROUP BY team ORDER BY 1"
        assert [(team.id, team.name) for team in squad.Team.select_by_sql(sql)] == [(1, "bob"), (2, "dan")]


def test_keys_of_several_parts(squad):
    """A key of several columns has all of them; references of several columns are filled like others."""
    with db_session:
        seats = squad.Seat.select_by_sql("SELECT number, row FROM seat ORDER BY number")
        assert [seat.get_pk() for seat in seats] == [("A", 1), ("A", 2)]
        ann = squad.Player.get_by_sql("SELECT id, seat_row, seat_number FROM player WHERE id = 1")
        with sent(squad.db) as spent:
            assert ann.seat is seats[0]
        assert spent.statements == 0


def test_names_in_another_case(squad):
    """SQLite answers with names as they were written: they mean the same columns."""
    with db_session:
        ann = squad.Player.get_by_sql('SELECT id AS "ID", name AS "Name" FROM player WHERE id = 1')
        assert (ann.id, ann.name) == (1, "ann")


class Colour(Enum):
    RED = "r"


def test_every_type(db):
    """Values come as they do from a query of dbsession's own, whatever their types."""

    class Thing(db.Entity):
        id = PrimaryKey(UUID)
        at = Required(datetime, tz=True)
        day = Required(date)
        price = Required(Decimal, 10, 2)
        colour = Required(Colour)
        data = Required(Json)
        flag = Required(bool)
        raw = Required(bytes)
        ratio = Required(float)

    db.generate_mapping(create_tables=True)
    values = {
        "id": UUID(int=7),
        "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "price": Decimal("1.50"),
        "colour": Colour.RED,
        "data": {"a": [1, 2.5, None]},
        "flag": True,
        "raw": b"\0\xff",
        "ratio": 0.5,
    }
    with db_session:
        Thing(**values)
    with db_session:
        thing = Thing.get_by_sql(f"SELECT * FROM {Thing._mapping_.table}")
        assert thing.to_dict() == values
        assert Thing[UUID(int=7)] is thing


# --- subclasses -------------------------------------------------------------------------------------------------


def test_subclasses(squad):
    """24. Each row becomes an object of the class that its discriminator names, with the columns of that class."""
    with db_session:
        found = squad.Trophy.select_by_sql("SELECT * FROM trophy ORDER BY id")
        assert [(type(each).__name__, each.name) for each in found] == [
            ("Trophy", "old"),
            ("Cup", "gold"),
            ("Cup", "iron"),
        ]
        with sent(squad.db) as spent:
            assert found[1].litres == 3
        assert spent.statements == 0
        assert squad.Cup.get_by_sql("SELECT id, classtype FROM trophy WHERE litres > 2") is found[1]


def test_rows_of_other_classes(squad):
    """A row of another class of the hierarchy, or of an unknown one, is an error that says so."""
    with db_session:
        with pytest.raises(
            ProgrammingError, match=r"row 1 of the result is no Cup: its classtype is 'Trophy'.*Trophy\."
        ):
            squad.Cup.select_by_sql("SELECT * FROM trophy ORDER BY id")
        for entity in (squad.Cup, squad.Trophy):
            with pytest.raises(ProgrammingError, match="lacks classtype"):
                entity.select_by_sql("SELECT id, name FROM trophy")


# --- what does not fit ------------------------------------------------------------------------------------------

REFUSED = {
    "no key": ("SELECT name FROM player", r"lacks id: the key of Player.*it has name$"),
    "part of a key": ("SELECT row FROM seat", r"lacks number: the key of Seat"),
    "unknown": ("SELECT id, name AS nmae FROM player", r"'nmae', and Player has none.*did you mean 'name'"),
    "of another": ("SELECT p.*, t.name AS team_name FROM player p, team t", r"'team_name', and Player has none"),
    "twice": ("SELECT p.id, t.id FROM player p, team t", r"two columns 'id'"),
    "no rows at all": ("DELETE FROM coach", r"lacks id: the key of Player.*it has no columns$"),
    "no key in a row": ("SELECT NULL AS id", r"row 1 of the result has no id"),
    "a key of another type": ("SELECT 'x' AS id", r"row 1 of the result has 'x' as id"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_results_that_do_not_fit(squad, case):
    """19. A result without the key, or with columns that the entity has not, is an error that names them."""
    sql, match = REFUSED[case]
    entity = squad.Seat if "seat" in sql else squad.Player
    with db_session, pytest.raises(ProgrammingError, match=match):
        entity.select_by_sql(sql)


def test_keys_are_normalised(squad):
    """20. A key that the SQL gives in another type finds the same object; the row keeps the key's own type."""
    with db_session:
        number = "1.0" if squad.db.backend.dialect.name == "sqlite" else "1::numeric"
        found = squad.Team.get_by_sql(f"SELECT {number} AS id, 'x' AS name")
        assert type(found.id) is int
        assert squad.Team[1] is found


def test_other_sql_is_refused(squad):
    """What is no SQL to select by is refused before anything is sent, with the way out."""
    Player = squad.Player
    name = "ann"
    assert name
    refused = {
        r"\$name is no parameter here.*write %\(name\)s.*params": "SELECT * FROM player WHERE name = $name",
        "COMMIT belongs to the session": "COMMIT",
        "there is no SQL": " ",
    }
    with db_session, sent(squad.db) as spent:
        for match, sql in refused.items():
            with pytest.raises(ProgrammingError, match=match):
                Player.select_by_sql(sql)
        with pytest.raises(TypeError, match="SQL is a str"):
            Player.get_by_sql(None)
        with pytest.raises(ProgrammingError, match="parameter"):
            Player.select_by_sql("SELECT * FROM player WHERE name = %s", [])
    assert spent.statements == 0


def test_a_dollar_that_is_none_of_a_name(squad):
    """Dollar signs within quotes, and PostgreSQL's own quotes of them, are left alone."""
    texts = ["SELECT id, 'costs $name' AS name FROM team -- not $name's"]
    if squad.db.backend.dialect.name == "postgresql":
        texts.append("SELECT id, $tag$costs $name$tag$ AS name FROM team")
    with db_session:
        for text in texts:
            found = squad.Team.select_by_sql(text)
            assert {team.name for team in found} == {"costs $name"}


# --- what is in memory ------------------------------------------------------------------------------------------


def test_what_is_unsaved_goes_first(squad):
    """55. Unsaved changes of any table are sent before."""
    with db_session:
        squad.Team[1].name = "new"
        sql = "SELECT p.* FROM player p JOIN team t ON t.id = p.team WHERE t.name = 'new' ORDER BY p.id"
        assert [player.name for player in squad.Player.select_by_sql(sql)] == ["ann", "bob"]


def test_unsaved_changes_stay(squad):
    """127. Without autoflush an object keeps what is unsaved of it, and one that is to be deleted is left out."""
    with db_session as session:
        ann, bob = squad.Player[1], squad.Player[2]
        ann.name = "unsaved"
        bob.delete()
        with session.no_autoflush():
            found = squad.Player.select_by_sql("SELECT * FROM player ORDER BY id")
        assert [player.name for player in found] == ["unsaved", "cid", "dan", "eve"]
        assert found[0] is ann


def test_what_was_deleted_is_left_out(squad):
    """22. An object that was deleted in this session is not revived."""
    with db_session as session:
        bob = squad.Player[2]
        bob.delete()
        with session.no_autoflush():
            assert squad.Player.get_by_sql("SELECT * FROM player WHERE id = 2") is None
        assert squad.Player.get_by_sql("SELECT * FROM player WHERE id = 2") is None


def test_what_was_read_must_not_have_changed(squad):
    """It is a reread like any other: what was read before and has been changed by others is an error."""
    with db_session:
        ann = squad.Player[1]
        assert (ann.name, ann.count) == ("ann", 1)
        elsewhere(db_session(lambda: squad.Player[1].set(name="new")))
        assert squad.Player.select_by_sql("SELECT id, count FROM player WHERE id = 1") == [ann]
        with pytest.raises(UnrepeatableReadError, match="name was read as 'ann'"):
            squad.Player.select_by_sql("SELECT * FROM player WHERE id = 1")


def test_an_object_of_which_only_the_key_was_known(squad):
    """17. It takes what the row has, and loads the rest when it is needed."""
    with db_session:
        team = squad.Player[1].team
        assert squad.Team.get_by_sql("SELECT id, name FROM team WHERE id = 1") is team
        with sent(squad.db) as spent:
            assert team.name == "reds"
        assert spent.statements == 0
        ann = squad.Player.select(friend=None).first()
        assert squad.Player.get_by_sql("SELECT id FROM player WHERE id = 1") is ann


# --- reads and writes -------------------------------------------------------------------------------------------


def test_sql_that_writes(squad):
    """An INSERT or UPDATE that gives back rows is part of the transaction, and its objects show what it has made."""
    Team = squad.Team
    with pytest.raises(LookupError), db_session:
        reds = Team[1]
        assert reds.name == "reds"
        found = Team.select_by_sql("UPDATE team SET name = 'new' WHERE id = 1 RETURNING *")
        assert found == [reds] and reds.name == "new"
        (third,) = Team.select_by_sql("INSERT INTO team (name) VALUES (%s) RETURNING id, name", ["third"])
        assert third.name == "third"
        raise LookupError
    assert rows(squad.db, "SELECT name FROM team ORDER BY id") == ["reds", "blues"]


def test_a_rollback_forgets_what_it_has_loaded(squad):
    """68. Objects that were loaded behind a write show the database's values after a rollback."""
    with db_session as session:
        squad.Team.select_by_sql("UPDATE team SET name = 'new' WHERE id = 1 RETURNING *")
        session.rollback()
        assert squad.Team[1].name == "reds"


def test_a_read_only_scope(squad):
    """An inner scope that has promised to change nothing may select, and refuses to write."""
    with db_session:
        squad.Player[1].note = "unsaved"
        with db_session(read_only=True):
            assert len(squad.Player.select_by_sql("SELECT * FROM player")) == 5
            with pytest.raises(InvalidRequestError, match="read_only=True"):
                squad.Team.select_by_sql("UPDATE team SET name = 'new' RETURNING *")


def test_other_databases_rows_are_not_mixed_up(db):
    """An optional column that the SQL leaves out is not None, but not loaded."""

    class Item(db.Entity):
        name = Required(str)
        note = Optional(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Item(name="a", note="there")
    with db_session:
        assert Item.get_by_sql(f"SELECT id, name FROM {Item._mapping_.table}").note == "there"
