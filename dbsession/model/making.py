"""How objects are made for a unit of work that need not be that of the current scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from dbsession.model.mapping import Mapping
    from dbsession.model.state import Unit

__all__ = ["For", "unit_given"]


class For(NamedTuple):
    """Is given to ``EntityBase.__init__`` before the values, and names the unit of work."""

    unit: Unit


def unit_given(mapping: Mapping, unnamed: tuple[Any, ...]) -> Unit:
    """Return the unit of work that is named among the arguments of a new object which have no name.

    Raises:
        TypeError: something else is among them; attributes go by name.
    """
    given = unnamed[0]
    if type(given) is For and len(unnamed) == 1:
        return given.unit
    names = (name for name, member in mapping.entity._attributes_.items() if not getattr(member, "is_auto", False))
    raise TypeError(f"{mapping.name} takes its attributes by name: {mapping.name}({next(names, 'name')}=...)")
