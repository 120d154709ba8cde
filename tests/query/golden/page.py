"""The golden file: every form with its SQL, on SQLite, and on PostgreSQL where that is more than other placeholders."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dbsession import Database, db_session
from dbsession.query.translation.source import find_source
from tests.query.golden import forms
from tests.query.golden.model import declare

PATH = Path(__file__).with_name("forms.txt")
URLS = {"sqlite": "sqlite://", "postgresql": "postgresql://nobody@127.0.0.1:1/nothing"}  # never connected to
WIDTH = 116
HEAD = """The SQL of queries. The quotes of names are left out where they are not needed, the columns of an entity are
written *. Where PostgreSQL is not shown, it has the same but for the names of tables and the placeholders.
"""


def page() -> str:
    """Return what the golden file should say."""
    written = {name: dict(_written(url)) for name, url in URLS.items()}
    parts = [HEAD]
    for title, made in forms.FORMS.items():
        parts.append(f"\n\n{title}\n{'=' * len(title)}\n")
        for form in made:
            source = source_of(form)
            sqlite, postgresql = written["sqlite"][title, source], written["postgresql"][title, source]
            parts.append(f"\n{source}\n{_wrapped(sqlite)}")
            if postgresql.replace("%s", "?").lower() != sqlite.lower():
                parts.append(_wrapped(postgresql, "pg  "))
    return "".join(parts)


def source_of(form: Callable[[], Any]) -> str:
    """Return the text of a form: the body of its lambda."""
    source = find_source(form.__code__)
    assert isinstance(source.node, ast.Lambda)
    return ast.get_source_segment(source.text, source.node.body) or ""


def _written(url: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield each form and its SQL for the database of *url*, which is never connected to."""
    db = Database(url)
    entities = declare(db)
    vars(forms).update(entities)
    with db_session as session:
        forms.some_user = entities["User"](id=77, name="x")
        forms.some_order = entities["Order"](id=78, user=forms.some_user, day=forms.today)
        for title, made in forms.FORMS.items():
            for form in made:
                yield (title, source_of(form)), _plain(form().get_sql(), entities)
        session.rollback()
    assert db.counters.connections == 0
    db.close()


def _plain(sql: str, entities: dict[str, Any]) -> str:
    """Return *sql* as people would write it: without needless quotes, and with ``*`` for the columns of an entity."""
    for entity in entities.values():
        columns = [column.quoted for column in entity._mapping_.wide]
        if len(columns) > 1:
            pattern = ", ".join([rf"(\"\w+\"\.)?{re.escape(column)}" for column in columns])
            sql = re.sub(pattern, lambda found: f"{found[found.lastindex] if found.lastindex else ''}*", sql)
    return re.sub(r'"([a-z_]\w*)"', lambda name: name[0] if name[1] in _RESERVED else name[1], sql, flags=re.IGNORECASE)


def _wrapped(sql: str, head: str = "    ") -> str:
    return textwrap.fill(sql, WIDTH, initial_indent=head, subsequent_indent="        ") + "\n"


_RESERVED = frozenset({"user", "order", "User", "Order"})
