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
PALS = "SELECT a.name, b.name FROM pals p JOIN node a ON a.id = p.one JOIN node b ON b.id = p.node_2"


@pytest.fixture
def graph(db):
    """Two tables in a circle, one of which refers to itself in three ways and has a unique value."""

    class Node(db.Entity):
        name = Required(str)
        slot = Optional(int, unique=True)
        parent = Optional("Node", reverse="children")
        children = Set("Node", reverse="parent")
        friend = Optional("Node", reverse="friends")
        friends = Set("Node", reverse="friend")
        best = Optional("Leaf", reverse="best_of")
        leaves = Set("Leaf", reverse="owner")
        pals = Set("Node", reverse="pals", table="pals", column="one")

    class Leaf(db.Entity):
        name = Required(str)
        owner = Required(Node, reverse="leaves")
        best_of = Set(Node, reverse="best")

    db.generate_mapping(create_tables=True)
    return SimpleNamespace(db=db, Node=Node, Leaf=Leaf)


class Model:
    """What the database should hold: plain dicts by name, changed side by side with the objects."""

    def __init__(self, nodes=(), leaves=(), pals=()):
        columns = ("slot", "parent", "friend", "best")
        self.nodes = {name: dict(zip(columns, values, strict=True)) for name, *values in nodes}
        self.leaves = dict(leaves)
        self.pals = {frozenset(pair) for pair in pals}

    def delete_node(self, name):
        del self.nodes[name]
        for leaf in [leaf for leaf, owner in self.leaves.items() if owner == name]:
            self.delete_leaf(leaf)
        for node in self.nodes.values():
            for reference in ("parent", "friend"):
                if node[reference] == name:
                    node[reference] = None
        self.pals = {pair for pair in self.pals if name not in pair}

    def delete_leaf(self, name):
        del self.leaves[name]
        for node in self.nodes.values():
            if node["best"] == name:
                node["best"] = None

    def children(self, name):
        return {child for child, node in self.nodes.items() if node["parent"] == name}

    def leaves_of(self, name):
        return {leaf for leaf, owner in self.leaves.items() if owner == name}

    def pals_of(self, name):
        return {other for pair in self.pals if name in pair for other in (pair - {name} or pair)}

    def copy(self):
        return Model([(name, *node.values()) for name, node in self.nodes.items()], self.leaves, self.pals)


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

    def play(self, plan):
        for verb, one, two, wish in plan:
            node, other = self.pick(self.model.nodes, one), self.pick(self.model.nodes, two)
            leaf, second = self.pick(self.model.leaves, one), self.pick(self.model.leaves, two)
            if verb == "make":
                self.make()
            elif node is not None and verb in NODE_VERBS:
                getattr(self, verb)(node, other if verb != "best" else second, wish)
            elif leaf is not None and verb in LEAF_VERBS:
                getattr(self, verb)(leaf, other, wish)

    def object(self, name):
        if name in self.made:
            return self.made[name]
        entity = self.graph.Node if name.startswith("n") else self.graph.Leaf
        return entity[self.keys[name]]

    def pick(self, names, number):
        names = sorted(names)
        return names[number % len(names)] if names else None

    # --- verbs of nodes

    def make(self):
        self.counter += 1
        name = f"n{self.counter:03}"
        self.made[name] = self.graph.Node(name=name)
        self.model.nodes[name] = {"slot": None, "parent": None, "friend": None, "best": None}

    def grow(self, node, other, wish):
        self.counter += 1
        name = f"l{self.counter:03}"
        self.made[name] = self.graph.Leaf(name=name, owner=self.object(node))
        self.model.leaves[name] = node

    def refer(self, attribute, node, target, wish):
        target = target if wish else None
        setattr(self.object(node), attribute, target and self.object(target))
        self.model.nodes[node][attribute] = target

    def parent(self, node, other, wish):
        self.refer("parent", node, other, wish)

    def friend(self, node, other, wish):
        self.refer("friend", node, other, wish)

    def best(self, node, leaf, wish):
        self.refer("best", node, leaf, wish)

    def adopt(self, node, other, wish):
        """Change the parent from the other end."""
        if wish:
            self.object(node).children.add(self.object(other))
            self.model.nodes[other]["parent"] = node
        elif self.model.nodes[other]["parent"] == node:
            self.object(node).children.remove(self.object(other))
            self.model.nodes[other]["parent"] = None

    def pal(self, node, other, wish):
        if wish:
            self.object(node).pals.add(self.object(other))
            self.model.pals.add(frozenset((node, other)))
        else:
            self.object(node).pals.remove(self.object(other))
            self.model.pals.discard(frozenset((node, other)))

    def slot(self, node, other, value):
        """Give *node* a slot; who has it already takes that of *node* for it."""
        mine = self.model.nodes[node]["slot"]
        holder = next((name for name, values in self.model.nodes.items() if values["slot"] == value), None)
        if value is not None and holder is not None and holder != node:
            self.object(holder).slot = mine
            self.model.nodes[holder]["slot"] = mine
        self.object(node).slot = value
        self.model.nodes[node]["slot"] = value

    def fell(self, node, other, wish):
        if wish:
            self.object(node).leaves.load()
        else:  # what refers to the leaves learns of their end when it is loaded the next time
            self.is_blind = True
        self.object(node).delete()
        self.model.delete_node(node)
        self.deleting = True

    def read(self, node, other, wish):
        """Compare with the model; deletions are flushed first: who refers to what is deleted follows then at the latest."""
        self.flush_deletes()
        if not self.is_blind:
            self.compare(node)

    def collections(self, node, other, wish):
        self.flush_deletes()
        obj = self.object(node)
        assert {child.name for child in obj.children} == self.model.children(node)
        assert {leaf.name for leaf in obj.leaves} == self.model.leaves_of(node)
        assert {pal.name for pal in obj.pals} == self.model.pals_of(node)

    def send(self, node, other, wish):
        flush()

    # --- verbs of leaves

    def owner(self, leaf, node, wish):
        self.object(leaf).owner = self.object(node)
        self.model.leaves[leaf] = node

    def pluck(self, leaf, node, wish):
        self.object(leaf).delete()
        self.model.delete_leaf(leaf)
        self.deleting = True

    # --- comparing

    def flush_deletes(self):
        if self.deleting:
            flush()
            self.deleting = False

    def compare(self, name):
        obj, wanted = self.object(name), self.model.nodes[name]
        targets = {key: getattr(obj, key) for key in ("parent", "friend", "best")}
        assert {"slot": obj.slot, **{key: target and target.name for key, target in targets.items()}} == wanted


