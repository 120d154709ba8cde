"""One-to-one relations: how the other end follows, and who gives way.

One end has a unique column. The other end has none (it is *virtual*), or, where the attribute is its
own reverse (``spouse = Optional("Person", reverse="spouse")``), it has the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbsession.errors import CacheIndexError, ConstraintError
from dbsession.model.linking import joined
from dbsession.model.state import NOT_LOADED, UNSET, set_row

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase
    from dbsession.model.references import ReferenceAttribute
    from dbsession.model.state import Unit

__all__ = ["holder", "partner", "refer_virtual", "released", "require_free_end", "taken"]


def partner(attribute: ReferenceAttribute, obj: EntityBase, unit: Unit) -> EntityBase | None:
    """Return whom *obj* refers to by a symmetric *attribute*, loaded or not."""
    known = attribute.known(obj, unit)
    if known is not None or obj._state_.is_new or attribute.name in obj.__dict__:
        return known
    if attribute.key_in(obj._row_) is NOT_LOADED:
        attribute.load(obj)
    key = attribute.key_in(obj._row_)
    if key is None:
        return None
    other = unit.reference(attribute.target, key)
    if other is not known and attribute.key_in(other._row_) is NOT_LOADED:
        # It refers back. That counts as read, so that its update checks whether it still does.
        back = obj._key_ if isinstance(obj._key_, tuple) else (obj._key_,)
        row = list(other._row_)
        for position, part in zip(attribute.positions, back, strict=True):
            row[position] = part
        set_row(other, tuple(row))
        other.__dict__[attribute.name] = obj
    return other


def holder(attribute: ReferenceAttribute, owner: EntityBase, unit: Unit) -> EntityBase | None:
    """Return the object at the other end of *owner*'s *attribute*, as far as it is in memory; sends nothing."""
    value = owner.__dict__.get(attribute.name, UNSET)
    if value is not UNSET:
        known: EntityBase | None = value
        return known
    if owner._state_.is_new:
        return None
    if attribute.is_virtual or attribute.key_in(owner._row_) is NOT_LOADED:
        return unit.find_referring(attribute.reverse, owner)
    return partner(attribute, owner, unit)


def require_free_end(attribute: ReferenceAttribute, obj: EntityBase, target: EntityBase, unit: Unit) -> None:
    """Raise unless *target* is free for *obj*, where the relation needs both ends.

    Raises:
        CacheIndexError: another object refers to *target* by the required *attribute*.
    """
    before = holder(attribute.reverse, target, unit)
    if before is not None and before is not obj:
        raise CacheIndexError(
            f"{target!r} has {before!r} as its {attribute.reverse.name} already, and {attribute!r} is required: "
            f"{obj!r} cannot take its place; give {before!r} another {attribute.name}, or delete it, first"
        )


def refer_virtual(attribute: ReferenceAttribute, obj: EntityBase, target: EntityBase | None, unit: Unit) -> None:
    """Let *target* refer to *obj*, whose own *attribute* has no column."""
    if not obj._state_.is_new and attribute.name not in obj.__dict__:
        unit.load_back_reference(obj, attribute)
    old = obj.__dict__.get(attribute.name)
    if old is target:
        return
    reverse: ReferenceAttribute = attribute.reverse
    if old is not None and reverse.is_required:
        raise ConstraintError(
            f"{reverse!r} is required, so {old!r} cannot be left without {attribute.mapping.name}; "
            f"delete it, or give it another one"
        )
    if old is not None:
        reverse.refer(old, None, unit)
    if target is not None:
        if target._state_.unit is not unit:
            joined(unit, target)
        reverse.refer(target, obj, unit)
    else:
        _follow(attribute, obj, None, unit)


def released(attribute: ReferenceAttribute, owner: EntityBase, item: EntityBase, unit: Unit) -> None:
    """Note on *owner* that *item* refers to it no more."""
    now = owner.__dict__.get(attribute.name) if attribute.is_virtual else attribute.known(owner, unit)
    if now is item:
        _follow(attribute, owner, None, unit)


def taken(attribute: ReferenceAttribute, owner: EntityBase, item: EntityBase, unit: Unit) -> None:
    """Note on *owner* that *item* refers to it now; whoever did before refers to nobody."""
    before = holder(attribute, owner, unit)
    if before is not None and before is not item:
        attribute.reverse.store(before, unit, None)
    _follow(attribute, owner, item, unit)


def _follow(attribute: ReferenceAttribute, owner: EntityBase, item: EntityBase | None, unit: Unit) -> None:
    if attribute.is_virtual:
        unit.back_reference_changing(owner, attribute)
        owner.__dict__[attribute.name] = item
    else:  # symmetric: both ends have a column
        attribute.store(owner, unit, item)
