"""How Python values are sent to PostgreSQL where psycopg's own way costs too much."""

from __future__ import annotations

import psycopg
from psycopg.adapt import Dumper, PyFormat
from psycopg.types.numeric import Int4, Int4Dumper, Int8, Int8Dumper, IntNumeric, IntNumericDumper

__all__ = ["PSYCOPG_INT_DUMPER", "IntDumper"]


class IntDumper(Dumper):
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


PSYCOPG_INT_DUMPER = psycopg.adapters.get_dumper(int, PyFormat.AUTO)
"""What psycopg itself sends an int with."""
