"""One UPDATE for many rows: what is sent, what may be assigned, and what objects in memory show of it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from dbsession import (
    ConstraintError,
    Database,
    InvalidRequestError,
    OptimisticCheckError,
    SessionDoomed,
    TransactionIntegrityError,
    commit,
    db_session,
    desc,
    flush,
)
from tests.observing import elsewhere, rows, sent
from tests.recording import recorded
from tests.session.squad import declare, fill


@pytest.fixture
def squad(db):
    squad = declare(db)
    fill(squad)
    squad.hooked.clear()
    return squad


def column(squad, name, table="player"):
    """Return what others see of one column."""
    return rows(squad.db, f"SELECT {name} FROM {table} ORDER BY id")


def updates(statements):
    """Return the UPDATEs among *statements*."""
    return [statement.sql for statement in statements if "UPDATE " in statement.sql]


# --- what is sent ---------------------------------------------------------------------------------------------


def test_one_statement_for_all_rows(squad):
    """One UPDATE changes the rows that fit, in the round trip of BEGIN, and its number of rows comes back."""
    Player = squad.Player
    with db_session:
        with sent(squad.db) as spent, recorded() as statements:
            assert Player.select(Player.count > 2).update(count=Player.count * 10 + 1, note="x") == 3
        assert spent.round_trips == 1
        (update,) = updates(statements)
        assert "RETURNING" not in update  # nobody is in memory
    assert column(squad, "count") == [1, 2, 31, 41, 51]
    assert column(squad, "note") == [None, None, "x", "x", "x"]


def test_it_is_part_of_the_transaction(squad):
    """3. An exception that leaves the scope undoes the UPDATE, also where it is all that the scope has done."""
    with pytest.raises(LookupError), db_session:
        squad.Player.select().update(count=9)
        raise LookupError
    assert column(squad, "count") == [1, 2, 3, 4, 5]


def test_no_row_fits(squad):
    """0 is a number of rows, too."""
    with db_session:
        ann = squad.Player[1]
        assert squad.Player.select(name="nobody").update(count=9) == 0
        assert ann.count == 1


def test_every_kind_of_value(squad):
    """Values travel as those of an assignment do: text is stripped, Decimals are rounded, None is NULL, "" where it must be."""
    values = {"name": " zoe ", "balance": "2.345", "data": {"d": date(2026, 1, 2)}, "born": None, "active": False}
    expected = {"name": "zoe", "balance": Decimal("2.35"), "data": {"d": "2026-01-02"}, "born": None, "active": False}
    expected |= {"level": 1.0, "nick": ""}
    with db_session:
        ann = squad.Player[1]
        ann.to_dict()
        with sent(squad.db) as spent:
            squad.Player.select(count=1).update(**values, level=1, nick=None)
            shown = ann.to_dict(only=[*expected])
        assert spent.round_trips == 1
        assert shown == expected
    with db_session:
        assert squad.Player[1].to_dict(only=[*expected]) == expected


def test_every_kind_of_expression(squad):
    """The database works expressions out for each row, and a loaded object shows what has come of it, without a SELECT."""
    Player = squad.Player
    with db_session:
        players = list(Player.select().order_by(Player.id))
        before = [(player.count, player.balance, player.name, player.active) for player in players]
        with sent(squad.db) as spent:
            Player.select().update(
                count=Player.count + 1,
                balance=Player.balance / 7,
                note=Player.name.upper(),
                level=Player.count,
                active=Player.count > 2,
            )
            shown = [(p.count, p.balance, p.note, p.level, p.active) for p in players]
        assert spent.round_trips == 1
    expected = [(c + 1, round(b / 7, 2), n.upper(), float(c), c > 2) for c, b, n, _ in before]
    assert shown == expected
    with db_session:
        assert [
            (p.count, p.balance, p.note, p.level, p.active) for p in Player.select().order_by(Player.id)
        ] == expected


@pytest.mark.parametrize("way", ["limit", "offset", "slice of none"])
def test_limit_and_order(squad, way):
    """With an order and a limit, those rows are changed that fetching would have given."""
    Player = squad.Player
    query = {
        "limit": Player.select().order_by(desc(Player.count)).limit(2),
        "offset": Player.select().order_by(Player.count).limit(None, offset=3),
        "slice of none": Player.select().limit(0),
    }[way]
    with db_session:
        eve = Player[5]
        assert query.update(note="chosen") == (0 if way == "slice of none" else 2)
        assert eve.note == (None if way == "slice of none" else "chosen")
    assert column(squad, "note")[:3] == [None] * 3


def test_workers_do_not_take_the_same_rows(postgres_url):
    """94. limit() chooses rows once and locks them, and skip_locked leaves out what somebody else has taken."""
    db = Database(postgres_url)
    squad = declare(db)
    fill(squad)

    @db_session
    def take(who):
        query = squad.Player.select(note=None).order_by(squad.Player.id)
        return query.for_update(skip_locked=True).limit(2).update(note=who)

    with db_session:
        assert take("first") == 2
        assert elsewhere(take, "second") == 2
    assert column(squad, "note") == ["first", "first", "second", "second", None]
    db.close()


def test_items_of_a_collection(squad):
    """The items of a collection, one-to-many or many-to-many, are changed, and nothing else."""
    with db_session:
        assert squad.Team[1].players.select().update(note="red") == 2
        assert squad.Tag[1].players.select(squad.Player.count > 1).update(note="fast") == 1
    assert column(squad, "note") == ["red", "red", "fast", None, None]


def test_a_hierarchy(squad):
    """A query for a subclass changes its rows only, one for the base class those of all; objects of both show it."""
    with db_session:
        old, gold = squad.Trophy[1], squad.Cup[2]
        assert (old.name, gold.litres) == ("old", 3)
        assert squad.Cup.select().update(litres=7) == 2
        assert squad.Trophy.select().update(name=squad.Trophy.name.upper()) == 3
        assert (old.name, gold.name, gold.litres) == ("OLD", "GOLD", 7)
    assert column(squad, "litres", "trophy") == [None, 7, 7]


# --- what may be assigned -------------------------------------------------------------------------------------

REFUSED = {
    "nothing": (lambda _: {}, TypeError, r"update\(\) takes what to set"),
    "unknown": (lambda _: {"nmae": 1}, TypeError, "'nmae' of Player; did you mean 'name'"),
    "required": (lambda _: {"note": "x", "name": None}, ValueError, "Player.name is required"),
    "empty": (lambda _: {"name": " "}, ValueError, "Player.name is required"),
    "too long": (lambda _: {"name": "x" * 11}, ValueError, "Player.name is too long"),
    "refused": (lambda _: {"name": "bad"}, ValueError, "py_check refused 'bad'"),
    "wrong type": (lambda _: {"count": 1.5}, TypeError, "Player.count must be an int"),
    "too large": (lambda _: {"count": 2**15}, ValueError, "Player.count"),
    "too large in Json": (lambda _: {"data": {1: object()}}, TypeError, "Player.data"),
    "key": (lambda _: {"id": 7}, TypeError, "Player.id is part of the key"),
    "version": (lambda _: {"version": 7}, TypeError, "bump_version=True"),
    "collection": (lambda _: {"fans": []}, TypeError, "Player.fans is a collection.*update Player.friend instead"),
    "links": (lambda _: {"tags": []}, TypeError, "Player.tags is a collection.*add to it"),
    "number of text": (lambda m: {"count": m.Player.name}, TypeError, "Player.count is an int.*which is a str"),
    "int of a fraction": (lambda m: {"count": m.Player.level}, TypeError, "an int.*which is a float"),
    "text of a condition": (lambda m: {"name": m.Player.count > 1}, TypeError, "a str.*which is a bool"),
    "bool of a number": (lambda m: {"active": m.Player.count}, TypeError, "a bool.*which is an int"),
    "nonsense": (lambda m: {"count": m.Player.name * m.Player.note}, TypeError, r"Player\.name"),
    "of another entity": (lambda m: {"name": m.Team.name}, TypeError, "Team.name is no attribute of Player"),
    "reference of value": (lambda m: {"team": m.Player.count}, TypeError, "Player.team is a Team.*an int"),
    "reference of another": (lambda m: {"team": m.Player.friend}, TypeError, "Player.team is a Team.*a Player"),
    "wrong object": (lambda m: {"team": m.Player[1]}, TypeError, "Player.team refers to Team, not to Player"),
    "wrong key": (lambda _: {"team": "one"}, TypeError, "Player.team refers to Team, and 'one' is no object"),
    "part of a key": (lambda _: {"seat": "A"}, TypeError, "Player.seat refers to Seat"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_refused_before_anything_is_sent(squad, case):
    """41. A value that does not fit, or an attribute that cannot be set, is an error that names it; nothing is sent."""
    make, error, match = REFUSED[case]
    with db_session:
        ann = squad.Player[1]
        ann.note = "unsaved"
        values = make(squad)
        with sent(squad.db) as spent, pytest.raises(error, match=match):
            squad.Player.select().update(**values)
        assert spent.statements == 0
        assert (ann.name, ann.count) == ("ann", 1)
    assert column(squad, "note")[0] == "unsaved"  # the session goes on


def test_other_attributes_that_cannot_be_set(squad):
    """The end of a relation without a column, one that is its own reverse, discriminators, subclasses' attributes."""
    refused = {
        "Team.coach has no column": lambda: squad.Team.select().update(coach=1),
        "Coach.partner is its own reverse": lambda: squad.Coach.select().update(partner=None),
        "says which entity a row is": lambda: squad.Trophy.select().update(classtype="Cup"),
        "'litres' of Trophy; query Cup for it": lambda: squad.Trophy.select().update(litres=1),
        "Seat.row is part of the key": lambda: squad.Seat.select().update(row="B"),
        "Team has no Version": lambda: squad.Team.select().update(name="x", bump_version=True),
    }
    with db_session:
        for match, verb in refused.items():
            with sent(squad.db) as spent, pytest.raises(TypeError, match=match):
                verb()
            assert spent.statements == 0


