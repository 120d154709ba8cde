"""Random changes, made within a session or of copies that are attached later: the database is the same in the end."""

import copy
import pickle
import random

import pytest

from dbsession import OrmError, Session, db_session, flush, rollback
from dbsession.model.state import Status
from tests.session.travel import make_world

SEEDS = range(20)
KINDS = ("User", "Order", "Tag", "Card", "Node")


def grow(world):
    """Save a few more objects, and return what says how they are."""
    with db_session:
        users = [world.User(name=f"u{i}") for i in range(4)]
        tags = [world.Tag(text=f"t{i}") for i in range(4)]
        for i, user in enumerate(users):
            user.tags = tags[i:]
            for j in range(i):
                world.Order(total=100 + 10 * i + j, user=user)
            if i % 2:
                world.Card(number=f"c{i}", owner=user)
        nodes = []
        for i in range(6):
            nodes.append(world.Node(value=i, parent=nodes[i // 2] if i else None))


def load(world):
    """Return all objects by kind, with everything about them loaded and read."""
    objects = {kind: list(getattr(world, kind).select().order_by(lambda o: o)) for kind in KINDS}
    for each in objects.values():
        for obj in each:
            obj.to_dict(with_collections=True, with_lazy=True)
    return objects


def steps(rng):
    """Return a random program: what to do, and to which objects, by their numbers."""
    number = rng.randrange
    making = iter(range(1000, 2000))
    chosen = []
    for _ in range(rng.randrange(3, 14)):
        what = rng.choice(
            [
                "name",
                "total",
                "text",
                "user",
                "no user",
                "owner",
                "card",
                "parent",
                "tag",
                "untag",
                "tags",
                "orders",
                "new user",
                "new order",
                "new tag",
                "new node",
                "new card",
                "delete",
                "delete",
                "order to",
                "json",
            ]
        )
        chosen.append((what, number(99), number(99), next(making), rng.choice(KINDS)))
    return chosen


def do(world, objects, step):
    """Do one step, and return what came of it."""
    what, one, two, value, kind = step

    def pick(kind, number):
        return objects[kind][number % len(objects[kind])]

    def make(kind, **values):
        objects[kind].append(getattr(world, kind)(**values))

    todo = {
        "name": lambda: setattr(pick("User", one), "name", f"n{value}"),
        "json": lambda: pick("User", one).set(data={"value": [value]}),
        "total": lambda: setattr(pick("Order", one), "total", value),
        "text": lambda: setattr(pick("Tag", one), "note", f"note {value}"),
        "user": lambda: setattr(pick("Order", one), "user", pick("User", two)),
        "order to": lambda: pick("User", two).orders.add(pick("Order", one)),
        "no user": lambda: pick("User", one).orders.remove(pick("Order", two)),
        "orders": lambda: setattr(pick("User", one), "orders", [pick("Order", two), pick("Order", two + 1)]),
        "owner": lambda: setattr(pick("Card", one), "owner", pick("User", two)),
        "card": lambda: setattr(pick("User", one), "card", pick("Card", two)),
        "parent": lambda: setattr(pick("Node", one), "parent", pick("Node", two) if one % 3 else None),
        "tag": lambda: pick("User", one).tags.add(pick("Tag", two)),
        "untag": lambda: pick("Tag", one).users.remove(pick("User", two)),
        "tags": lambda: setattr(pick("User", one), "tags", [pick("Tag", two), pick("Tag", two + 1)]),
        "new user": lambda: make("User", name=f"new {value}", tags=[pick("Tag", two)] if one % 2 else []),
        "new order": lambda: make("Order", total=value, user=pick("User", two)),
        "new tag": lambda: make("Tag", text=f"t{one % 30}", users=[pick("User", two)]),
        "new node": lambda: make("Node", value=value, parent=pick("Node", two)),
        "new card": lambda: make("Card", number=f"c{value}", owner=pick("User", two)),
        "delete": lambda: pick(kind, one).delete(),
    }
    try:
        todo[what]()
    except OrmError as error:
        return type(error).__name__
    return "done"


def picture(world):
    """Return what is in the database, in the current transaction, by values instead of keys."""
    user = world.User._mapping_.quoted
    asked = {
        "users": f"SELECT name, data FROM {user}",
        "orders": f'SELECT o.total, u.name FROM purchase o JOIN {user} u ON u.id = o."user"',
        "cards": f"SELECT c.number, u.name FROM card c JOIN {user} u ON u.id = c.owner",
        "tags": "SELECT text, note FROM tag",
        "links": f'SELECT u.name, l.tag FROM tag_user l JOIN {user} u ON u.id = l."user"',
        "nodes": "SELECT n.value, p.value FROM node n LEFT JOIN node p ON p.id = n.parent",
    }
    return {what: sorted([repr(tuple(row)) for row in world.db.select(sql)]) for what, sql in asked.items()}


def memory(objects):
    """Return what the saved ones of *objects* show."""
    return [
        obj.to_dict(with_collections=True, with_lazy=True)
        for each in objects.values()
        for obj in each
        if obj._state_.is_persistent
    ]


def ending(program):
    """Return what a commit gives: "done", or the class of the error."""
    try:
        program()
    except OrmError as error:
        return type(error).__name__
    return "done"


@pytest.mark.parametrize("seed", SEEDS)
def test_changes_of_copies_are_changes(db, seed):
    """123. A program of changes gives the same outcomes and rows, whether its objects travel in the middle or not."""
    world = make_world(db)
    grow(world)
    rng = random.Random(seed)
    program = steps(rng)
    first, second = sorted((rng.randrange(len(program) + 1), rng.randrange(len(program) + 1)))
    way = rng.choice([copy.deepcopy, lambda objects: pickle.loads(pickle.dumps(objects))])

    def again(objects):
        copies = way(objects)
        for kind, each in objects.items():  # what was deleted before it was saved could be added again: let it be
            for obj, twin in zip(each, copies[kind], strict=True):
                if is_gone(obj):
                    twin.delete()
        return copies

    with db_session:
        before = picture(world)
        objects = load(world)
        shown = memory(objects)
        travelling = again(objects)
        expected = [do(world, objects, step) for step in program]
        end = ending(flush)
        after = picture(world) if end == "done" else before
        rollback()
    assert memory(travelling) == shown

    session = Session(db)  # so that objects can be built
    outcomes = [do(world, travelling, step) for step in program[:first]]
    travelling = again(travelling)
    outcomes += [do(world, travelling, step) for step in program[first:second]]
    travelled, inner = again(travelling), again(travelling)
    session.add_all(each for kind in travelled.values() for each in kind if not is_gone(each))
    ending(session.flush)
    session.rollback()
    assert memory(travelled) == shown
    session.close()

    with db_session as session:
        with pytest.raises(ZeroDivisionError), db_session:
            session.add_all(each for kind in inner.values() for each in kind if not is_gone(each))
            raise ZeroDivisionError
        assert memory(inner) == shown
    with db_session as session:
        assert picture(world) == before
        session.add_all(each for kind in travelling.values() for each in kind if not is_gone(each))
        outcomes += [do(world, travelling, step) for step in program[second:]]
        saved = ending(flush)
        found = picture(world) if saved == "done" else before
        rollback()
    assert (outcomes, saved, found) == (expected, end, after)


def is_gone(obj):
    """Tell whether *obj* was made and deleted, and never saved."""
    return obj._state_.status is Status.TRANSIENT
