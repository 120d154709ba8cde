"""References set by one UPDATE for many rows: both ends of a relation agree in memory, whoever is loaded."""

from __future__ import annotations

import pytest

from dbsession import commit, db_session, flush, savepoint
from tests.observing import elsewhere, rows, sent
from tests.session.squad import declare, fill


@pytest.fixture
def squad(db):
    squad = declare(db)
    fill(squad)
    return squad


class Odd(Exception):
    """What lets a scope fail."""


def names(players):
    """Return the sorted names of *players*."""
    return sorted(player.name for player in players)


def teams(squad):
    """Return the teams of all players, as others see them."""
    return rows(squad.db, "SELECT team FROM player ORDER BY id")


# --- what a reference can be set to ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["object", "key", "none", "new", "hollow"])
def test_an_object_or_its_key(squad, way):
    """40. An object, loaded or not or new, its key, or None; the player shows it, and so does the database."""
    with db_session as session:
        ann = squad.Player[1]
        assert ann.team is squad.Team[1]
        new = squad.Team(name="new") if way == "new" else None
        value = {"object": squad.Team[2], "key": 2, "none": None, "new": new, "hollow": squad.Player[3].team}[way]
        with session.no_autoflush() if way != "new" else sent(squad.db):
            assert squad.Player.select(squad.Player.count < 3).update(team=value) == 2
        expected = None if way == "none" else new or squad.Team[2]
        assert ann.team is expected
        key = expected and expected.id
    assert teams(squad) == [key, key, 2, 2, None]


def test_a_key_of_several_parts(squad):
    """19. A reference of several columns is set by an object, by its key, or to None."""
    Player, Seat = squad.Player, squad.Seat
    with db_session:
        ann, bob = Player[1], Player[2]
        first, second = Seat["A", 1], Seat["A", 2]
        assert (ann.seat, bob.seat, list(first.players), list(second.players)) == (first, None, [ann], [])
        Player.select(Player.count < 3).update(seat=("A", 2))
        assert (ann.seat, bob.seat, list(first.players)) == (second, second, [])
        assert names(second.players) == ["ann", "bob"]
        Player.select(Player.count > 1).update(seat=first)
        assert (ann.seat, bob.seat) == (second, first)
        assert (names(first.players), names(second.players)) == (["bob", "cid", "dan", "eve"], ["ann"])
        Player.select(name="bob").update(seat=None)
        assert bob.seat is None
    assert rows(squad.db, "SELECT seat_row, seat_number FROM player ORDER BY id")[:3] == [
        ("A", 2),
        (None, None),
        ("A", 1),
    ]


def test_another_reference_of_the_row(squad):
    """A reference takes the value of another one of the same entity: of one column, or of several."""
    Player = squad.Player
    with db_session:
        ann, bob = Player[1], Player[2]
        Player.select().update(friend=bob)
        assert len(bob.fans) == 5
        ann.friend = None
        assert Player.select().update(friend=Player.friend, seat=Player.seat) == 5
        assert (ann.friend, len(bob.fans), ann.seat) == (None, 4, squad.Seat["A", 1])


# --- collections ----------------------------------------------------------------------------------------------


def test_loaded_collections_follow(squad):
    """125. Collections that are loaded give up and take what is in memory, without loading anything."""
    Player, Team = squad.Player, squad.Team
    with db_session:
        reds, blues = Team[1], Team[2]
        assert (names(reds.players), names(blues.players)) == (["ann", "bob"], ["cid", "dan"])
        with sent(squad.db) as spent:
            Player.select(Player.count.in_([2, 3])).update(team=blues)
            assert (names(reds.players), names(blues.players)) == (["ann"], ["bob", "cid", "dan"])
        assert spent.round_trips == 1
        with sent(squad.db) as spent:
            Player.select(team=blues).update(team=None)
            assert (names(reds.players), list(blues.players)) == (["ann"], [])
        assert spent.round_trips == 1


