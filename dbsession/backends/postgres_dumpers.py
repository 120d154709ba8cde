"""How Python values are sent to PostgreSQL where psycopg's own way costs too much."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.adapt import AdaptersMap, Dumper, PyFormat
from psycopg.types.array import BaseListDumper, ListDumper
from psycopg.types.numeric import Int4, Int4Dumper, Int8, Int8Dumper, IntNumeric, IntNumericDumper

__all__ = ["register_dumpers", "restore_dumpers"]

_UNKNOWN_OID = 0
_WIDE_ARRAY_OIDS = (1016, 1231)  # bigint[], numeric[]


class _IntDumper(Dumper):
    """Send an int as int4 or int8, never int2.

    psycopg picks int2, int4 or int8 by the value, and each combination is one more statement to
    prepare. Always int8 would be one, but ``substr(text, int8)``, ``date + int8`` and ``json -> int8``
    do not exist.
    """

    _int4 = Int4Dumper(Int4)
    _int8 = Int8Dumper(Int8)
    _numeric = IntNumericDumper(IntNumeric)

    def dump(self, obj: int) -> bytes:
        """Refuse: `upgrade` hands every value to another dumper."""
        raise NotImplementedError

    def get_key(self, obj: int, format: PyFormat) -> type:
        """Return what to remember the dumper of *obj* by."""
        return self.upgrade(obj, format).cls

    def upgrade(self, obj: int, format: PyFormat) -> Dumper:
        """Return the dumper for *obj*."""
        if -0x8000_0000 <= obj <= 0x7FFF_FFFF:
            return self._int4
        return self._int8 if -(2**63) <= obj < 2**63 else self._numeric


class _ArrayDumper(ListDumper):
    """Send a list without a type, so that it becomes what stands on the other side.

    psycopg would send integer[] for small numbers, and ``bigint[] = integer[]`` does not exist.
    Numbers that no integer can hold stay bigint[] or numeric[]: ``id = ANY(...)`` is then false, and
    not an error.
    """

    def upgrade(self, obj: list[Any], format: PyFormat) -> BaseListDumper:
        """Return the dumper for *obj*."""
        dumper = super().upgrade(obj, format)
        if dumper is not self and dumper.oid not in _WIDE_ARRAY_OIDS:
            dumper.oid = _UNKNOWN_OID
        return dumper


_OURS: tuple[tuple[type, type[Dumper]], ...] = ((int, _IntDumper), (list, _ArrayDumper))
_THEIRS = tuple((python, psycopg.adapters.get_dumper(python, PyFormat.AUTO)) for python, _ in _OURS)


def register_dumpers(adapters: AdaptersMap) -> None:
    """Send ints and lists our way on what has *adapters*."""
    for python, dumper in _OURS:
        adapters.register_dumper(python, dumper)


def restore_dumpers(adapters: AdaptersMap) -> None:
    """Send ints and lists psycopg's way again on what has *adapters*."""
    for python, dumper in _THEIRS:
        adapters.register_dumper(python, dumper)
