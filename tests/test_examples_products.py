"""`examples/products.py`, run as its users run it: in processes of their own, twice, and two at a time."""

from __future__ import annotations

import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from dbsession import Database
from tests.observing import rows

ROOT = Path(__file__).resolve().parent.parent
REFUSED = "refused, since one is there already; all was rolled back"


def start(place: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "products.py"), *([place] if place else [])],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(process: subprocess.Popen[str]) -> str:
    """Return what *process*, which has to end well, has printed."""
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), out
    return out


def left_in(url: str) -> list[tuple[str, Decimal]]:
    db = Database(url)
    found = rows(db, "SELECT name, price FROM product ORDER BY id")
    db.close()
    return [(name, Decimal(price)) for name, price in found]


@pytest.fixture(params=["file", "url"])
def place(request, tmp_path) -> tuple[str, str]:
    """A new SQLite file, as the example takes it, and its URL."""
    path = tmp_path / "shop.db"
    return (str(path) if request.param == "file" else f"sqlite:///{path}"), f"sqlite:///{path}"


FIRST = f"""\
found: no products
Notebook and Pencil: saved
Ruler and Notebook: {REFUSED}
loaded: 3.50, 0.80
another session raised both; here they still cost: 3.50, 0.80
after expire_all(), the next access loads them: 3.60, 0.90
another one raised the second; after refresh(): 3.60, 1.00
left: Notebook 3.60, Pencil 1.00
"""
SECOND = f"""\
found: Notebook 3.60, Pencil 1.00
Notebook and Pencil: {REFUSED}
Ruler and Notebook: {REFUSED}
loaded: 3.60, 1.00
another session raised both; here they still cost: 3.60, 1.00
after expire_all(), the next access loads them: 3.70, 1.10
another one raised the second; after refresh(): 3.70, 1.20
left: Notebook 3.70, Pencil 1.20
"""


def runs_twice(place: str, url: str, cwd: Path) -> None:
    assert result_of(start(place, cwd)) == FIRST
    assert result_of(start(place, cwd)) == SECOND
    assert left_in(url) == [("Notebook", Decimal("3.70")), ("Pencil", Decimal("1.20"))]


def runs_side_by_side(place: str, url: str, cwd: Path) -> None:
    together = [start(place, cwd) for _ in range(2)]
    printed = [result_of(process) for process in together]
    assert sum("Notebook and Pencil: saved" in each for each in printed) == 1
    assert sum(each.count(REFUSED) for each in printed) == 3
    for each in printed:  # what is loaded again is never older than what was seen, and has what the process has done
        seen = [[Decimal(price) for price in re.findall(r"\d\.\d\d", line)] for line in each.splitlines()]
        stale, expired, refreshed = seen[4:7]
        assert [later - before >= Decimal("0.10") for before, later in zip(stale, expired, strict=True)] == [True] * 2
        assert refreshed[0] == expired[0]
        assert refreshed[1] - expired[1] >= Decimal("0.10")
    assert left_in(url) == [("Notebook", Decimal("3.70")), ("Pencil", Decimal("1.20"))]


def test_a_second_process_finds_what_the_first_has_left(place, tmp_path):
    """What was committed persists, what was refused is rolled back as a whole, and tables that exist do no harm."""
    runs_twice(*place, tmp_path)


def test_without_an_argument_the_file_is_in_the_current_folder(tmp_path):
    """The example makes products.db where it is run."""
    runs_twice("", f"sqlite:///{tmp_path / 'products.db'}", tmp_path)


def test_two_processes_at_the_same_time(place, tmp_path):
    """On one file both end well: one inserts, the other is refused, and no change of a price is lost."""
    runs_side_by_side(*place, tmp_path)


def test_on_postgresql(postgres_url, tmp_path):
    """The same on PostgreSQL."""
    runs_twice(postgres_url, postgres_url, tmp_path)


def test_two_processes_at_the_same_time_on_postgresql(postgres_url, tmp_path):
    """The same on PostgreSQL, where the tables are made by both, too."""
    runs_side_by_side(postgres_url, postgres_url, tmp_path)
