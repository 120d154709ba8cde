"""Several attributes assigned at once: ``user.set(name="Ann", boss=bob)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbsession.model.attributes import ValueAttribute
from dbsession.model.keys import assign_key
from dbsession.model.linking import with_room
from dbsession.model.registration import suggest

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase

__all__ = ["set_values"]


def set_values(obj: EntityBase, values: dict[str, Any]) -> None:
    """Assign *values*; if one is refused, none is assigned, and nobody joins the session of *obj*.

    Raises:
        TypeError, ValueError: an attribute does not exist, or a value does not fit.
    """
    attributes = obj._attributes_
    unknown = [name for name in values if name not in attributes]
    if unknown:
        raise TypeError(f"unexpected attribute {unknown[0]!r} of {type(obj).__name__}{suggest(unknown[0], attributes)}")
    unit = obj._state_.require_change(obj, f"change object {obj!r}")
    key: dict[Any, Any] = {}
    relations: dict[Any, Any] = {}  # what may still be refused
    rest: dict[Any, Any] = {}
    coming: list[Any] = []
    for name, value in values.items():
        attribute = attributes[name]
        checked = attribute.checked(obj, value)
        is_plain = isinstance(attribute, ValueAttribute)
        if not is_plain:
            coming += checked if isinstance(checked, list) else (checked,)
        (key if attribute.is_key else rest if is_plain else relations)[attribute] = checked
    if coming:
        coming = with_room(unit, coming)
    if key:
        assign_key(obj, unit, key, coming)
    elif coming:
        unit.take_in(*coming)
    for attribute, value in (*relations.items(), *rest.items()):
        attribute.assign(obj, value)
