"""Random graphs of new, changed and deleted rows that refer to each other always save, and the database equals a model."""

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbsession import Optional, Required, Set, db_session, flush, rollback
from tests.observing import rows

NODES = (
    "SELECT n.name, n.slot, p.name, f.name, b.name FROM node n LEFT JOIN node p ON p.id = n.parent "
    "LEFT JOIN node f ON f.id = n.friend LEFT JOIN leaf b ON b.id = n.best"
)
LEAVES = "SELECT l.name, n.name FROM leaf l JOIN node n ON n.id = l.owner"


@pytest.fixture
def graph(db):
    """Two tables in a circle, one of which refers to itself twice and has a unique value."""

    class Node(db.Entity):
        name = Required(str)
        slot = Optional(int, unique=True)
        parent = Optional("Node", reverse="children")
        children = Set("Node", reverse="parent")
        friend = Optional("Node", reverse="friends")
        friends = Set("Node", reverse="friend")
        best = Optional("Leaf", reverse="best_of")
        leaves = Set("Leaf", reverse="owner")

    class Leaf(db.Entity):
        name = Required(str)
        owner = Required(Node, reverse="leaves")
        best_of = Set(Node, reverse="best")

    db.generate_mapping(create_tables=True)
    return SimpleNamespace(db=db, Node=Node, Leaf=Leaf)


class Model:
    """What the database should hold: plain dicts by name, changed side by side with the objects."""

    def __init__(self, nodes=(), leaves=()):
        self.nodes = {
            name: {"slot": slot, "parent": parent, "friend": friend, "best": best}
            for name, slot, parent, friend, best in nodes
        }
        self.leaves = dict(leaves)

    def delete_node(self, name):
        del self.nodes[name]
        for leaf in [leaf for leaf, owner in self.leaves.items() if owner == name]:
            self.delete_leaf(leaf)
        for node in self.nodes.values():
            for reference in ("parent", "friend"):
                if node[reference] == name:
                    node[reference] = None

    def delete_leaf(self, name):
        del self.leaves[name]
        for node in self.nodes.values():
            if node["best"] == name:
                node["best"] = None

    def rows(self):
        return sorted((name, *node.values()) for name, node in self.nodes.items())


class Player:
    """Does to the objects of one scope what it does to the model; objects are loaded when they are first wanted."""

    def __init__(self, graph, model, keys):
        self.graph = graph
        self.model = model
        self.keys = keys  # of the rows that were there before, by name
        self.made = {}
        self.counter = max((int(name[1:]) for name in keys), default=0)
        self.deleting = False
        self.is_blind = False

    def object(self, name):
        if name in self.made:
            return self.made[name]
        entity = self.graph.Node if name.startswith("n") else self.graph.Leaf
        return entity[self.keys[name]]

    def pick(self, names, number):
        names = sorted(names)
        return names[number % len(names)] if names else None

    def play(self, verb, one, two, wish):
        node = self.pick(self.model.nodes, one)
        leaf = self.pick(self.model.leaves, one)
        if verb == "node":
            self.counter += 1
            name = f"n{self.counter:03}"
            self.made[name] = self.graph.Node(name=name)
            self.model.nodes[name] = {"slot": None, "parent": None, "friend": None, "best": None}
        elif node is None:
            return
        elif verb == "leaf":
            self.counter += 1
            name = f"l{self.counter:03}"
            self.made[name] = self.graph.Leaf(name=name, owner=self.object(node))
            self.model.leaves[name] = node
        elif verb in ("parent", "friend", "best"):
            target = self.pick(self.model.leaves if verb == "best" else self.model.nodes, two) if wish else None
            setattr(self.object(node), verb, target and self.object(target))
            self.model.nodes[node][verb] = target
        elif verb == "slot":
            self.take_slot(node, wish)
        elif verb == "owner" and leaf is not None:
            owner = self.pick(self.model.nodes, two)
            self.object(leaf).owner = self.object(owner)
            self.model.leaves[leaf] = owner
        elif verb == "delete node":
            if wish:
                self.object(node).leaves.load()
            else:  # what refers to the leaves learns of their end when it is loaded the next time
                self.is_blind = True
            self.object(node).delete()
            self.model.delete_node(node)
            self.deleting = True
        elif verb == "delete leaf" and leaf is not None:
            self.object(leaf).delete()
            self.model.delete_leaf(leaf)
            self.deleting = True
        elif verb == "read" and not self.is_blind:
            self.flush_deletes()
            self.compare(node)
        elif verb == "collections":
            self.flush_deletes()
            children = {name for name, other in self.model.nodes.items() if other["parent"] == node}
            assert {child.name for child in self.object(node).children} == children
            leaves = {name for name, owner in self.model.leaves.items() if owner == node}
            assert {leaf.name for leaf in self.object(node).leaves} == leaves
        elif verb == "flush":
            flush()

    def flush_deletes(self):
        """Flush if something is deleted: those who refer to it, and are in memory, follow with the flush at the latest."""
        if self.deleting:
            flush()
            self.deleting = False

    def take_slot(self, node, value):
        """Give *node* a slot; who has it already takes that of *node* for it."""
        mine = self.model.nodes[node]["slot"]
        holder = next((name for name, other in self.model.nodes.items() if other["slot"] == value), None)
        if value is not None and holder is not None and holder != node:
            self.object(holder).slot = mine
            self.model.nodes[holder]["slot"] = mine
        self.object(node).slot = value
        self.model.nodes[node]["slot"] = value

    def compare(self, name):
        obj, wanted = self.object(name), self.model.nodes[name]
        found = {
            "slot": obj.slot,
            **{key: getattr(obj, key) and getattr(obj, key).name for key in ("parent", "friend", "best")},
        }
        assert found == wanted


