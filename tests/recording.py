"""What tests read of the SQL itself: the statements that sessions send while a block runs.

`tests.observing.sent` counts, and is enough for most tests; this shows which columns an UPDATE sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from dbsession.backends.statements import Batch, Result, Statement
from dbsession.session.link import Link

__all__ = ["recorded", "set_columns", "verbs"]


@contextmanager
def recorded() -> Iterator[list[Statement]]:
    """Keep every statement that a session sends within the block."""
    statements: list[Statement] = []
    execute = Link.execute

    def keep(link: Link, batch: Batch) -> list[Result]:
        statements.extend(batch)
        return execute(link, batch)

    with mock.patch.object(Link, "execute", keep):
        yield statements


def verbs(statements: list[Statement]) -> list[str]:
    """Return the first words of *statements*, those about the transaction left out."""
    words = [statement.sql.split(None, 1)[0].upper() for statement in statements]
    return [word for word in words if word not in {"BEGIN", "COMMIT", "ROLLBACK"}]


def set_columns(statement: Statement) -> list[str]:
    """Return the columns that an UPDATE sets."""
    head = statement.sql.partition(" SET ")[2].partition(" WHERE ")[0]
    return re.findall(r'"(\w+)" = ', head)
