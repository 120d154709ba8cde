"""The tables of docs/queries.md: what they say of conditions, and that each query in them is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from dbsession import Query, db_session, rollback
from tests.pages import ROOT, Block, blocks, run_program

PAGE = ROOT / "docs" / "queries.md"
TEXT = PAGE.read_text(encoding="utf-8")
TRUTHS = re.findall(
    r"^\| `(.+)` \| (true|false|unknown) \| (true|false|unknown) \| (true|false|unknown) \|$", TEXT, re.MULTILINE
)
EQUIVALENTS = [
    code.replace("\\|", "|")
    for row in re.findall(r"^\| .+ \| (.+) \|$", TEXT.partition("## If you come from SQLAlchemy")[2], re.MULTILINE)
    for code in re.findall(r"`(.+?)`", row)
]


@pytest.fixture
def names(db_url: str) -> Iterator[dict[str, Any]]:
    """The names of the page: its entities with their rows, and all of dbsession."""
    names: dict[str, Any] = {"__name__": "page"}
    run_program(blocks(PAGE)[0].of(db_url), PAGE, names)
    yield names
    names["db"].close()


def value(code: str, names: dict[str, Any]) -> Any:
    """Return the value of *code*, which has a source."""
    run_program(Block(0, f"value = {code}\n"), PAGE, names)
    return names["value"]


def test_the_table_of_truth(names: dict[str, Any]) -> None:
    """Each condition is true, false or unknown (neither it nor its opposite is true) of each value, as the table says."""
    assert len(TRUTHS) >= 9
    wrong: list[str] = []
    with db_session:
        for condition, *expected in TRUTHS:
            true = value(f"select(u.name for u in User if {condition}).fetch()", names)
            false = value(f"select(u.name for u in User if not ({condition})).fetch()", names)
            for name, said in zip(("Ann", "Bob", "Cid"), expected, strict=True):
                found = "true" if name in true else "false" if name in false else "unknown"
                wrong += [f"{condition} is {found} for {name}, and not {said}"] * (found != said)
    assert wrong == []


@pytest.mark.parametrize("code", EQUIVALENTS)
def test_what_stands_beside_sqlalchemy_works(names: dict[str, Any], code: str) -> None:
    """Each query in the table of equivalents can be sent."""
    with db_session:
        found = value(code, names)
        if isinstance(found, Query):
            found.fetch()
        rollback()


def test_the_table_of_equivalents_is_found() -> None:
    """There are as many equivalents as the page has."""
    assert len(EQUIVALENTS) > 25
