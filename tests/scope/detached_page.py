"""The page docs/detached.md as data: its blocks of Python, and its table of what can be read after the scope."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dbsession import Database, DatabaseSessionIsOver, DBSession, db_session

__all__ = ["STRICT", "TABLE", "USUAL", "blocks", "left", "outcome"]

USUAL, STRICT = 0, 1  # the columns of the table
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "detached.md").read_text(encoding="utf-8")

# What each expression of the table does: code -> (after the scope, after a strict scope).
TABLE: dict[str, tuple[str, str]] = {
    code: (usual, strict)
    for what, usual, strict in re.findall(
        r"^\| (.*`.*) \| (can be read|refused) \| (can be read|refused) \|$", PAGE, re.MULTILINE
    )
    for code in re.findall("`(.+?)`", what)
}


def blocks() -> list[str]:
    """Return the blocks of Python in their order: imports, entities and rows, the scope of the table, loading ahead twice."""
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def left(db: Database, scope: DBSession = db_session) -> SimpleNamespace:
    """Run the page in *db* up to its table, its scope being *scope*, and return the names that it has made."""
    names: dict[str, Any] = {}
    imports, entities, example, *_ = blocks()
    exec(imports, names)
    names["db"] = db
    exec(entities, names)
    names["db_session"] = scope
    exec(example, names)
    names["db_session"] = db_session
    return SimpleNamespace(**names)


def outcome(code: str, objects: SimpleNamespace) -> str:
    """Return what the table says of *code*, by doing it."""
    try:
        eval(code, vars(objects))
    except DatabaseSessionIsOver:
        return "refused"
    return "can be read"