def test_objects_of_others_are_refused(squad):
    """23. A reference cannot be set to an object of another session, nor to one that was deleted here."""
    with db_session:
        other = squad.Team[1]
    with db_session:
        with pytest.raises(ConstraintError, match=r"Player.team cannot refer to Team\[1\]"):
            squad.Player.select().update(team=other)
        mine = squad.Team[2]
        squad.Player.select().update(team=None)
        mine.delete()
        for value in (mine, 2):
            with pytest.raises(ConstraintError, match=r"Team\[2\], which was deleted"):
                squad.Player.select().update(team=value)


def test_a_constraint_of_the_database(squad):
    """86. What the database refuses dooms the session, and the error says what was being updated."""
    with pytest.raises(SessionDoomed), db_session:
        ann = squad.Player[1]
        with pytest.raises(TransactionIntegrityError, match="while updating Player in bulk") as caught:
            squad.Player.select().update(slot=1)
        assert caught.value.columns == ("slot",)
        assert ann.slot is None
    assert column(squad, "slot") == [None] * 5


def test_read_only_scopes_change_nothing(squad):
    """A scope that has promised to change nothing refuses, and goes on."""
    for verb in (squad.Player.select().update, squad.Player.select().delete):
        with db_session(read_only=True), sent(squad.db) as spent:
            with pytest.raises(InvalidRequestError, match="read_only=True"):
                verb(**({"note": "x"} if verb.__name__ == "update" else {"bulk": True}))
            assert spent.statements == 0
            assert squad.Player.select().count() == 5


