"""The savepoints of inner scopes, as the transaction knows them."""

from __future__ import annotations

from functools import lru_cache

from dbsession.backends.statements import Kind, Statement

__all__ = ["Mark"]


@lru_cache
def _savepoint_statements(depth: int) -> tuple[Statement, Statement, Statement]:
    """Return what sets, releases and rolls back to the savepoint of the scope at *depth*."""
    return (
        Statement(f"SAVEPOINT dbs_{depth}", kind=Kind.SAVEPOINT),
        Statement(f"RELEASE SAVEPOINT dbs_{depth}", kind=Kind.SAVEPOINT),
        Statement(f"ROLLBACK TO SAVEPOINT dbs_{depth}", kind=Kind.ROLLBACK_TO),
    )


class Mark:
    """The savepoint of one inner scope, set in the database or not yet."""

    __slots__ = ("begin", "error", "is_set", "is_undone", "read_only", "release", "rollback", "wrote")

    def __init__(self, depth: int, *, read_only: bool) -> None:
        self.begin, self.release, self.rollback = _savepoint_statements(depth)
        self.read_only = read_only
        self.is_set = False
        self.wrote = False
        self.is_undone = False  # with all cursors that were opened since
        self.error: BaseException | None = None  # what doomed the scope