def test_rows_that_are_not_in_memory_come_to_a_collection(squad):
    """125. A loaded collection that rows come to which are not in memory is loaded again when it is needed."""
    Player, Team = squad.Player, squad.Team
    with db_session:
        blues = Team[2]
        assert names(blues.players) == ["cid", "dan"]
        Player.select(Player.count < 4).update(team=blues)
        assert names(blues.players) == ["ann", "bob", "cid", "dan"]


def test_an_empty_collection(squad):
    """125. The same holds if no player at all is in memory."""
    with db_session:
        empty = squad.Team(name="empty")
        commit()
        assert list(empty.players) == []
    with db_session:
        empty = squad.Team[3]
        assert list(empty.players) == []
        squad.Player.select().update(team=empty)
        assert len(empty.players) == 5
    with db_session:
        empty, red = squad.Team[3], squad.Team[1]
        assert list(red.players) == []
        squad.Player.select(id=1).update(team=red, friend=squad.Player.friend)
        assert names(red.players) == ["ann"]


def test_collections_that_are_not_loaded(squad):
    """125. A collection that was changed before it was loaded shows, once it is, where the UPDATE has left everybody."""
    Player, Team = squad.Player, squad.Team
    with db_session:
        reds, blues, eve = Team[1], Team[2], Player[5]
        reds.players.add(eve)
        flush()
        Player.select(name="eve").update(team=blues)
        assert eve not in reds.players and eve in blues.players
        assert (names(reds.players), names(blues.players)) == (["ann", "bob"], ["cid", "dan", "eve"])
    with db_session:
        reds, ann = Team[1], Player[1]
        reds.players.remove(ann)
        flush()
        Player.select(name="ann").update(team=1)
        assert names(reds.players) == ["ann", "bob"]


def test_unsaved_changes_stay_without_autoflush(squad):
    """127. Without autoflush a reference that has an unsaved change keeps it, and so do both collections."""
    Player, Team = squad.Player, squad.Team
    with db_session as session:
        reds, blues, third = Team[1], Team[2], Team(name="third")
        flush()
        assert (len(reds.players), len(blues.players), len(third.players)) == (2, 2, 0)
        ann = Player[1]
        ann.team = blues
        with session.no_autoflush():
            Player.select().update(team=third)
            assert ann.team is blues
            assert (names(reds.players), names(blues.players)) == ([], ["ann"])
            assert names(third.players) == ["bob", "cid", "dan", "eve"]
    assert teams(squad) == [2, 3, 3, 3, 3]


def test_what_was_moved_is_checked_by_its_new_value(squad):
    """89. The reference that was read counts as read with what the UPDATE has set: others may not change it unseen."""
    Player = squad.Player
    with db_session:
        ann = Player[1]
        assert ann.team.id == 1
        Player.select().update(team=2)
        ann.note = "own change"
        flush()
        commit()
        assert ann.team.id == 2
        ann.note = "again"
    assert rows(squad.db, "SELECT note FROM player WHERE id = 1") == ["again"]


# --- one-to-one -----------------------------------------------------------------------------------------------


def test_ends_of_one_to_one_relations_follow(squad):
    """125. The end that has no column shows who refers to it now, without loading what is in memory."""
    Coach, Team = squad.Coach, squad.Team
    with db_session:
        reds, blues, kim, lee = Team[1], Team[2], Coach[1], Coach[2]
        assert (reds.coach, blues.coach) == (kim, None)
        with sent(squad.db) as spent:
            Coach.select(name="kim").update(team=blues)
            assert (reds.coach, blues.coach, kim.team) == (None, kim, blues)
        assert spent.round_trips == 1
        Coach.select(name="kim").update(team=None)
        assert (blues.coach, kim.team) == (None, None)
        Coach.select(name="lee").update(team=reds)
        assert (reds.coach, lee.team) == (lee, reds)


def test_a_row_that_is_not_in_memory_comes_to_an_end(squad):
    """125. It is loaded when it is needed; giving the end to another one then finds whom to take it from."""
    Coach, Team = squad.Coach, squad.Team
    with db_session:
        blues = Team[2]
        assert blues.coach is None
        Coach.select(name="lee").update(team=blues)
        assert blues.coach.name == "lee"
        blues.coach = Coach[1]
    assert rows(squad.db, "SELECT team FROM coach ORDER BY id") == [2, None]


