"""Rows and collections of which a session knows only a part, and what it must not conclude from that."""

from types import SimpleNamespace

import pytest

from dbsession import ObjectNotFound, Optional, PrimaryKey, Required, Set, commit, db_session, flush, rollback
from tests.observing import rows


@pytest.fixture
def club(db):
    class Team(db.Entity):
        name = Required(str)
        players = Set("Player")
        badge = Optional("Badge")

    class Badge(db.Entity):
        name = Required(str)
        team = Optional(Team, column="team")

    class Player(db.Entity):
        name = Required(str)
        slot = Optional(int, unique=True)
        team = Optional(Team)
        best = Optional("Player", reverse="best_of")
        best_of = Set("Player", reverse="best")
        tags = Set("Tag")

    class Tag(db.Entity):
        name = Required(str)
        players = Set(Player)

    class Box(db.Entity):
        code = PrimaryKey(int)
        text = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        red = Team(name="red")
        ann = Player(name="ann", slot=1, team=red)
        Player(name="bob", slot=2, best=ann)
        Team(name="blue")
        Badge(name="lion", team=red)
        Badge(name="wolf")
        Tag(name="fast")
        Box(code=1, text="one")
    return SimpleNamespace(db=db, Team=Team, Badge=Badge, Player=Player, Tag=Tag, Box=Box)


def test_unique_values_are_swapped_with_a_row_that_is_not_loaded(club):
    """47. Of ann only the key is known, so nobody knows that the slot that bob takes is hers to give up."""
    with db_session:
        bob = club.Player.get(name="bob")
        bob.best.slot = 2
        bob.slot = 1
    assert rows(club.db, "SELECT name, slot FROM player ORDER BY name") == [("ann", 2), ("bob", 1)]


def test_a_unique_value_is_taken_from_a_row_that_is_not_loaded(club):
    """46. The row that is not loaded gives its value up for none; a new one takes it."""
    with db_session:
        club.Player.get(name="bob").best.slot = None
        club.Player(name="cat", slot=1)
    assert rows(club.db, "SELECT name, slot FROM player ORDER BY name") == [("ann", None), ("bob", 2), ("cat", 1)]


def test_a_collection_does_not_show_what_was_deleted_in_bulk(club):
    """55. An item that was added, saved and deleted in bulk is in no collection, when that is loaded or asked."""
    with db_session:
        red, tag = club.Team.get(name="red"), club.Tag.get(name="fast")
        new = club.Player(name="new", team=red, tags=[tag])
        flush()
        club.Player.select(name="new").delete(bulk=True)
        assert new not in red.players and new not in tag.players
        assert tag.players.is_empty()
        assert [player.name for player in red.players] == ["ann"] and not tag.players
        rollback()
        assert [player.name for player in red.players] == ["ann"] and not tag.players


def test_the_collection_of_a_new_object_follows_a_deletion(club):
    """54. What an object that was made in this scope is linked to is deleted, after a commit: its collection knows."""
    with db_session:
        tag = club.Tag.get(name="fast")
        new = club.Player(name="new", tags=[tag])
        commit()
        tag.delete()
        assert list(new.tags) == []
    assert rows(club.db, 'SELECT count(*) FROM "player_tag"') == [0]


def test_who_refers_is_found_also_when_it_was_loaded_late(club):
    """39. The lion was known by its key alone when it was first looked for; later it gives way to the wolf."""
    with db_session:
        club.db.execute("UPDATE badge SET name = 'LION' WHERE name = 'lion'")
        lion = club.Badge.get(name="LION")
        rollback()  # it is emptied to its key
        wolf, red = club.Badge.get(name="wolf"), club.Team.get(name="red")
        wolf.team = club.Team.get(name="blue")
        assert lion.team is red
        wolf.team = red
        assert lion.team is None
    assert rows(club.db, "SELECT b.name, t.name FROM badge b LEFT JOIN team t ON t.id = b.team ORDER BY b.name") == [
        ("lion", None),
        ("wolf", "red"),
    ]


def test_a_new_object_that_leaves_a_key_it_had_taken_over(club):
    """22, 26. The deleted object whose key it had is not found again, nor is its row."""
    with db_session:
        box = club.Box[1]
        box.delete()
        new = club.Box(code=1, text="new")
        new.code = 2
        assert club.Box.get(code=1) is None
        assert club.Box[2] is new
    assert rows(club.db, "SELECT code, text FROM box") == [(2, "new")]


def test_a_row_that_is_loaded_again_below_an_sql_expression(club):
    """37, 65. The row is the same as when its value was read, in an earlier transaction: the expression may stand."""
    with db_session:
        ann, bob = club.Player.get(name="ann"), club.Player.get(name="bob")
        assert bob.slot == 2
        commit()
        bob.slot = club.Player.slot + 10
        assert list(ann.best_of) == [bob]
    assert rows(club.db, "SELECT slot FROM player WHERE name = 'bob'") == [12]


def test_a_reference_to_the_wrong_class(db):
    """An object that a wrong key has made known does not exist; the row with that key is of its own class all the same."""

    class Animal(db.Entity):
        name = Required(str)

    class Dog(Animal):
        tricks = Optional(int)
        kennels = Set("Kennel")

    class Kennel(db.Entity):
        dog = Optional(Dog)

    db.generate_mapping(create_tables=True)
    with db_session:
        Animal(name="cat"), Kennel()
    with db_session:
        wrong = Kennel[1]
        wrong.dog = 1
        dog = wrong.dog
        assert (type(Animal[1]), Animal[1].name) == (Animal, "cat")
        for read in (lambda: dog.name, lambda: dog.tricks):
            with pytest.raises(ObjectNotFound, match=r"Dog\[1\] does not exist"):
                read()
        assert Animal.select().fetch() == [Animal[1]]
