"""The order of a flush as data: what `in_order` makes of unsaved objects. Nothing is sent."""

from random import Random
from types import SimpleNamespace

import pytest

from dbsession import (
    Database,
    Optional,
    PrimaryKey,
    Required,
    Set,
    UnresolvableCyclicDependency,
    composite_key,
    db_session,
    rollback,
)
from dbsession.session.ordering import Action, Run, in_order


@pytest.fixture(scope="module")
def house():
    """A database with tables of every kind, and a few rows."""
    db = Database("sqlite://")

    class Country(db.Entity):
        name = PrimaryKey(str)
        cities = Set("City")

    class City(db.Entity):
        name = Required(str)
        country = Optional(Country)

    class Node(db.Entity):
        name = Required(str)
        slot = Optional(int, unique=True)
        code = Optional(int, unique=True)
        label = Required(str, unique=True)
        row = Required(int, default=0)
        place = Optional(int)
        composite_key(row, place)
        parent = Optional("Node", reverse="children")
        children = Set("Node", reverse="parent")
        friend = Optional("Node", reverse="friends")
        friends = Set("Node", reverse="friend")

    db.generate_mapping(create_tables=True)
    with db_session:
        Country(name="a", cities=[City(name="a1"), City(name="a2")])
        Country(name="b")
        for number, name in enumerate("nopq"):
            Node(name=name, label=name, slot=number, code=number, place=number)
    yield SimpleNamespace(db=db, Country=Country, City=City, Node=Node)
    db.close()


@pytest.fixture(autouse=True)
def scope():
    """A scope around each test, whose changes are never sent."""
    with db_session:
        yield
        rollback()


def unit_of(house):
    return house.Node._mapping_.gateway.unit()


def runs(house):
    return in_order(unit_of(house).pending())


def plan(house):
    """Return the operations as (verb, name, attributes left NULL)."""
    return [(run.action.name.lower(), obj.name, run.names) for run in runs(house) for obj in run.objects]


def order(house):
    return [f"{verb} {name}" for verb, name, _ in plan(house)]


def nodes(house):
    return house.Node.select().order_by(house.Node.name).fetch()


# --- the usual order --------------------------------------------------------------------------------------


def test_nothing_to_do(house):
    """No operations for nothing."""
    assert runs(house) == []


def test_inserts_go_by_table_and_then_as_made(house):
    """43. Parents' tables first; rows whose keys the database makes keep the order in which they were made."""
    house.City(name="z")
    house.City(name="y")
    house.Country(name="d")
    house.Country(name="c")
    assert order(house) == ["insert c", "insert d", "insert z", "insert y"]


def test_like_operations_are_one_run(house):
    """50. What can share a statement stands together."""
    for name in "xyz":
        house.City(name=name)
    house.Country(name="c")
    assert [(run.action, len(run.objects)) for run in runs(house)] == [(Action.INSERT, 1), (Action.INSERT, 3)]
    assert all(isinstance(run, Run) for run in runs(house))


def test_inserts_then_updates_then_deletes(house):
    """The order of the verbs, and that of the tables: deletes from the children up."""
    first, second = house.City.select().order_by(house.City.name).fetch()
    house.Country["b"].delete()
    second.delete()
    first.name = "a3"
    house.Country(name="c")
    assert order(house) == ["insert c", "update a3", "delete a2", "delete b"]


@pytest.mark.parametrize("seed", range(5))
def test_updates_and_deletes_go_by_key_whatever_the_program_did(house, seed):
    """51. The same changes in another program order are the same plan."""
    everything = [*nodes(house), *house.City.select()]
    Random(seed).shuffle(everything)
    for obj in everything[::2]:
        obj.name += "'"
    changed = [obj for run in runs(house) for obj in run.objects]
    assert set(changed) == set(everything[::2])
    tables = [type(obj) for obj in changed]
    assert tables == sorted(tables, key=[house.Node, house.City].index)  # City refers to another table
    for table in set(tables):
        keys = [obj.id for obj in changed if type(obj) is table]
        assert keys == sorted(keys)


# --- trees and circles --------------------------------------------------------------------------------------


def make(house, name, **values):
    return house.Node(name=name, label=name, **values)


def test_a_tree_goes_by_level(house):
    """44. All children of one level stand together, behind all of the level above; within it, as made."""
    root = make(house, "r")
    for number in range(3):
        child = make(house, f"c{number}", parent=root)
        for inner in range(2):
            make(house, f"g{number}{inner}", parent=child)
    assert order(house) == [
        f"insert {name}" for name in ["r", "c0", "c1", "c2", "g00", "g01", "g10", "g11", "g20", "g21"]
    ]


def test_updates_and_deletes_do_not_wait_for_levels(house):
    """44. What needs no new key goes with the first level."""
    n, o, p, q = nodes(house)
    make(house, "child", parent=make(house, "root"))
    n.row = 7
    o.parent = make(house, "other")
    q.delete()
    assert order(house) == ["insert root", "insert other", "update n", "delete q", "insert child", "update o"]


def test_children_are_deleted_before_their_parents(house):
    """44. Leaves first, whatever the keys are."""
    n, o, p, q = nodes(house)
    for child, parent in ((n, o), (o, p), (p, q)):
        child.parent = parent
    unit_of(house).run(unit_of(house).flush())
    for node in (q, n, p, o):
        node.delete()
    assert order(house) == ["delete n", "delete o", "delete p", "delete q"]


