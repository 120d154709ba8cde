"""What a query loads ahead, and where the attributes that it was given lead.

A reference or a collection leads from objects to others; a lazy attribute brings a column. A path takes each naming
of an attribute once, so that ``prefetch(User.boss, User.boss)`` goes two up. An entity stands for all relations that
lead to it, which are followed until nothing new is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from dbsession.model.attributes import Attribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.expressions import Path, plain_expression
from dbsession.model.mapping import Column, Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.registration import suggest
from dbsession.query.kinds import kind_of

__all__ = ["Prefetched", "Relation", "prefetched"]

Relation: TypeAlias = ReferenceAttribute | CollectionAttribute


class Prefetched(NamedTuple):
    """What a query loads ahead: *relations* to follow, *lazy* columns to add, *entities* to look for."""

    relations: tuple[Relation, ...] = ()
    lazy: tuple[Attribute[Any], ...] = ()
    entities: tuple[Mapping, ...] = ()

    def steps(self, mapping: Mapping, left: tuple[Relation, ...]) -> list[tuple[Relation, tuple[Relation, ...]]]:
        """Return what is to be followed from objects of *mapping*, and which namings are left of *left* behind it."""
        found: dict[str, tuple[Relation, tuple[Relation, ...]]] = {}
        for place, relation in enumerate(left):
            if relation.name not in found and issubclass(mapping.entity, relation.mapping.entity):
                found[relation.name] = (mapping.member(relation.name), (*left[:place], *left[place + 1 :]))
        if self.entities:
            found |= {relation.name: (relation, left) for relation in _relations(mapping) if self._is_sought(relation)}
        return list(found.values())

    def leads_on(self, mapping: Mapping, left: tuple[Relation, ...]) -> bool:
        """Tell whether anything may be followed from objects of *mapping*."""
        return bool(self.entities) or any(_may_have(mapping, relation) for relation in left)

    def source(self, mapping: Mapping) -> tuple[Column, ...]:
        """Return the columns that objects of *mapping* are loaded with."""
        columns = {column.name: column for column in mapping.wide}
        for attribute in self.lazy_attributes(mapping):
            columns |= {column.name: column for column in attribute.columns}
        return tuple(columns.values())

    def lazy_attributes(self, mapping: Mapping) -> list[Attribute[Any]]:
        """Return the lazy attributes that are to be loaded with objects of *mapping* and its subclasses."""
        named: list[Any] = [*self.lazy, *[relation for relation in self.relations if _is_lazy(relation)]]
        if self.entities:
            sought = [relation for member in mapping.family() for relation in _relations(member)]
            named += [relation for relation in sought if _is_lazy(relation) and self._is_sought(relation)]
        return [attribute for attribute in named if _may_have(mapping, attribute)]

    def _is_sought(self, relation: Relation) -> bool:
        return any(issubclass(relation.target.entity, mapping.entity) for mapping in self.entities)


def prefetched(given: Iterable[Any], items: Iterable[Any], before: Prefetched | None) -> Prefetched:
    """Return what *given* (entities and attributes) and *before* name, for a query with the result *items*.

    Raises:
        TypeError: something is no entity or attribute, or nothing leads to it; there are no objects in the result.
    """
    kinds = [kind_of(item).python for item in items]
    roots = [kind for kind in kinds if isinstance(kind, Mapping)]
    if not roots:
        names = ", ".join(map(repr, items))
        raise TypeError(f"prefetch() loads what objects lead to, and this query gives values: {names}")
    known = before or Prefetched()
    relations, lazy, entities = list(known.relations), list(known.lazy), list(known.entities)
    plain: list[Attribute[Any]] = []
    for what in _steps(given):
        mapping = getattr(what, "_mapping_", None) if isinstance(what, type) else getattr(what, "mapping", None)
        if not isinstance(mapping, Mapping) or not isinstance(what, type | Attribute | CollectionAttribute):
            raise TypeError(
                f"prefetch() takes entities and attributes, such as User or Order.user, not {what!r:.80}"
                f"{_meant(what, roots)}"
            )
        if isinstance(what, type):
            entities.append(mapping)
        elif isinstance(what, Relation):
            relations.append(what)
        else:
            (lazy if what.is_lazy else plain).append(what)
    wanted = Prefetched(tuple(relations), tuple(lazy), tuple(entities))
    _require_reached(wanted, plain, roots)
    return wanted


def _steps(given: Iterable[Any]) -> Iterator[Any]:
    """Yield what is named: entities and attributes; of ``Order.user.company`` one reference after the other."""
    for what in given:
        node, steps = plain_expression(what), []
        while isinstance(node, Path):
            steps.append(node.attribute)
            node = node.base
        yield node
        yield from reversed(steps)


def _meant(what: Any, roots: list[Mapping]) -> str:
    if not isinstance(what, str):
        return ""
    for mapping in roots:
        if mapping.member(what) is not None:
            return f"; write {mapping.name}.{what}"
    return suggest(what, [name for mapping in roots for name in (*mapping.attributes, *mapping.collections)])


# --- what is reached --------------------------------------------------------------------------------


def _require_reached(wanted: Prefetched, plain: list[Attribute[Any]], roots: list[Mapping]) -> None:
    """Raise unless objects of *roots* lead to all that is *wanted*."""
    reached = list(dict.fromkeys(roots))
    by_entity: set[Mapping] = set()
    for mapping in reached:  # which grows
        targets = [relation.target for relation in wanted.relations if _may_have(mapping, relation)]
        for relation in _relations_of_family(mapping) if wanted.entities else ():
            sought = [entity for entity in wanted.entities if issubclass(relation.target.entity, entity.entity)]
            by_entity.update(sought)
            targets += [relation.target] if sought else []
        reached += [target for target in dict.fromkeys(targets) if target not in reached]
    named: list[Any] = [*wanted.relations, *wanted.lazy, *plain]
    for attribute in named:
        if not any(_may_have(mapping, attribute) for mapping in reached):
            _refuse(f"prefetch({attribute!r})", attribute.mapping, roots, reached, f", {attribute!r}")
    for entity in wanted.entities:
        if entity not in by_entity:
            _refuse(f"prefetch({entity.name})", entity, roots, reached, "")


def _refuse(call: str, mapping: Mapping, roots: list[Mapping], reached: list[Mapping], behind: str) -> None:
    names = " and ".join([root.name for root in roots])
    beyond = [other.name for other in reached if other not in roots]
    also = f" (and of what leads on from there, {', '.join(beyond)})" if beyond else ""
    steps = _way(reached, mapping)
    if steps is None:
        leading = [repr(relation) for origin in reached for relation in _relations_of_family(origin)]
        way_out = f"there is {', '.join(leading)}" if leading else "they have no relations"
    elif behind or len(steps) > 1:
        way_out = f"name each step: prefetch({', '.join(map(repr, steps))}{behind})"
    else:
        way_out = f"name the attribute: prefetch({steps[0]!r})"
    raise TypeError(f"{call}: nothing leads to {mapping.name} from the objects of this query, {names}{also}; {way_out}")


def _way(reached: list[Mapping], wanted: Mapping) -> list[Relation] | None:
    """Return the shortest way from *reached* to objects of *wanted*, or None if there is none."""
    todo: list[tuple[Mapping, list[Relation]]] = [(mapping, []) for mapping in reached]
    seen = set(reached)
    for mapping, way in todo:  # which grows
        for relation in _relations_of_family(mapping):
            if _is_kin(relation.target, wanted):
                return [*way, relation]
            if relation.target not in seen:
                seen.add(relation.target)
                todo.append((relation.target, [*way, relation]))
    return None


def _relations(mapping: Mapping) -> list[Relation]:
    return [*mapping.reference_attributes, *mapping.collections.values()]


def _relations_of_family(mapping: Mapping) -> list[Relation]:
    """Return the relations of *mapping*, and those that only its subclasses have."""
    found: dict[Any, Relation] = {}
    for member in mapping.family():
        for relation in _relations(member):
            found.setdefault((relation.name, relation.target), relation)
    return list(found.values())


def _is_lazy(relation: Relation) -> bool:
    return isinstance(relation, ReferenceAttribute) and relation.is_lazy and not relation.is_virtual


def _is_kin(one: Mapping, other: Mapping) -> bool:
    return issubclass(one.entity, other.entity) or issubclass(other.entity, one.entity)


def _may_have(mapping: Mapping, attribute: Any) -> bool:
    """Tell whether an object that *mapping* stands for, or one of a subclass, may have *attribute*."""
    return _is_kin(mapping, attribute.mapping)
