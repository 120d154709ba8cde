"""Relations in memory: both ends agree before the flush, and only net changes are written (scenarios 39 and 40)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbsession import (
    ConstraintError,
    Database,
    Optional,
    Required,
    Set,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import rows, sent
from tests.recording import recorded, set_columns, verbs


class School:
    """Teams with players (who may have no team) and fans (of any number of teams)."""

    def __init__(self, db: Database) -> None:
        class Team(db.Entity):
            name = Required(str)
            players = Set("Player")
            fans = Set("Fan")

        class Player(db.Entity):
            name = Required(str)
            team = Optional(Team)

        class Fan(db.Entity):
            name = Required(str)
            teams = Set(Team)

        db.generate_mapping(create_tables=True)
        self.db, self.Team, self.Player, self.Fan = db, Team, Player, Fan

    def fill(self) -> None:
        """Put the same rows into empty tables."""
        with db_session:
            for table in ("fan_team", "player", "fan", "team"):
                self.db.execute(f"DELETE FROM {table}")
            self.db.execute("INSERT INTO team (id, name) VALUES (1, 't'), (2, 't'), (3, 't')")
            self.db.execute("INSERT INTO fan (id, name) VALUES (1, 'f'), (2, 'f'), (3, 'f')")
            self.db.execute(
                "INSERT INTO player (id, name, team) VALUES (1, 'p', 1), (2, 'p', 1), (3, 'p', 2), (4, 'p', NULL)"
            )
            self.db.execute("INSERT INTO fan_team (fan, team) VALUES (1, 1), (1, 2), (2, 1)")
            if self.db.backend.dialect.name == "postgresql":  # keys that were given by hand do not count
                for table in ("player", "fan", "team"):
                    self.db.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), 100)", [table])

    def players(self) -> dict[int, int | None]:
        """Return what others see: the team of each player."""
        return dict(rows(self.db, "SELECT id, team FROM player ORDER BY id"))

    def fans(self) -> set[tuple[int, int]]:
        """Return what others see: pairs of fan and team."""
        return set(rows(self.db, "SELECT fan, team FROM fan_team"))


@pytest.fixture
def school(db):
    school = School(db)
    school.fill()
    return school


# --- 39: one-to-many ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loaded", [True, False])
def test_a_player_changes_the_team(school, loaded):
    """39. Through the reference: the old collection has lost the object and the new one has it, before any flush."""
    with db_session:
        first, second, player = school.Team[1], school.Team[2], school.Player[1]
        if loaded:
            first.players.load(), second.players.load()
        player.team = second
        with recorded() as statements:
            assert player not in first.players and player in second.players and player.team is second
            assert [p.id for p in first.players] == [2] and {p.id for p in second.players} == {1, 3}
        if loaded:
            assert not statements
        with recorded() as statements:
            flush()
        assert verbs(statements) == ["UPDATE"] and set_columns(statements[-1]) == ["team"]
        assert [p.id for p in first.players] == [2] and {p.id for p in second.players} == {1, 3}
    assert school.players() == {1: 2, 2: 1, 3: 2, 4: None}


@pytest.mark.parametrize("loaded", [True, False])
def test_a_team_takes_and_releases_players(school, loaded):
    """39. Through the collection: the references follow, whether the collection was loaded or not."""
    with db_session:
        first, second = school.Team[1], school.Team[2]
        one, three, four = school.Player[1], school.Player[3], school.Player[4]
        if loaded:
            first.players.load(), second.players.load()
        with sent(school.db) as spent:
            first.players.add(three, four)
            first.players.remove(one)
            assert three.team is first and four.team is first and one.team is None
        assert spent.statements == 0
        assert {p.id for p in first.players} == {2, 3, 4} and list(second.players) == []
        with recorded() as statements:
            commit()
        assert set(verbs(statements)) == {"UPDATE"}
    assert school.players() == {1: None, 2: 1, 3: 1, 4: 1}


def test_moved_and_moved_back(school):
    """39. What is as before at the flush is not written, whichever ends the changes went through."""
    with db_session:
        first, second = school.Team[1], school.Team[2]
        one, four = school.Player[1], school.Player[4]
        one.team = second
        first.players.add(one)
        first.players.add(four)
        first.players.remove(four)
        second.players.add(one)
        second.players.remove(one)
        one.team = 1
        with sent(school.db) as spent:
            flush()
        assert spent.statements == 0
        assert {p.id for p in first.players} == {1, 2} and one.team is first and four.team is None


def test_a_new_player_of_a_team(school):
    """39. A new object is in the collection of the object that it refers to, and one made by it refers to it."""
    with db_session:
        team = school.Team[2]
        with sent(school.db) as spent:
            made = school.Player(name="n", team=team)
            created = team.players.create(name="m")
            assert made in team.players and created.team is team and created in team.players
        assert spent.statements == 0
        assert {p.name for p in team.players} == {"p", "n", "m"} and len(team.players) == 3
        team.players.remove(made)
        assert made.team is None
        created.delete()
        assert [p.id for p in team.players] == [3]
        both = school.Team(name="new", players=[made, school.Player[3]])
        assert made.team is both and school.Player[3].team is both and team.players.is_empty()
    assert school.players() == {1: 1, 2: 1, 3: both.id, 4: None, made.id: both.id}


def test_a_collection_is_assigned(school):
    """39. Assigning a collection releases who is not in it, takes who is new, and leaves the others alone."""
    with db_session:
        first = school.Team[1]
        two, three, four = school.Player[2], school.Player[3], school.Player[4]
        first.players = [two, three, four]
        assert school.Player[1].team is None and three.team is first
        with recorded() as statements:
            flush()
        assert sum(len(s.params) if s.many else 1 for s in statements if s.sql.startswith("UPDATE")) == 3
        first.players += [school.Player[1]]
        first.players -= [two, three]
        assert {p.id for p in first.players} == {1, 4}
    assert school.players() == {1: 1, 2: None, 3: None, 4: 1}


# --- 40: by object or by key --------------------------------------------------------------------------------


def test_a_reference_by_object_or_by_key(school):
    """40. A reference set by a key is the object with it: the later assignment wins, and both ends agree."""
    with db_session:
        player, first, second = school.Player[4], school.Team[1], school.Team[2]
        player.team = 1
        assert player.team is first and player in first.players
        player.team = second
        assert player.team is second and player not in first.players and player in second.players
        player.team = "1"
        flush()
        assert player.team is first and player in first.players
        made = school.Player(name="n", team=2)
        assert made.team is second and made in second.players
        assert {p.id for p in school.Player.select(team=1)} == {1, 2, 4}
    assert school.players() == {1: 1, 2: 1, 3: 2, 4: 1, made.id: 2}


def test_a_key_without_a_row(school):
    """40. A key that no row has is refused by the database, with the object that refers to it."""
    with pytest.raises(TransactionIntegrityError) as caught:
        with db_session:
            school.Player[4].team = 99
    assert "Player[4]" in "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert school.players()[4] is None


def test_a_reference_to_a_new_object(school):
    """40. A reference to an object that has no key yet has it after the flush, on both ends."""
    with db_session:
        team = school.Team(name="new")
        player = school.Player[4]
        player.team = team
        assert list(team.players) == [player]
        with recorded() as statements:
            flush()
        assert verbs(statements)[-1] == "UPDATE"
        assert team.id is not None and player.team is team
    assert school.players()[4] == team.id


def test_setting_both_ends_at_once(school):
    """40. If one call sets both ends in contradiction, the object ends up with one team, which both ends name."""
    with db_session:
        first, second = school.Team[1], school.Team[2]
        player = school.Player(name="n", team=first)
        second.set(name="second", players=[player])
        assert player.team is second and player not in first.players and list(second.players) == [player]
    assert school.players() == {1: 1, 2: 1, 3: None, 4: None, player.id: 2}


def test_a_required_end_is_not_released(db):
    """39, 41. An object that needs its parent is not released from a collection without cascade; nothing changes."""

    class Parent(db.Entity):
        children = Set("Child", cascade_delete=False)

    class Child(db.Entity):
        parent = Required(Parent)

    db.generate_mapping(create_tables=True)
    with db_session:
        parent = Parent()
        first, second = Child(parent=parent), Child(parent=parent)
        flush()
        for change in (
            lambda: parent.children.remove(first),
            lambda: parent.children.clear(),
            lambda: setattr(parent, "children", [second]),
            lambda: parent.set(children=[]),
        ):
            with pytest.raises(ConstraintError, match=r"Child\[1\].*Parent\[1\]\.children.*Child\.parent"):
                change()
        assert first.parent is parent and set(parent.children) == {first, second}
        with sent(db) as spent:
            flush()
        assert spent.statements == 0


# --- a model --------------------------------------------------------------------------------------------------

TEAM = st.integers(1, 3)
PLAYER = st.integers(1, 4)
FAN = st.integers(1, 3)
STEP = st.one_of(
    st.tuples(st.just("refer"), PLAYER, st.none() | TEAM, st.booleans()),
    st.tuples(st.just("take"), TEAM, st.lists(PLAYER, max_size=3)),
    st.tuples(st.just("release"), TEAM, st.lists(PLAYER, max_size=3)),
    st.tuples(st.just("replace"), TEAM, st.lists(PLAYER, max_size=3)),
    st.tuples(st.just("cheer"), TEAM, st.lists(FAN, max_size=3), st.booleans()),
    st.tuples(st.just("boo"), TEAM, st.lists(FAN, max_size=3), st.booleans()),
    st.tuples(st.just("crowd"), TEAM, st.lists(FAN, max_size=3)),
    st.tuples(st.just("load"), TEAM),
    st.tuples(st.sampled_from(["flush", "commit", "rollback", "look"])),
)


class Model:
    """The relations as plain Python sees them."""

    def __init__(self) -> None:
        self.team: dict[int, int | None] = {1: 1, 2: 1, 3: 2, 4: None}
        self.links = {(1, 1), (1, 2), (2, 1)}
        self.commit()

    def commit(self) -> None:
        """Note what a rollback goes back to."""
        self.saved = (dict(self.team), set(self.links))

    def rollback(self) -> None:
        """Go back."""
        self.team, self.links = dict(self.saved[0]), set(self.saved[1])

    def apply(self, step: Any) -> None:
        """Do what the session is asked to do."""
        match step:
            case ("refer", player, team, _):
                self.team[player] = team
            case ("take", team, players):
                self.team.update(dict.fromkeys(players, team))
            case ("release", team, players):
                self.team.update({player: None for player in players if self.team[player] == team})
            case ("replace", team, players):
                self.team = {player: None if at == team else at for player, at in self.team.items()}
                self.team.update(dict.fromkeys(players, team))
            case ("cheer", team, fans, _):
                self.links |= {(fan, team) for fan in fans}
            case ("boo", team, fans, _):
                self.links -= {(fan, team) for fan in fans}
            case ("crowd", team, fans):
                self.links = {link for link in self.links if link[1] != team} | {(fan, team) for fan in fans}
            case ("commit",):
                self.commit()
            case ("rollback",):
                self.rollback()


def do(school: School, step: Any) -> None:
    """Ask the session."""
    match step:
        case ("refer", player, team, by_key):
            school.Player[player].team = team if by_key or team is None else school.Team[team]
        case ("take" | "release" as verb, team, players):
            change = school.Team[team].players.add if verb == "take" else school.Team[team].players.remove
            change([school.Player[player] for player in players])
        case ("replace", team, players):
            school.Team[team].players = [school.Player[player] for player in players]
        case ("cheer" | "boo" as verb, team, fans, from_team):
            for fan in fans:
                ours, theirs = school.Team[team].fans, school.Fan[fan].teams
                mine, other = (ours, school.Fan[fan]) if from_team else (theirs, school.Team[team])
                (mine.add if verb == "cheer" else mine.remove)(other)
        case ("crowd", team, fans):
            school.Team[team].fans = [school.Fan[fan] for fan in fans]
        case ("load", team):
            school.Team[team].players.load(), school.Team[team].fans.load()
        case ("flush",):
            flush()
        case ("commit",):
            commit()
        case ("rollback",):
            rollback()


def look(school: School) -> tuple[dict[int, int | None], set[tuple[int, int]]]:
    """Return the relations as the session shows them, after comparing both ends."""
    team = {player.id: player.team and player.team.id for player in school.Player.select()}
    from_teams = {player.id: t.id for t in school.Team.select() for player in t.players}
    assert from_teams == {player: at for player, at in team.items() if at is not None}
    links = {(fan.id, t.id) for t in school.Team.select() for fan in t.fans}
    assert links == {(fan.id, t.id) for fan in school.Fan.select() for t in fan.teams}
    return team, links


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=10), autoflush=st.booleans())
def test_relations_follow_a_model(school, steps, autoflush):
    """39. After any steps, through either end, loaded or not, both ends and the database agree with a plain model."""
    school.fill()
    model = Model()
    with db_session() as session:
        for step in steps:
            do(school, step)
            model.apply(step)
            if step == ("look",):
                if autoflush:
                    assert look(school) == (model.team, model.links)
                else:
                    with session.no_autoflush():
                        assert look(school) == (model.team, model.links)
        assert look(school) == (model.team, model.links)
        rollback()
        model.rollback()
        assert look(school) == (model.team, model.links)
        for step in steps:
            if step[0] not in {"commit", "rollback"}:
                do(school, step)
                model.apply(step)
    assert (school.players(), school.fans()) == (model.team, model.links)