def test_a_circle_of_new_rows_is_opened_at_one_place(house):
    """45. One INSERT leaves a reference NULL, and one UPDATE at the end sets it."""
    ring = [make(house, name) for name in "xyz"]
    for number, node in enumerate(ring):
        node.parent = ring[(number + 1) % 3]
    made = plan(house)
    assert [verb for verb, *_ in made] == ["insert", "insert", "insert", "update"]
    (opened,) = [name for verb, name, left_null in made if left_null]
    assert made[0] == ("insert", opened, ("parent",))
    assert made[-1] == ("update", opened, ())


def test_references_to_oneself_are_left_null_together(house):
    """45. Two references of a row to itself: both NULL at first, one UPDATE for both."""
    node = make(house, "x")
    node.parent = node.friend = node
    assert plan(house) == [("insert", "x", ("parent", "friend")), ("update", "x", ())]


def test_several_circles_through_one_row(house):
    """45. A row in two circles is opened for both, and updated once."""
    hub, a, b = (make(house, name) for name in "xyz")
    hub.parent, a.parent = a, hub
    hub.friend, b.friend = b, hub
    made = plan(house)
    assert sorted(name for verb, name, _ in made if verb == "insert") == ["x", "y", "z"]
    updated = [name for verb, name, _ in made if verb == "update"]
    assert len(updated) == len(set(updated))
    opened = {name: left_null for verb, name, left_null in made if left_null}
    assert set(updated) == set(opened)


def test_a_circle_of_deleted_rows(house):
    """45. A reference that the database sets NULL is left out of what the DELETE checks."""
    n, o, p, q = nodes(house)
    n.parent, o.parent = o, n
    unit_of(house).run(unit_of(house).flush())
    n.delete()
    o.delete()
    made = plan(house)
    assert [verb for verb, *_ in made] == ["delete", "delete"]
    assert [left_out for *_, left_out in made] == [(), ("parent",)]


# --- unique values ------------------------------------------------------------------------------------------


def test_a_value_is_given_up_before_it_is_taken(house):
    """46. By a DELETE or an UPDATE, ahead of the INSERT or UPDATE that takes it."""
    n, o, p, q = nodes(house)
    n.delete()
    o.slot = 100
    p.slot = 0  # n's
    make(house, "new", slot=1)  # o's
    assert order(house) == ["update o", "insert new", "delete n", "update p"]


def test_equal_values_in_different_columns_do_not_meet(house):
    """46. A freed value concerns its own column alone."""
    n, o, p, q = nodes(house)
    n.slot = 100
    make(house, "new", code=50, slot=None, place=0, row=1)
    assert order(house) == ["insert new", "update n"]


def test_a_swap_empties_one_of_the_two(house):
    """47. One row is set NULL first; both are updated then."""
    n, o, p, q = nodes(house)
    n.slot, o.slot = o.slot, n.slot
    made = plan(house)
    assert [verb for verb, *_ in made] == ["vacate", "update", "update"]
    assert made[0][2] == ("slot",)


def test_a_swap_of_two_columns_empties_both(house):
    """47. Two values of the same two rows: one VACATE for both."""
    n, o, p, q = nodes(house)
    n.slot, o.slot = o.slot, n.slot
    n.code, o.code = o.code, n.code
    made = plan(house)
    assert [verb for verb, *_ in made] == ["vacate", "update", "update"]
    assert sorted(made[0][2]) == ["code", "slot"]


def test_a_composite_value_gives_up_its_nullable_part(house):
    """47. Of (row, place) only place may be NULL."""
    n, o, p, q = nodes(house)
    n.place, o.place = o.place, n.place
    assert plan(house)[0][2] == ("place",)


def test_a_rotation_empties_one(house):
    """47. However long the circle is."""
    everyone = nodes(house)
    slots = [node.slot for node in everyone]
    for node, slot in zip(everyone, slots[1:] + slots[:1], strict=True):
        node.slot = slot
    made = plan(house)
    assert [verb for verb, *_ in made] == ["vacate", "update", "update", "update", "update"]


def test_a_swap_that_cannot_be_made_names_what_is_in_the_way(house):
    """47. The error names the rows, the column, and two ways out."""
    n, o, p, q = nodes(house)
    n.label, o.label = o.label, n.label
    with pytest.raises(UnresolvableCyclicDependency) as caught:
        runs(house)
    message = str(caught.value)
    for part in (f"update Node[{n.id}]", f"update Node[{o.id}]", "Node.label", "nullable", "flush()"):
        assert part in message


def test_a_swap_of_one_column_that_can_and_one_that_cannot_be_null(house):
    """47. That one of the two could be emptied is no way out."""
    n, o, p, q = nodes(house)
    n.label, o.label = o.label, n.label
    n.slot, o.slot = o.slot, n.slot
    with pytest.raises(UnresolvableCyclicDependency, match=r"Node\.label"):
        runs(house)


def test_a_key_is_used_again(house):
    """48. The DELETE of the old row stands before the INSERT of the new one; its children wait for both."""
    old = house.Country["a"]
    cities = sorted(old.cities, key=lambda city: city.name)
    old.delete()
    new = house.Country(name="a")
    cities[0].country = new
    made = plan(house)
    assert made[0] == ("vacate", "a1", ("country",))
    assert [f"{verb} {name}" for verb, name, _ in made[1:]] == ["update a2", "delete a", "insert a", "update a1"]
