"""New values that the database works out for each row of one UPDATE: lambdas, other tables, conditions over several."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from dbsession import Database, TranslationError, count, db_session, flush, max, select, sum
from tests.observing import rows, sent, wait_until_blocked
from tests.recording import recorded
from tests.session.squad import declare, fill


@pytest.fixture
def squad(db):
    squad = declare(db)
    fill(squad)
    return squad


def column(squad, name, table="player"):
    """Return what others see of one column."""
    return rows(squad.db, f"SELECT {name} FROM {table} ORDER BY id")


# --- lambdas ----------------------------------------------------------------------------------------------------


def test_lambdas(squad):
    """A lambda says what the new value is made of, as in a query; names from outside are values, sent as parameters."""
    Player = squad.Player
    step, word = 10, "new"
    with db_session:
        ann = Player[1]
        assert ann.count == 1
        with sent(squad.db) as spent:
            number = Player.select(lambda p: p.count < step).update(
                count=lambda p: p.count + step,
                level=lambda p: p.count * step + 0.5,
                note=lambda p: p.name.upper(),
                nick=lambda p: word,  # noqa: ARG005
                active=lambda p: p.count > 2 and p.name != word,
            )
            assert number == 5
            assert (ann.count, ann.level, ann.note, ann.nick, ann.active) == (11, 10.5, "ANN", "new", False)
        assert spent.round_trips == 1
    assert column(squad, "count") == [11, 12, 13, 14, 15]
    assert column(squad, "active") == [False, False, True, True, True] or column(squad, "active") == [0, 0, 1, 1, 1]


def test_the_values_of_several_lambdas_are_not_mixed_up(squad):
    """Each lambda has its own values, and the query has others; run again with new ones, they are the new ones."""
    Player = squad.Player
    for low, first, second in ((2, 100, "x"), (3, 200, "y")):
        with db_session:
            number = select(p for p in Player if p.count == low and p.name != second).update(
                note=lambda p: second,  # noqa: ARG005, B023
                count=lambda p: p.count + first,  # noqa: B023
                level=lambda p, more=low: p.count * more - first,  # noqa: B023
            )
            assert number == 1
    assert column(squad, "count") == [1, 102, 203, 4, 5]
    assert column(squad, "level") == [None, 2 * 2 - 100, 3 * 3 - 200, None, None]
    assert column(squad, "note") == [None, "x", "y", None, None]


def test_values_of_lambdas_are_checked(squad):
    """What a lambda gives for all rows alike is checked as any value; kinds that do not fit are refused, nothing is sent."""
    Player = squad.Player
    long = "x" * 11
    with db_session, sent(squad.db) as spent:
        with pytest.raises(ValueError, match=r"Player\.name is too long"):
            Player.select().update(name=lambda p: long)  # noqa: ARG005
        with pytest.raises(TypeError, match=r"Player\.count is an int, and cannot be set to .*which is a str"):
            Player.select().update(count=lambda p: p.name)
        with pytest.raises(TranslationError, match="p\\.nmae"):
            Player.select().update(name=lambda p: p.nmae)
        with pytest.raises(TranslationError, match="2 parameters"):
            Player.select().update(name=lambda p, q: p.name + q.name)
    assert spent.statements == 0


def test_objects_in_lambdas(squad):
    """An object that a lambda gives is the new target, a new one is saved first; the row itself may be the target, too."""
    Player = squad.Player
    with db_session:
        ann = Player[1]
        new = squad.Team(name="new")
        Player.select(name="ann").update(team=lambda p: new, friend=lambda p: p)  # noqa: ARG005
        assert (ann.team, ann.friend, list(new.players)) == (new, ann, [ann])
    assert column(squad, "friend") == [1, None, None, None, None]


# --- other tables -----------------------------------------------------------------------------------------------


def test_values_from_other_tables(squad):
    """What a path leads to is worked out with the keys of the rows; where it leads to nothing, it is NULL."""
    Player = squad.Player
    with db_session:
        ann, eve, seat = Player[1], Player[5], squad.Seat["A", 1]
        Player.select(Player.count > 2).update(friend=ann)
        assert Player.select().update(note=lambda p: p.team.name, level=lambda p: p.count + 1) == 5
        assert (ann.note, eve.note, eve.level) == ("reds", None, 6.0)
        assert Player.select(lambda p: p.friend.name == "ann").update(seat=lambda p: p.friend.seat, nick="fan") == 3
        assert (eve.seat, ann.nick, eve.nick) == (seat, "", "fan")
        assert Player.select().update(note=lambda p: p.team.coach.name) == 5
        assert ann.note == "kim"
    assert column(squad, "note") == ["kim", "kim", None, None, None]


def test_values_from_many_rows(squad):
    """Collections and subqueries give values, too: how many there are, what they add up to."""
    Player, Team = squad.Player, squad.Team
    with db_session:
        ann, reds = Player[1], Team[1]
        Player.select(Player.count > 3).update(friend=ann)
        assert Player.select().update(count=lambda p: count(p.fans), level=lambda p: sum(f.count for f in p.fans)) == 5
        assert (ann.count, ann.level) == (2, 9.0)
        assert Team.select().update(name=lambda t: max(p.name for p in t.players)) == 2
        assert reds.name == "bob"
    assert column(squad, "count") == [2, 0, 0, 0, 0]


def test_a_limit_with_values_from_other_tables(squad):
    """Those rows are changed that fetching would have given, and no others."""
    Player = squad.Player
    with db_session:
        query = select(p for p in Player if p.team.name != "x").order_by(lambda p: p.name).limit(2, offset=1)
        assert query.update(note=lambda p: p.team.name) == 2
    assert column(squad, "note") == [None, "reds", "blues", None, None]


def test_conditions_over_other_tables(squad):
    """A query that joins other tables, or has several loops, changes each of its objects once."""
    Player, Team = squad.Player, squad.Team
    with db_session:
        ann = Player[1]
        assert select(p for p in Player if p.team.name == "reds").update(note="red") == 2
        assert select(p for t in Team for p in t.players if t.coach.name == "kim").update(nick=lambda p: p.note) == 2
        assert select(t for t in Team for p in t.players if p.count > 0).update(name="has players") == 2
        assert (ann.note, ann.nick, ann.team.name) == ("red", "red", "has players")
        assert select(p for p in Player if p.team.name == "nobody's").update(note="x") == 0


def test_what_a_query_leads_to(squad):
    """The objects at the end of a path can be changed, too, each once; values cannot."""
    Player, Team = squad.Player, squad.Team
    with db_session:
        reds = Team[1]
        assert reds.name == "reds"
        assert select(p.team for p in Player if p.count > 1).update(name=Team.name.upper()) == 2
        assert reds.name == "REDS"
        assert select(p.team for p in Player if p.count > 1).update(name=lambda t: t.name.lower()) == 2
        assert reds.name == "reds"
        for wrong in (select(p.name for p in Player), select((p, p.team) for p in Player)):
            with pytest.raises(TypeError, match="only objects can be deleted or updated"):
                wrong.update(name="x")
            with pytest.raises(TypeError, match="only objects can be deleted or updated"):
                wrong.delete(bulk=True)
        Player.select().update(team=None)
        assert select(p.team for p in Player).delete(bulk=True) == 0
        Player.select(Player.count < 3).update(team=reds)
        assert select(p.team for p in Player).delete(bulk=True) == 1
    assert column(squad, "name", "team") == ["blues"]


def test_unsaved_changes_of_other_tables_go_first(squad):
    """55. Unsaved changes of every table that conditions or new values look at are sent before."""
    Player, Team = squad.Player, squad.Team
    with db_session:
        Team[1].name = "new"
        assert Player.select(name="ann").update(note=lambda p: p.team.name) == 1
        assert Player[1].note == "new"
    with db_session:
        Team[1].name = "newer"
        assert select(p for p in Player if p.team.name == "newer").update(note="x") == 2
    with db_session as session:
        Team[1].name = "unsaved"
        flush()
        assert select(p for p in Player if p.team.name == "unsaved").delete(bulk=True) == 2
        session.rollback()
    assert column(squad, "note") == ["x", "x", None, None, None]


# --- the SQL ----------------------------------------------------------------------------------------------------

SQL = {
    "value": (
        lambda m: m.Tag.select(name="a").update(name="b"),
        'UPDATE <tag> SET "name" = ? WHERE "name" = ?',
    ),
    "expression": (
        lambda m: m.Player.select().update(count=m.Player.count + 1, team=None, seat=("A", 1)),
        {
            "sqlite": 'UPDATE <player> SET "count" = "count" + ?, "team" = ?, "seat_row" = ?, "seat_number" = ?',
            # in 64 bits, as SQLite computes: a smaller int is checked when it is stored
            "postgresql": 'UPDATE <player> SET "count" = "count"::bigint + ?, "team" = ?, "seat_row" = ?, "seat_number" = ?',
        },
    ),
    "join": (
        lambda m: select(p for p in m.Player if p.team.name == "reds").update(note="x"),
        (
            'UPDATE <player> AS "p" SET "note" = ? WHERE "p"."id" IN (SELECT "p2"."id" FROM <player> AS "p2" '
            'LEFT JOIN <team> AS "team" ON "team"."id" = "p2"."team" WHERE "team"."name" = ?)'
        ),
    ),
    "limit": (
        lambda m: m.Player.select().order_by(m.Player.name).limit(1).update(note="x"),
        {
            "sqlite": 'UPDATE <player> SET "note" = ? WHERE "id" IN (SELECT "id" FROM <player> ORDER BY "name" LIMIT 1)',
            "postgresql": 'WITH "dbs_chosen" AS MATERIALIZED (SELECT "id" FROM <player> ORDER BY "name" LIMIT 1 FOR UPDATE) '
            'UPDATE <player> SET "note" = ? WHERE "id" IN (SELECT * FROM "dbs_chosen")',
        },
    ),
    "skip locked": (
        lambda m: m.Player.select(name="ann").for_update(skip_locked=True).update(note="x"),
        {
            "sqlite": 'UPDATE <player> SET "note" = ? WHERE "name" = ?',
            "postgresql": 'WITH "dbs_chosen" AS MATERIALIZED (SELECT "id" FROM <player> WHERE "name" = ? '
            'FOR UPDATE SKIP LOCKED) UPDATE <player> SET "note" = ? WHERE "id" IN (SELECT * FROM "dbs_chosen")',
        },
    ),
    "path": (
        lambda m: m.Player.select(name="ann").update(note=lambda p: p.team.name, nick="x"),
        {
            "sqlite": 'UPDATE <player> SET "note" = "dbs_chosen"."dbs_value0", "nick" = ? FROM (SELECT "p"."id" AS "dbs_key0", '
            '"team"."name" AS "dbs_value0" FROM <player> AS "p" LEFT JOIN <team> AS "team" ON "team"."id" = "p"."team" '
            'WHERE "p"."name" = ?) AS "dbs_chosen" WHERE <player>."id" = "dbs_chosen"."dbs_key0"',
            "postgresql": 'WITH "dbs_chosen" AS MATERIALIZED (SELECT "p"."id" AS "dbs_key0", "team"."name" AS '
            '"dbs_value0" FROM <player> AS "p" LEFT JOIN <team> AS "team" ON "team"."id" = "p"."team" WHERE "p"."name" = ? '
            'FOR UPDATE OF "p") UPDATE <player> SET "note" = "dbs_chosen"."dbs_value0", "nick" = ? FROM "dbs_chosen" '
            'WHERE <player>."id" = "dbs_chosen"."dbs_key0"',
        },
    ),
}


@pytest.mark.parametrize("case", SQL)
def test_sql(squad, case):
    """One readable statement: other tables only where they are needed, rows locked where they are chosen first."""
    verb, expected = SQL[case]
    dialect = squad.db.backend.dialect
    with db_session, recorded() as statements:
        verb(squad)
    (statement,) = [statement for statement in statements if "UPDATE " in statement.sql]
    text = expected if isinstance(expected, str) else expected[dialect.name]
    for entity in (squad.Player, squad.Team, squad.Tag):
        text = text.replace(f"<{entity.__name__.lower()}>", entity._mapping_.quoted)
    assert statement.sql == text.replace("?", dialect.placeholder)


def test_a_row_that_somebody_else_is_taking(postgres_url):
    """With a limit the rows are locked when they are chosen: one that does not fit any more, once it is free, is left out."""
    db = Database(postgres_url)
    squad = declare(db)
    fill(squad)
    Player = squad.Player

    @db_session
    def take(who):
        return Player.select(note=None).order_by(Player.id).limit(1).update(note=who)

    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres_url, autocommit=True) as watcher:
        with db_session:
            assert take("first") == 1
            second = pool.submit(take, "second")
            wait_until_blocked(watcher, 1)
        assert second.result(60) == 1
    assert column(squad, "note") == ["first", "second", None, None, None]
    db.close()
