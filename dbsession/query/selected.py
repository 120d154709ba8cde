"""What a query asks for, as a value: ranges, result, conditions, order, limits.

``select((u.name, count(o)) for u in User for o in u.orders if o.total > 5)`` is a `Selected` with two
`For`s, a tuple as its result and one condition. What it means, beyond what its fields say:

- *Duplicates*: each combination of the variables of the result comes once. A variable that the result
  neither uses nor determines (the owner of an item is determined by it) is asked for by EXISTS, so no
  join multiplies rows. With `keeps_duplicates` it is joined, and rows come as often as the loops of
  Python would give them.
- *Grouping*: if the result has aggregates, its other items are what the rows are grouped by, and
  conditions with aggregates choose among the groups.

Everything that was made of a `Selected` once (its SQL, the queries derived from it) is kept in its
`cache`, so that asking again costs a dictionary lookup.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from dbsession.backends.base import Dialect
from dbsession.model.attributes import Attribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.expressions import Operation, Ordering
from dbsession.model.mapping import Mapping
from dbsession.query.prefetched import Prefetched
from dbsession.query.tree import AGGREGATES, Path, Subquery, Variable, is_many, walk

__all__ = ["For", "Selected", "filtered_by", "has_aggregate", "is_aggregate", "items_of", "owner_of", "variables_in"]

T = TypeVar("T")

_DERIVED = 200  # queries and statements kept in one cache


class For(NamedTuple):
    """One ``for`` clause: what the variable ranges over.

    *origin*: None for all objects of its entity, a path to a collection (``u.orders``), or a `Subquery` that
    gives objects.
    """

    variable: Variable
    origin: Path | Subquery | None = None


@dataclass(frozen=True, eq=False)
class Selected:
    """What a query asks for. *result* is a variable, an expression, or a tuple of those."""

    fors: tuple[For, ...]
    result: Any
    conditions: tuple[Any, ...] = ()
    orderings: tuple[Ordering, ...] = ()
    limit: int | None = None
    offset: int = 0
    lock: str = ""  # "FOR UPDATE", or that with " NOWAIT" or " SKIP LOCKED": the rows are locked
    is_left: bool = False  # the loops over collections are left joins
    is_distinct: bool = False
    keeps_duplicates: bool = False
    prefetched: Prefetched | None = None
    main: Variable | None = None  # whose attributes stand bare, where the result does not say it; see `bare`
    cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, mapping: Mapping, *conditions: Any) -> Selected:
        """Return the query for the objects of *mapping* for which *conditions* hold."""
        variable = Variable.of(mapping)
        return cls((For(variable),), variable, conditions)

    def replace(self, **changes: Any) -> Selected:
        """Return this with *changes*."""
        return replace(self, **changes)

    def derived(self, key: Any, make: Callable[[], T]) -> T:
        """Return what *make* makes of this; the second time, for the same *key*, what it made the first time."""
        found: T | None = self.cache.get(key)
        if found is None:
            found = make()
            if len(self.cache) > _DERIVED:
                self.cache.clear()
            self.cache[key] = found
        return found

    # --- the result ---------------------------------------------------------------------------

    @property
    def items(self) -> tuple[Any, ...]:
        """The items of the result."""
        return self.result if isinstance(self.result, tuple) else (self.result,)

    @property
    def mapping(self) -> Mapping:
        """The mapping of the objects that the query gives, or else that it ranges over first."""
        result = self.result
        if isinstance(result, Path) and result.target is not None:
            return result.target
        return result.mapping if isinstance(result, Variable) else self.fors[0].variable.mapping

    @property
    def dialect(self) -> Dialect:
        """The dialect of the database that is asked."""
        return self.fors[0].variable.mapping.dialect

    @property
    def gives_objects(self) -> bool:
        """Whether the result is the object of a variable, rather than values or what a path leads to."""
        return isinstance(self.result, Variable)

    @property
    def may_give_none(self) -> bool:
        """Whether None may stand for the object of the result: its loop is over a collection, in a left join."""
        return self.is_left and any(
            loop.variable is self.result
            and isinstance(loop.origin, Path)
            and isinstance(loop.origin.attribute, CollectionAttribute)
            for loop in self.fors[1:]
        )

    @property
    def is_grouped(self) -> bool:
        """Whether the result, a condition or an ordering has aggregates, so that rows are grouped."""
        orderings = [ordering.expression for ordering in self.orderings]
        return any(map(has_aggregate, (*self.items, *self.conditions, *orderings)))

    @property
    def is_sliced(self) -> bool:
        """Whether there is a limit or an offset."""
        return self.limit is not None or bool(self.offset)

    @property
    def bare(self) -> Variable:
        """The variable whose attributes stand bare."""
        if self.main is not None:
            return self.main
        return self.result if isinstance(self.result, Variable) else self.fors[0].variable

    def unordered(self) -> Selected:
        """Return this without its order, where that says nothing but the order: an aggregate in it makes groups."""
        orderings = tuple([ordering for ordering in self.orderings if has_aggregate(ordering.expression)])
        return self if orderings == self.orderings else self.replace(orderings=orderings)

    def used_in(self, node: Any) -> set[int]:
        """Return the ids of the variables in *node*, with the one whose attributes stand bare in it."""
        used = {id(variable) for variable in variables_in(node)}
        if any(isinstance(part, Attribute | CollectionAttribute) for part in walk(node)):
            used.add(id(self.bare))
        return used

    # --- duplicates ---------------------------------------------------------------------------

    def kept(self) -> list[For]:
        """Return the loops that are joined; the others are asked for by EXISTS."""
        if len(self.fors) == 1 or self.is_left or self.keeps_duplicates:
            return list(self.fors)
        orderings = tuple([ordering.expression for ordering in self.orderings])
        # HAVING needs its variables, too. An order has none of its own: each would multiply the rows.
        chosen = (self.items, *[tuple(filter(has_aggregate, nodes)) for nodes in (self.conditions, orderings)])
        used = self.used_in(chosen)
        if any(isinstance(node, Operation) and not node.operands for node in walk(chosen) if is_aggregate(node)):
            return list(self.fors)  # count() counts combinations of all
        for variable, origin in reversed(self.fors):
            if id(variable) in used and isinstance(origin, Path) and _is_determined(origin):
                used.update([id(base) for base in variables_in(origin)])
        ordering = self.used_in(orderings)
        for variable, origin in self.fors:
            is_single = isinstance(origin, Path) and not origin.is_many  # one for each object that refers to it
            if is_single and id(variable) in ordering and {id(base) for base in variables_in(origin)} <= used:
                used.add(id(variable))
        return [loop for loop in self.fors if id(loop.variable) in used]


def _is_determined(origin: Path) -> bool:
    """Tell whether an item of the collection *origin* says whose it is."""
    node: Any = origin
    while isinstance(node, Path):
        attribute = node.attribute
        if not isinstance(attribute, CollectionAttribute) or attribute.link is not None:
            return False
        node = node.base
    return True


def variables_in(node: Any) -> list[Variable]:
    """Return the variables in *node*, and those from outside in its subqueries."""
    found: list[Variable] = []
    for part in walk(node):
        if isinstance(part, Variable):
            found.append(part)
        elif isinstance(part, Subquery):
            inner = part.selected
            own = {id(loop.variable) for loop in inner.fors}
            origins = tuple([loop.origin for loop in inner.fors])
            orderings = tuple([ordering.expression for ordering in inner.orderings])
            inside = variables_in((origins, inner.items, inner.conditions, orderings))
            found += [variable for variable in inside if id(variable) not in own]
    return found


def is_aggregate(node: Any) -> bool:
    """Tell whether *node* is an aggregate over the rows of its own query, not one over a collection or subquery."""
    if not isinstance(node, Operation) or node.operator not in AGGREGATES:
        return False
    operand = node.operands[0] if node.operands else None
    return not is_many(operand)


def has_aggregate(node: Any) -> bool:
    """Tell whether there is an aggregate in *node*."""
    return any(map(is_aggregate, walk(node)))


def items_of(path: Path) -> Selected:
    """Return the query for what *path*, which leads through collections, gives."""
    steps: list[Any] = []
    node: Any = path
    while isinstance(node, Path):
        steps.append(node.attribute)
        node = node.base
    fors: list[For] = []
    for attribute in reversed(steps):
        node = Path(node, attribute)
        if isinstance(attribute, CollectionAttribute):
            variable = Variable.of(attribute.target)
            fors.append(For(variable, node))
            node = variable
    return Selected(tuple(fors), node)


def owner_of(node: Any, among: Any) -> Operation[bool] | None:
    """Return the condition that *node* is in *among*, asked of its reference to the owner of that collection.

    It is unknown where there is no owner, or no object whose collection it is, and being in it is false.
    None if it cannot be asked in this way.
    """
    if not isinstance(among, Path) or not isinstance(node, Variable | Path):
        return None
    attribute = among.attribute
    if not isinstance(attribute, CollectionAttribute) or attribute.link is not None:
        return None
    if isinstance(among.base, Path) and among.base.is_many:
        return None
    return Operation("=", Path(node, attribute.reverse), among.base)


def filtered_by(selected: Selected) -> list[Attribute[Any]]:
    """Return the attributes of the resulting objects that the conditions look at, and that are checked on writing."""
    return selected.derived("filtered by", lambda: _filtered_by(selected))


def _filtered_by(selected: Selected) -> list[Attribute[Any]]:
    names: dict[str, None] = {}
    for node in walk(selected.conditions):
        if isinstance(node, Attribute) or (isinstance(node, Path) and node.base is selected.result):
            names[node.name if isinstance(node, Attribute) else node.attribute.name] = None
    attributes = [selected.mapping.attributes.get(name) for name in names]
    return [a for a in attributes if a is not None and a.is_checked and not a.is_virtual]
