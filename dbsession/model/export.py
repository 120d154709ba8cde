"""Objects as dicts and as JSON: what `EntityBase.to_dict` and `EntityBase.to_json` give."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dbsession.model.collections import CollectionAttribute
from dbsession.model.json_values import as_json
from dbsession.model.tracked import plain

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase

__all__ = ["Names", "to_dict", "to_json"]

Names = str | Iterable[Any] | None
"""Which attributes: their names, or the attributes themselves; in one text with blanks or commas between them."""


def _names(names: Names) -> Iterable[Any]:
    return names.replace(",", " ").split() if isinstance(names, str) else (names or ())


def _values(
    obj: EntityBase, only: Names, exclude: Names, with_collections: bool, with_lazy: bool
) -> Iterator[tuple[Any, Any]]:
    """Yield the attributes that are asked for, each with its value: an object, a sorted list of objects, or plain."""
    if only is None and obj._state_.is_persistent and obj._mapping_.is_polymorphic:
        _find_class(obj)
    chosen = {obj._attribute_(name).name for name in _names(only)}
    left_out = {obj._attribute_(name).name for name in _names(exclude)}
    for name, attribute in obj._attributes_.items():
        if name in left_out or (chosen and name not in chosen):
            continue
        if isinstance(attribute, CollectionAttribute):
            if with_collections or chosen:
                yield attribute, sorted(getattr(obj, name), key=lambda item: (item.get_pk() is None, item.get_pk()))
        elif not attribute.is_lazy or with_lazy or chosen:
            yield attribute, plain(getattr(obj, name))


def _find_class(obj: EntityBase) -> None:
    """Load *obj* if only its key is known, since it may be of a subclass, which has more attributes."""
    mapping = obj._mapping_
    kind, unit = mapping.root.discriminator, obj._state_.unit
    if kind is not None and unit is not None and mapping.is_hollow(obj._row_):
        unit.check_owner()
        unit.refresh_lazy(obj, (kind,))


def to_dict(
    obj: EntityBase, only: Names, exclude: Names, with_collections: bool, with_lazy: bool, related_objects: bool
) -> dict[str, Any]:
    """Return the attributes of *obj* as a dict; see `EntityBase.to_dict`."""
    result: dict[str, Any] = {}
    for attribute, value in _values(obj, only, exclude, with_collections, with_lazy):
        result[attribute.name] = value if related_objects else _as_keys(attribute, value)
    return result


def _as_keys(attribute: Any, value: Any) -> Any:
    """Return *value* with keys in place of objects."""
    if isinstance(attribute, CollectionAttribute):
        return [item.get_pk() for item in value]
    return value.get_pk() if hasattr(value, "_state_") else value


def to_json(
    obj: EntityBase,
    only: Names,
    exclude: Names,
    with_collections: bool,
    with_lazy: bool,
    related_objects: bool,
    json_options: dict[str, Any],
) -> str:
    """Return the attributes of *obj* as JSON text; see `EntityBase.to_json`."""
    values = _values(obj, only, exclude, with_collections, with_lazy)
    if related_objects:
        nest = _Nesting(obj, with_collections, with_lazy)
        document = nest.document(values, goes_down=True)
    else:
        document = {attribute.name: as_json(_as_keys(attribute, value)) for attribute, value in values}
    return json.dumps(document, **json_options)


class _Nesting:
    """Related objects as documents within that of *obj*.

    An object whose document is being written stands in it as its key. The items of a one-to-many collection show
    their collections, too; what a reference or a many-to-many relation leads to does not: from there, everything
    could be reached on many ways.
    """

    def __init__(self, obj: EntityBase, with_collections: bool, with_lazy: bool) -> None:
        self._within = [obj]
        self._with_collections = with_collections
        self._with_lazy = with_lazy

    def document(self, values: Iterable[tuple[Any, Any]], *, goes_down: bool) -> dict[str, Any]:
        """Return *values* as JSON has them."""
        document: dict[str, Any] = {}
        for attribute, value in values:
            if isinstance(attribute, CollectionAttribute):
                is_below = goes_down and attribute.link is None
                document[attribute.name] = [self._related(item, goes_down=is_below) for item in value]
            elif hasattr(value, "_state_"):
                document[attribute.name] = self._related(value, goes_down=False)
            else:
                document[attribute.name] = as_json(value)
        return document

    def _related(self, obj: EntityBase, *, goes_down: bool) -> Any:
        if obj in self._within:
            return as_json(obj.get_pk())
        self._within.append(obj)
        below = goes_down and self._with_collections
        values = list(_values(obj, None, None, below, self._with_lazy))
        document = self.document(values, goes_down=below)
        self._within.pop()
        return document
