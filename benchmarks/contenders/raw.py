"""The limit: the drivers by hand, with the SQL that was fastest here. Rows are tuples, not objects.

No identity map, no change tracking, no optimistic checks: nobody can be expected to reach it.
"""

from __future__ import annotations

from benchmarks.contenders import Contender
from benchmarks.contenders.raw_psycopg import RawPsycopg
from benchmarks.contenders.raw_sqlite import RawSqlite

__all__ = ["contender"]


def contender(database: str) -> Contender:
    """Make the one for *database*."""
    return RawSqlite() if database == "sqlite" else RawPsycopg()
