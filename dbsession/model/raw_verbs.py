"""The class verbs that take SQL: ``User.select_by_sql(...)``, ``User.get_by_sql(...)``."""

from __future__ import annotations

from typing import Any, TypeVar

from dbsession.errors import MultipleObjectsFoundError
from dbsession.model.mapping import mapping_of

__all__ = ["RawVerbs"]

E = TypeVar("E")


class RawVerbs(type):
    """What `EntityMeta` has of SQL of the user's own."""

    def select_by_sql(cls: type[E], sql: str, params: Any = None) -> list[E]:
        """Return the objects whose rows *sql* gives, in its order.

        The columns of its result are known by their names. Those of the key have to be there (and, in a hierarchy,
        the discriminator), others fill what they have, and what is left out is loaded when it is needed. Objects
        that are in memory already are the same ones, with what is unsaved of them; those that were deleted in
        this session are left out. Unsaved changes are sent first. Parameters are ``%s`` with a sequence or
        ``%(name)s`` with a dict, as for `Database.select`; no variable is taken from the caller by its name.

        Raises:
            ProgrammingError: the SQL is wrong, a column of the key is missing, or one is none of the entity's.
            UnrepeatableReadError: what was read of an object before was changed by somebody else.
        """
        mapping = mapping_of(cls)
        found: list[E] = mapping.gateway.select_by_sql(mapping, sql, params)
        return found

    def get_by_sql(cls: type[E], sql: str, params: Any = None) -> E | None:
        """Return the object whose row *sql* gives, or None; see `select_by_sql`.

        Raises:
            MultipleObjectsFoundError: it gives more than one row.
            ProgrammingError, UnrepeatableReadError: as for `select_by_sql`.
        """
        mapping = mapping_of(cls)
        found: list[E] = mapping.gateway.select_by_sql(mapping, sql, params)
        if len(found) > 1:
            raise MultipleObjectsFoundError(
                f"the SQL gave {len(found)} rows of {mapping.name}, and get_by_sql() takes one; narrow it, or use "
                f"select_by_sql()"
            )
        return found[0] if found else None