def test_who_refers_is_found_by_its_new_row(squad):
    """A loaded coach that the UPDATE has given a team is the one who gives way, though nobody has asked the team."""
    Coach, Team = squad.Coach, squad.Team
    with db_session:
        kim, lee, reds, blues = Coach[1], Coach[2], Team[1], Team[2]
        kim.team = blues
        flush()
        Coach.select(name="lee").update(team=reds)
        kim.team = reds
        assert lee.team is None
    assert rows(squad.db, "SELECT team FROM coach ORDER BY id") == [1, None]


# --- undone ---------------------------------------------------------------------------------------------------


def look(squad):
    """Return what the objects of the session show, without loading anything that was loaded before."""
    Player, Team, Coach = squad.Player, squad.Team, squad.Coach
    players = [(p.count, p.note, p.data, p.team, p.version) for p in map(Player.__getitem__, range(1, 4))]
    relations = [(names(Team[n].players), Team[n].coach) for n in (1, 2)]
    return players, relations, [Coach[n].team for n in (1, 2)]


def change(squad):
    """Change values and relations in bulk."""
    Player, Team, Coach = squad.Player, squad.Team, squad.Coach
    Player.select().update(count=Player.count + 100, note="x", data={"new": 1}, team=Team[2], bump_version=True)
    Coach.select(name="kim").update(team=2)
    Coach.select(name="lee").update(team=1)
    Player.select(Player.count == 102).update(team=1)


@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read again"])
def test_a_rollback_puts_everything_back(squad, reads):
    """68, 70. After a rollback values, references, collections and ends are as they were, and nothing is loaded for it."""
    with db_session as session:
        before = look(squad)
        change(squad)
        if reads:
            assert look(squad) != before
        session.rollback()
        with sent(squad.db) as spent:
            values = look(squad)
        assert values == before
        assert spent.statements <= 2  # collections that took rows which were not in memory
        squad.Player[1].note = "after"
    assert rows(squad.db, "SELECT count, note FROM player ORDER BY id")[:2] == [(1, "after"), (2, None)]


@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read again"])
@pytest.mark.parametrize("scope", [db_session, savepoint], ids=["join", "savepoint"])
def test_an_inner_scope_that_fails(squad, scope, reads):
    """75, 83. What an inner scope has changed in bulk is undone in memory and in the database; what it was not stays."""
    Player = squad.Player
    with db_session:
        ann = Player[1]
        ann.note = "outer"
        Player.select(name="bob").update(note="outer bulk")
        before = look(squad)
        with pytest.raises(Odd), scope:
            change(squad)
            if reads:
                assert look(squad) != before
            raise Odd
        with sent(squad.db) as spent:
            assert look(squad) == before
        assert spent.statements <= 2  # ROLLBACK TO and RELEASE
        ann.count += 1
    found = rows(squad.db, "SELECT count, note, team FROM player ORDER BY id")
    assert found == [(2, "outer", 1), (2, "outer bulk", 1), (3, None, 2), (4, None, 2), (5, None, None)]


def test_an_inner_scope_that_ends_well_within_one_that_fails(squad):
    """76. The outer failure undoes what the inner one has changed in bulk."""
    with db_session as session:
        before = look(squad)
        with savepoint():
            change(squad)
        after = look(squad)
        assert after != before
        session.rollback()
        assert look(squad) == before
    assert teams(squad) == [1, 1, 2, 2, None]


def test_objects_loaded_after_it_are_loaded_again_after_a_rollback(squad):
    """68. What was loaded first when the UPDATE had been sent shows the database's values after a rollback."""
    with db_session as session:
        squad.Player.select().update(note="x")
        ann = squad.Player[1]
        assert ann.note == "x"
        session.rollback()
        assert ann.note is None
    assert elsewhere(db_session(lambda: squad.Player[1].note)) is None
