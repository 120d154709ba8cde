"""A graph of three levels and 1,000 objects, and the program of the processes that it travels through.

``python -m tests.session.travelling URL WHAT FILE``: *pickle* loads the graph into the file; *change* reads it from
there, changes an object of each level and all leaves, and writes it back, with no session at all; *save* attaches
it and saves it, and prints how many statements and round trips that took, or the error.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dbsession import Database, OptimisticCheckError, Required, Set, db_session
from dbsession.session import attaching

__all__ = ["BRANCHES", "LEAVES", "declare", "grow"]

BRANCHES, LEAVES = 9, 110  # of each branch: 1 + 9 + 990


def declare(url: str) -> SimpleNamespace:
    """Declare the entities in the database *url*, under names that pickle finds."""
    db = Database(url)

    class Tree(db.Entity):
        name = Required(str)
        branches = Set("Branch")

    class Branch(db.Entity):
        name = Required(str)
        tree = Required(Tree)
        leaves = Set("Leaf")

    class Leaf(db.Entity):
        name = Required(str)
        size = Required(int)
        branch = Required(Branch)

    module = sys.modules["tests.session.travelling"] = sys.modules[__name__]
    for entity in (Tree, Branch, Leaf):
        entity.__qualname__, entity.__module__ = entity.__name__, "tests.session.travelling"
        setattr(module, entity.__name__, entity)
    db.generate_mapping(create_tables=True)
    return SimpleNamespace(db=db, Tree=Tree, Branch=Branch, Leaf=Leaf)


@db_session
def grow(woods: SimpleNamespace) -> None:
    """Save the graph."""
    tree = woods.Tree(name="tree")
    for number in range(BRANCHES):
        branch = woods.Branch(name=f"b{number}", tree=tree)
        for place in range(LEAVES):
            woods.Leaf(name=f"l{place}", size=place, branch=branch)


def load(woods: SimpleNamespace) -> Any:
    """Return the tree of an ended scope, with everything that belongs to it, read."""
    with db_session:
        (tree,) = woods.Tree.select().prefetch(woods.Tree.branches, woods.Branch.leaves).fetch()
        for branch in tree.branches:
            for leaf in branch.leaves:
                leaf.size
    return tree


def change(tree: Any) -> None:
    """Change the tree, a branch, and all leaves."""
    tree.name = "big tree"
    next(iter(tree.branches)).name = "bent"
    for branch in tree.branches:
        for leaf in branch.leaves:
            leaf.size += 1


def save(woods: SimpleNamespace, tree: Any) -> str:
    """Attach and save *tree*; return what it took."""
    counters = woods.db.counters
    before = (counters.statements, counters.round_trips)
    try:
        with db_session:
            attaching.attach(woods.db.gateway.unit(), tree)
    except OptimisticCheckError as error:
        return f"conflict: {error}"
    return f"{counters.statements - before[0]} statements, {counters.round_trips - before[1]} round trips"


def main(url: str, what: str, name: str) -> None:
    """Do *what* with the graph in the file *name*."""
    woods, file = declare(url), Path(name)
    before = woods.db.counters.statements
    if what == "pickle":
        file.write_bytes(pickle.dumps(load(woods)))
    elif what == "change":
        tree = pickle.loads(file.read_bytes())
        change(tree)
        file.write_bytes(pickle.dumps(tree))
        print(f"{woods.db.counters.statements - before} statements")
    elif what == "save":
        print(save(woods, pickle.loads(file.read_bytes())))
    woods.db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