# --- what objects in memory show ------------------------------------------------------------------------------


def test_loaded_objects_take_the_new_values(squad):
    """125. Objects whose rows were changed show that, read before or not, and the others stay as they are; no SELECT."""
    Player = squad.Player
    with db_session:
        ann, bob, cid, dan, eve = Player.select().order_by(Player.id)
        assert (ann.count, bob.name) == (1, "bob")
        with sent(squad.db) as spent:
            Player.select(Player.count < 3).update(count=Player.count + 10, note="new")
            assert [(p.count, p.note) for p in (ann, bob, cid)] == [(11, "new"), (12, "new"), (3, None)]
        assert spent.statements <= 2  # BEGIN
        assert (dan.count, eve.count) == (4, 5)


def test_an_object_of_which_only_the_key_is_known(squad):
    """125. It loads the new values when they are needed."""
    with db_session:
        player = squad.Coach[1].team
        squad.Team.select().update(name="new")
        assert player.name == "new"


def test_an_object_that_a_stream_has_let_go(squad):
    """125. An object that only the program holds, since a stream has brought it, takes the new values as well."""
    with db_session:
        kept = list(squad.Tag.select().stream(batch=1))
        for player in squad.Player.select().stream(batch=1):
            if player.name == "ann":
                ann = player
        assert (ann.count, kept[0].name) == (1, "fast")
        squad.Player.select().update(count=squad.Player.count + 1)
        squad.Tag.select().update(name="slow")
        assert (ann.count, kept[0].name) == (2, "slow")