VERBS = [
    "node",
    "leaf",
    "parent",
    "friend",
    "best",
    "slot",
    "owner",
    "delete node",
    "delete leaf",
    "read",
    "collections",
    "flush",
]
steps = st.lists(
    st.tuples(st.sampled_from(VERBS), st.integers(0, 30), st.integers(0, 30), st.sampled_from([None, 1, 2, 3, 4])),
    max_size=25,
)
growing = st.lists(
    st.tuples(st.sampled_from(VERBS[:6]), st.integers(0, 30), st.integers(0, 30), st.sampled_from([None, 1, 2, 3, 4])),
    max_size=30,
)


def clear(graph):
    with db_session:
        graph.db.execute("UPDATE node SET best = NULL, parent = NULL, friend = NULL")
        graph.db.execute("DELETE FROM leaf")
        graph.db.execute("DELETE FROM node")


def stored(graph):
    """Return what is in the database as a model, and the keys of the rows by name."""
    model = Model(rows(graph.db, NODES), rows(graph.db, LEAVES))
    keys = dict(rows(graph.db, "SELECT name, id FROM node")) | dict(rows(graph.db, "SELECT name, id FROM leaf"))
    return model, keys


def run(graph, model, keys, plan, *, end=lambda: None):
    with db_session:
        player = Player(graph, model, keys)
        for step in plan:
            player.play(*step)
        end()


@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=growing, second=steps, third=steps)
def test_random_graphs_are_saved(graph, first, second, third):
    """44, 45, 47, 52. Three scopes in a row: whatever they make, change and delete, the database equals the model."""
    clear(graph)
    for plan in (first, second, third):
        model, keys = stored(graph)
        run(graph, model, keys, plan)
        found, _ = stored(graph)
        assert found.rows() == model.rows()
        assert found.leaves == model.leaves


@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=growing, second=steps, third=steps)
def test_random_graphs_are_rolled_back(graph, first, second, third):
    """67-71. A scope that rolls back and goes on: memory and database equal what they were, then what comes after."""
    clear(graph)
    run(graph, *stored(graph), first)
    model, keys = stored(graph)
    with db_session:
        lost = Player(graph, Model([(name, *node.values()) for name, node in model.nodes.items()], model.leaves), keys)
        for step in second:
            lost.play(*step)
        rollback()
        player = Player(graph, model, keys)
        for name in model.nodes:
            player.compare(name)
        for step in third:
            player.play(*step)
    found, _ = stored(graph)
    assert found.rows() == model.rows()
    assert found.leaves == model.leaves
