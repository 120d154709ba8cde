"""Several transient objects joining a session by one call: all of them come, or none, and nothing is half done."""

import copy

import pytest

from dbsession import CacheIndexError, ConstraintError, Optional, PrimaryKey, Required, Session, Set, db_session
from tests.observing import rows


@pytest.fixture
def world(db):
    """Users with tags, friends and staff; a pair of users; somebody saved."""

    class User(db.Entity):
        name = PrimaryKey(str)
        tags = Set("Tag")
        boss = Optional("User", reverse="staff")
        staff = Set("User", reverse="boss")
        friends = Set("User", reverse="friends")
        first = Set("Pair", reverse="a")
        second = Set("Pair", reverse="b")
        badge = Optional("Badge")

    class Tag(db.Entity):
        text = PrimaryKey(str)
        users = Set(User)

    class Pair(db.Entity):
        a = Required(User, reverse="first")
        b = Required(User, reverse="second")

    class Badge(db.Entity):
        number = PrimaryKey(int)
        user = Optional(User)

    db.generate_mapping(create_tables=True)
    with db_session:
        User(name="saved", staff=[User(name="old")])
    for name, entity in db.entities.items():
        setattr(db, name, entity)
    return db


@pytest.fixture
def both(world):
    """Two transient users who can each come, but not both: each has a new Tag['k'] of its own."""
    session = Session(world)
    yield [world.User(name=name, tags=[world.Tag(text="k")]) for name in "ab"]
    session.close()


CALLS = {
    "constructor": lambda world, _user, a, b: world.Pair(a=a, b=b),
    "constructor, collection": lambda world, _user, a, b: world.User(name="new", friends=[a, b]),
    "constructor, several": lambda world, _user, a, b: world.User(name="new", boss=a, staff=[b]),
    "create": lambda _world, user, a, b: user.staff.create(name="new", friends=[a, b]),
    "assignment": lambda _world, user, a, b: setattr(user, "friends", [a, b]),
    "assignment, other ends": lambda _world, user, a, b: setattr(user, "staff", [a, b]),
    "add": lambda _world, user, a, b: user.friends.add(a, b),
    "add, other ends": lambda _world, user, a, b: user.staff.add(a, b),
    "set": lambda _world, user, a, b: user.set(boss=a, staff=[b]),
    "set, several": lambda _world, user, a, b: user.set(staff=[a], friends=[b]),
    "set, with a key": lambda _world, user, a, b: user.set(name="renamed", boss=a, friends=[b]),
}


def shown(user):
    """Return what there is of *user*."""
    return user.name, user.boss, set(user.staff), set(user.friends), user.badge


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_is_refused_leaves_nothing_behind(world, both, call):
    """128. Objects that can each come to a session, but not together, are refused before the first has come."""
    with db_session as session:
        user = world.User["saved"]
        before = shown(user)
        with pytest.raises(CacheIndexError, match="Tag"):
            call(world, user, *both)
        assert not session.new | session.dirty
        assert shown(user) == before
        assert [list(a.friends) + list(a.staff) + list(a.first) for a in both] == [[], []]
        assert [a.boss for a in both] == [None, None]
    assert rows(world, "SELECT count(*) FROM tag") == [0]
    with db_session as session:
        session.add(both[0])  # each alone may come still
    assert rows(world, "SELECT text FROM tag") == ["k"]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_transient_object_is_left_alone_too(world, both, call):
    """128. The same for objects that no session has."""
    user = world.User(name="third")
    before = shown(user)
    with pytest.raises(CacheIndexError, match="Tag"):
        call(world, user, *both)
    assert shown(user) == before
    assert [list(a.friends) + list(a.staff) + list(a.first) for a in both] == [[], []]
    with db_session as session:
        session.add(user)
        assert session.new == {user}


@pytest.mark.parametrize("what", CALLS)
def test_what_can_come_together_comes(world, what):
    """128. Without the conflict the same calls save everything."""
    session = Session(world)
    both = [world.User(name=name, tags=[world.Tag(text=f"k{name}")]) for name in "ab"]
    session.close()
    with db_session as session:
        CALLS[what](world, world.User["old" if "key" in what else "saved"], *both)
    assert rows(world, "SELECT text FROM tag ORDER BY text") == ["ka", "kb"]


def test_the_key_that_the_same_call_assigns_counts(world):
    """128. set() of a key, and of a new object that has it, is refused as a whole."""
    session = Session(world)
    clash = world.User(name="other", friends=[world.User(name="third")])
    with db_session as scope:
        user = world.User(name="new")
        with pytest.raises(CacheIndexError, match="third"):
            user.set(name="third", boss=clash)
        assert shown(user) == ("new", None, set(), set(), None)
        assert scope.new == {user}
        assert world.User["new"] is user
        with pytest.raises(CacheIndexError, match="third"):
            world.User(name="third", boss=clash)
        assert scope.new == {user}
        user.set(name="fourth", boss=clash)
    session.close()
    assert rows(world, f"SELECT boss FROM {world.User._mapping_.quoted} WHERE name = 'fourth'") == ["other"]


def test_a_one_to_one_relation_is_part_of_the_move(world):
    """128. The end without a column brings objects, too, and its old partner is not left before they can come."""
    session = Session(world)
    badge = world.Badge(number=1, user=None)
    other = world.User(name="a", badge=world.Badge(number=1))
    session.close()
    with db_session as scope:
        user = world.User["saved"]
        user.badge = mine = world.Badge(number=2)
        with pytest.raises(CacheIndexError, match="Badge"):
            user.set(badge=badge, friends=[other])
        assert user.badge is mine
        assert mine.user is user
        assert scope.new == {mine}


def test_a_copy_among_them_is_refused_first(world):
    """127. A copy has to be attached first: nobody of the same call comes before that is said."""
    session = Session(world)
    new = world.User(name="new")
    session.close()
    with db_session:
        old = copy.copy(world.User["old"])
    with db_session as scope:
        user = world.User["saved"]
        for call in (
            lambda: user.friends.add(new, old),
            lambda: user.set(boss=new, friends=[old]),
            lambda: world.User(name="x", boss=new, friends=[old]),
        ):
            with pytest.raises(ConstraintError, match="attach"):
                call()
            assert not scope.new | scope.dirty