def test_lazy_attributes(squad):
    """Lazy attributes come back only where somebody has loaded them; those objects show the new value."""
    Player = squad.Player
    with db_session:
        ann, bob = Player[1], Player[2]
        with recorded() as statements:
            Player.select().update(bio=Player.bio.upper())
        assert "bio" not in updates(statements)[0].partition("RETURNING")[2]
        assert ann.bio == "BIO OF ANN"
        with recorded() as statements:
            Player.select().update(bio=Player.bio.lower())
            assert ann.bio == "bio of ann"
        assert len(statements) == 1 and "bio" in updates(statements)[0].partition("RETURNING")[2]
        Player.select().update(bio="same")
        assert (ann.bio, bob.bio) == ("same", "same")


def test_values_that_are_changed_in_place(squad):
    """34. A new JSON value replaces the tree; the old tree refuses changes that would be lost. An equal one stays."""
    with db_session:
        ann = squad.Player[1]
        tree = ann.data
        squad.Player.select().update(data={"n": 1})
        assert ann.data is tree
        tree["more"] = True
        squad.Player.select().update(data={"n": 2})
        assert ann.data == {"n": 2}
        with pytest.raises(ConstraintError, match=r"was read before.*read .* again"):
            tree["n"] = 3
        ann.data["m"] = 4
    with db_session:
        assert squad.Player[1].data == {"n": 2, "m": 4}


def test_hooks_do_not_run(squad):
    """No object is loaded for the UPDATE, and no hook runs."""
    with db_session:
        assert squad.Player[1].name == "ann"
        squad.Player.select().update(note="x")
    assert squad.hooked == []


def test_unsaved_changes_go_first(squad):
    """55. Unsaved changes are sent before, so that they are seen; new objects are changed as well."""
    Player = squad.Player
    with db_session:
        ann = Player[1]
        ann.count = 100
        new = Player(name="new", count=200)
        assert Player.select(Player.count >= 100).update(count=Player.count + 1) == 2
        assert (ann.count, new.count) == (101, 201)
    assert column(squad, "count") == [101, 2, 3, 4, 5, 201]