GROWING = ["make", "grow", "parent", "friend", "best", "slot", "adopt", "pal"]
NODE_VERBS = [*GROWING[1:], "fell", "read", "collections", "send"]
LEAF_VERBS = ["owner", "pluck"]


def plans(verbs, size):
    wishes = st.sampled_from([None, 1, 2, 3, 4])
    return st.lists(st.tuples(st.sampled_from(verbs), st.integers(0, 30), st.integers(0, 30), wishes), max_size=size)


growing = plans(GROWING, 30)
changing = plans(["make", *NODE_VERBS, *LEAF_VERBS], 25)
OPTIONS = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def clear(graph):
    with db_session:
        graph.db.execute("UPDATE node SET best = NULL, parent = NULL, friend = NULL")
        graph.db.execute("DELETE FROM leaf")
        graph.db.execute("DELETE FROM node")


def stored(graph):
    """Return what is in the database as a model, and the keys of the rows by name."""
    pals = rows(graph.db, PALS)
    assert sorted(pals) == sorted((b, a) for a, b in pals)  # every pair is stored in both directions
    model = Model(rows(graph.db, NODES), rows(graph.db, LEAVES), pals)
    keys = dict(rows(graph.db, "SELECT name, id FROM node")) | dict(rows(graph.db, "SELECT name, id FROM leaf"))
    return model, keys


def check(graph, model):
    found, _ = stored(graph)
    assert found.nodes == model.nodes
    assert found.leaves == model.leaves
    assert found.pals == model.pals


@settings(max_examples=100, **OPTIONS)
@given(first=growing, second=changing, third=changing)
def test_random_graphs_are_saved(graph, first, second, third):
    """44, 45, 47, 52. Three scopes in a row: whatever they make, change and delete, the database equals the model."""
    clear(graph)
    for plan in (first, second, third):
        model, keys = stored(graph)
        with db_session:
            Player(graph, model, keys).play(plan)
        check(graph, model)


@settings(max_examples=60, **OPTIONS)
@given(first=growing, second=changing, third=changing)
def test_random_graphs_are_rolled_back(graph, first, second, third):
    """67-71. A scope that rolls back and goes on: memory and database equal what they were, then what comes after."""
    clear(graph)
    with db_session:
        Player(graph, *stored(graph)).play(first)
    model, keys = stored(graph)
    with db_session:
        Player(graph, model.copy(), keys).play(second)
        rollback()
        player = Player(graph, model, keys)
        for name in model.nodes:
            player.compare(name)
            player.collections(name, None, None)
        player.play(third)
    check(graph, model)
