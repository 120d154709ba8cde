"""What a session has sent: every batch, in order, as it went to the connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dbsession.backends.statements import Batch, Kind, Result, Statement
from dbsession.session.link import Link

__all__ = ["Sent", "recorded"]


class Sent:
    """The batches of a `recorded` block."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    @property
    def statements(self) -> list[Statement]:
        """The statements of all batches."""
        return [statement for batch in self.batches for statement in batch]

    @property
    def writes(self) -> list[str]:
        """The writes as `INSERT node`: verb and table (of the first run's own text)."""
        return [_name(statement.sql) for statement in self.statements if statement.kind is Kind.WRITE]

    def runs(self, verb: str) -> list[Any]:
        """Return the parameters of every run of the statements that begin with *verb*."""
        found: list[Any] = []
        for statement in self.statements:
            if statement.sql.startswith(verb):
                found += statement.params if statement.many else [statement.params]
        return found


def _name(sql: str) -> str:
    words = sql.replace('"', " ").split()
    verb = "INSERT" if "INSERT" in words else words[0]
    place = {"INSERT": "INTO", "DELETE": "FROM", "UPDATE": "UPDATE"}.get(verb, "FROM")
    return f"{verb} {words[words.index(place) + 1].lower()}"


@contextmanager
def recorded(monkeypatch: Any) -> Iterator[Sent]:
    """Record what is sent in the block, by every session."""
    sent = Sent()
    execute = Link.execute

    def recording(self: Link, batch: Batch) -> list[Result]:
        sent.batches.append(batch)
        return execute(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Link, "execute", recording)
        yield sent