def test_unsaved_changes_without_autoflush_stay(squad):
    """127. Without autoflush what is unsaved stays so: it is saved later, on top of what the UPDATE has made."""
    Player = squad.Player
    with db_session as session:
        ann, bob, cid, dan = Player[1], Player[2], Player[3], Player[4]
        assert (ann.name, bob.count, dan.count) == ("ann", 2, 4)
        ann.name, bob.count, dan.count = "ann!", Player.count + 1, Player.count + 1
        cid.delete()
        with session.no_autoflush():
            assert Player.select().update(name="bulk", count=50, note="x") == 5
            assert (ann.name, ann.count, ann.note, bob.note) == ("ann!", 50, "x", "x")
            dan.count = 4  # what it was
    assert column(squad, "name") == ["ann!", "bulk", "bulk", "bulk"]
    assert column(squad, "count") == [50, 51, 4, 50]


def test_a_row_whose_key_is_to_change(squad):
    """Without autoflush a new object may stand under the key of one that is to be deleted: the row is the old one's."""
    Tag = squad.Tag
    with db_session as session:
        old = Tag[1]
        assert old.name == "fast"
        old.delete()
        new = Tag(id=1, name="new")
        with session.no_autoflush():
            assert Tag.select().update(name="bulk") == 1
            assert new.name == "new"
    assert rows(squad.db, "SELECT name FROM tag") == ["new"]


# --- what was read --------------------------------------------------------------------------------------------


def test_its_own_change_is_no_conflict(squad):
    """What the session has read and then changed in bulk can be changed again, and queried again, in that scope."""
    Player = squad.Player
    with db_session:
        ann = Player[1]
        assert (ann.count, ann.name) == (1, "ann")
        Player.select().update(count=Player.count + 1, name="x")
        assert [player.count for player in Player.select().order_by(Player.id)] == [2, 3, 4, 5, 6]
        ann.count += 1
        with recorded() as statements:
            flush()
        assert '"count"' not in statements[0].sql.partition("WHERE")[2]  # the row is locked with this value
        commit()
        Player.select().update(count=Player.count + 1)
        commit()
        ann.count += 1
    assert column(squad, "count")[0] == 5


def test_later_checks_compare_with_the_new_values(squad):
    """89. What was read counts as read with the value that the UPDATE has left: a later change of others is a conflict."""
    Player = squad.Player
    with pytest.raises(OptimisticCheckError, match=r"count: 7 was seen, 8 is there now"), db_session:
        ann = Player[1]
        assert ann.count == 1
        Player.select().update(count=7)
        commit()
        elsewhere(db_session(lambda: Player.select().update(count=8)))
        ann.name = "late"
    assert column(squad, "name")[0] == "ann"


def test_what_it_does_not_set_is_checked_still(squad):
    """89. The UPDATE forgives no change by others of what was read beside: the next write of the object finds it."""
    Player = squad.Player
    with pytest.raises(OptimisticCheckError, match="name: 'ann' was seen, 'new' is there now"), db_session:
        ann = Player[1]
        assert (ann.name, ann.count) == ("ann", 1)
        elsewhere(db_session(lambda: Player[1].set(name="new")))
        Player.select(id=1).update(count=7)
        ann.note = f"{ann.name} has 7"
    assert column(squad, "count")[0] == 1


@pytest.mark.parametrize("bump", [False, True])
def test_versions_are_counted_up_if_asked(squad, bump):
    """90. A Version is not counted up unless asked; then whoever has read the row before gets a conflict."""
    Player = squad.Player
    with db_session:
        ann = Player[1]
        version = ann.version
        Player.select().update(note="x", bump_version=bump)
        assert ann.version == version + bump
        ann.note = "y"
    assert column(squad, "version")[0] == version + bump + 1

    def meanwhile():
        Player.select().update(nick="z", bump_version=bump)

    with db_session as session:
        Player[2].note = "mine"
        with session.no_autoflush():
            elsewhere(db_session(meanwhile))
        if bump:
            with pytest.raises(OptimisticCheckError):
                flush()
            session.rollback()
    assert column(squad, "note")[1] == ("x" if bump else "mine")
