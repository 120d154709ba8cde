"""A graph of 1,000 objects that three processes hand on: loaded in one, changed in another, saved in a third."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbsession import db_session
from tests.conftest import POSTGRES, SELECTED
from tests.observing import rows
from tests.session.travelling import BRANCHES, LEAVES, declare, grow

ROOT = Path(__file__).resolve().parents[2]

on_files = pytest.mark.parametrize(
    "db_url", ["sqlite-file", *[name for name in SELECTED if name in POSTGRES]], indirect=True
)


def run(url, what, file):
    """Run the program in a process of its own, and return what it has printed."""
    command = [sys.executable, "-m", "tests.session.travelling", url, what, str(file)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def woods(db_url):
    """The graph, saved."""
    woods = declare(db_url)
    grow(woods)
    yield woods
    woods.db.close()


@on_files
def test_a_graph_through_three_processes(db_url, woods, tmp_path):
    """123. 1,000 objects are loaded in one process, changed in another without a connection, and saved in a third."""
    file = tmp_path / "tree.pickle"
    run(db_url, "pickle", file)
    assert file.stat().st_size < 100_000
    assert run(db_url, "change", file) == "0 statements"
    # BEGIN, an UPDATE of each table with as many runs as there are objects, COMMIT
    assert run(db_url, "save", file) == "5 statements, 1 round trips"
    assert rows(woods.db, "SELECT count(*), sum(size) FROM leaf") == [
        (BRANCHES * LEAVES, BRANCHES * sum(range(1, LEAVES + 1)))
    ]
    assert rows(woods.db, "SELECT name FROM tree") == ["big tree"]
    assert rows(woods.db, "SELECT count(*) FROM branch WHERE name = 'bent'") == [1]


@on_files
def test_a_conflict_is_found_after_the_journey(db_url, woods, tmp_path):
    """123. What a third party has changed meanwhile is found, and named; nothing of the graph is saved."""
    file = tmp_path / "tree.pickle"
    run(db_url, "pickle", file)
    run(db_url, "change", file)
    with db_session:
        woods.Leaf[500].size = 7777
    assert "conflict: Leaf[500] was changed by somebody else" in (spent := run(db_url, "save", file))
    assert "7777 is there now" in spent
    assert rows(woods.db, "SELECT name FROM tree") == ["tree"]
    assert rows(woods.db, "SELECT size FROM leaf WHERE id = 500") == [7777]
