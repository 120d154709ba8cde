"""From trees to SQL: the SELECTs of a statement, their tables and aliases. Every value becomes a parameter.

`Compiler` writes one statement. What an operator looks like stands in `operators`; here is what
stands around it: which tables a SELECT needs, what their columns are called, what is a subquery.

Parameters are marked in the text by their number between two NULs while it is made, since a FROM clause
is known only after what stands behind it; `finished` puts the placeholders in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from dbsession.backends.base import Dialect
from dbsession.model.attributes import Attribute, ValueAttribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Operation
from dbsession.model.mapping import Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.query.kinds import Kind, is_condition, is_value, kind_of, value_of
from dbsession.query.operators import OPERATORS
from dbsession.query.operators.base import AND, COMPARISON, NOT, Sql, enclosed, joined, nullable
from dbsession.query.operators.operands import bare, collated
from dbsession.query.selected import Selected, items_of, owner_of, variables_in
from dbsession.query.sql.levels import Level, Place
from dbsession.query.sql.select_sql import Head, keys, probe_of, probing, rows, write_select
from dbsession.query.tree import Computed, Path, RawSql, Slot, Subquery, Variable
from dbsession.query.values import Like, key_of, traveller

__all__ = ["Compiler", "Late"]


class Late(NamedTuple):
    """A parameter that is made when the statement is sent, from the value in slot *number* (None: from nothing).

    With *item* it is one item of the list that *convert* makes.
    """

    number: int | None
    convert: Callable[[Any], Any]
    item: int | None = None


class Compiler:
    """Writes one statement.

    With *is_qualified*, columns carry the alias of their table, as they must where there are several tables.
    """

    def __init__(self, dialect: Dialect, *, is_qualified: bool = False) -> None:
        self.dialect = dialect
        self.is_qualified = is_qualified
        self.level = Level(None)
        self.params: list[Any] = []  # values, and Late ones
        self.shift = 0  # of the numbers of slots: a subquery counts from 0
        self.tables: dict[Mapping | None, None] = {}  # whose rows the statement reads; None: nobody knows
        self.first: Mapping | None = None  # whose database is asked
        self.names: set[str] = set()  # aliases in use
        self.is_ambiguous = False  # whether columns need the alias of their table to be told apart
        self.fixed: list[EntityBase] = []  # objects that stand in the query itself

    @classmethod
    def over(cls, mapping: Mapping) -> Compiler:
        """Return a compiler for expressions over the row of *mapping* that a statement is about."""
        compiler = cls(mapping.dialect)
        compiler.range_over(Variable.of(mapping))
        return compiler

    def finished(self, sql: str) -> tuple[str, list[Any]]:
        """Return *sql* with its placeholders, and the parameters in their order."""
        params: list[Any] = []

        def put(mark: re.Match[str]) -> str:
            params.append(self.params[int(mark[1])])
            return self.dialect.placeholder

        return _MARK.sub(put, sql), params

    # --- tables -------------------------------------------------------------------------------

    def reads(self, mapping: Mapping) -> None:
        """Note that the statement reads the table of *mapping*.

        Raises:
            TypeError: it is in another database, where a table of the same name may be.
        """
        first = self.first = self.first or mapping
        if mapping.gateway is not first.gateway:
            raise TypeError(
                f"{first.name} and {mapping.name} are in different databases, and no statement asks both; fetch from "
                f"one first, and ask the other with the list of its results"
            )
        self.tables[mapping.root] = None

    def alias(self, wanted: str) -> str:
        """Return a quoted alias like *wanted* that is free."""
        number, name = 1, self._cut(wanted, "")
        while name.lower() in self.names:  # u2 may be the name of a variable
            number += 1
            name = self._cut(wanted, str(number))
        self.names.add(name.lower())
        return self.dialect.quote(name)

    def _cut(self, wanted: str, number: str) -> str:
        """Return the name that ends in *number*, of 63 bytes at most on PostgreSQL, which would cut it itself."""
        if self.dialect.name == "sqlite" or len(wanted) < 15:  # of four bytes each, at most
            return wanted + number
        return wanted.encode()[: 63 - len(number)].decode(errors="ignore") + number

    def range_over(self, variable: Variable, join: str = "", on: Callable[[Place], str] | None = None) -> Place:
        """Let *variable* range over its table at this level; *on* gives the condition that joins it."""
        mapping = variable.mapping
        self.reads(mapping)
        alias = self.alias(variable.name) if self.is_qualified else ""
        place = Place(mapping, prefix=f"{alias}." if alias else "", is_optional=join == "LEFT JOIN")
        self.level.places[variable] = place
        if self.level.main is None:
            self.level.main = variable
        conditions = [on(place)] if on is not None else []
        if narrowed := self.narrowed(place):
            if join == "LEFT JOIN":
                conditions.append(narrowed)
            else:
                self.level.narrowings.append(narrowed)
        self.add(
            self.level, f"{mapping.quoted} AS {alias}" if alias else mapping.quoted, join, " AND ".join(conditions)
        )
        return place

    def add(self, level: Level, name: str, join: str, on: str) -> None:
        """Add a table to the FROM clause of *level*."""
        level.add(name, join, on)
        if len(level.sources) > 1:
            self.is_ambiguous = True

    def narrowed(self, place: Place) -> str:
        """Return the condition that keeps the rows of this entity in the table of its hierarchy, or nothing."""
        mapping = place.mapping
        if mapping.root is mapping:
            return ""
        column = mapping.root.discriminator
        assert isinstance(column, ValueAttribute)
        values = [column.raw(member.discriminator_value) for member in mapping.family()]
        return f"{place.column(column.columns[0])} IN ({', '.join(map(self.parameter, values))})"

    def range_over_items(self, variable: Variable, path: Path, join: str) -> None:
        """Let *variable* range over the items of the collection that *path* leads to."""
        attribute = path.attribute
        assert isinstance(attribute, CollectionAttribute)
        keys = self.columns_of(path.base)
        if attribute.link is None:
            self.range_over(variable, join, lambda place: _pairs(place.key_part(attribute.reverse), keys))
            return
        link = attribute.link
        mine, theirs = link.columns_of(attribute)
        level = self.level
        self.reads(link.left.mapping)
        self.reads(link.right.mapping)
        alias = self.alias(f"{variable.name}_link") + "." if self.is_qualified else ""
        on = _pairs([alias + column.quoted for column in mine], keys)
        self.add(level, f"{link.quoted} AS {alias[:-1]}" if alias else link.quoted, join, on)
        linked = tuple([alias + column.quoted for column in theirs])
        target = variable.mapping
        place = Place(target, keys=linked, is_optional=join == "LEFT JOIN")
        place.join = lambda: self.join(level, target, variable.name, list(linked), is_optional=place.is_optional)
        level.places[variable] = place
        if level.main is None:
            level.main = variable

    def join(self, level: Level, mapping: Mapping, name: str, keys: list[str], *, is_optional: bool) -> str:
        """Join the row of *mapping* with the key *keys* at *level*, and return the prefix of its columns."""
        self.reads(mapping)
        alias = self.alias(name) if self.is_qualified else mapping.quoted
        on = _pairs([f"{alias}.{column.quoted}" for column in mapping.key_columns], keys)
        self.add(level, f"{mapping.quoted} AS {alias}", "LEFT JOIN" if is_optional else "JOIN", on)
        return f"{alias}."

    def place_of(self, node: Any) -> Place:
        """Return where the columns of the object that *node* leads to stand: a variable or a path to a reference."""
        if isinstance(node, Variable):
            level = self.level.of(node)
            if level is None:
                raise TypeError(f"{node!r} is the variable of another query, and has no value in this one")
            if level is not self.level:
                self.is_ambiguous = True
            return level.places[node]
        base, attribute = self.step(node)
        assert isinstance(attribute, ReferenceAttribute)
        level = self.level_of(base)
        before = self.place_of(base)
        known = level.places.get((id(before), attribute.name))
        if known is None:
            known = level.places[id(before), attribute.name] = self._refer(level, before, attribute)
        return known

    def _refer(self, level: Level, before: Place, attribute: ReferenceAttribute) -> Place:
        target = attribute.target
        if attribute.is_virtual:
            there = attribute.reverse

            def join() -> str:
                self.reads(target)
                alias = self.alias(attribute.name) if self.is_qualified else target.quoted
                on = _pairs([f"{alias}.{column.quoted}" for column in there.columns], before.key())
                self.add(level, f"{target.quoted} AS {alias}", "LEFT JOIN", on)
                return f"{alias}."

            return Place(target, join=join, is_optional=True)
        keys = [before.column(column) for column in self.own(attribute, before.mapping).columns]
        is_optional = before.is_optional or attribute.nullable
        return Place(
            target,
            keys=tuple(keys),
            join=lambda: self.join(level, target, attribute.name, keys, is_optional=is_optional),
            is_optional=is_optional,
        )

    def level_of(self, node: Any) -> Level:
        """Return the level at which the object that *node* leads to is found."""
        while not isinstance(node, Variable):
            node = self.step(node)[0]
        return self.level.of(node) or self.level

    def step(self, node: Any) -> tuple[Any, Any]:
        """Return the object and the attribute of it that *node* stands for.

        Raises:
            TypeError: a bare attribute is of an entity that no variable of the query ranges over.
        """
        if isinstance(node, Path):
            return node.base, node.attribute
        main = self.level.main_of(node)
        if main is None:
            innermost = self.level.main
            queried = innermost.mapping.name if innermost is not None else "the entity"
            raise TypeError(f"{node!r} is no attribute of {queried}, whose objects are queried")
        return main, node

    def own(self, attribute: Attribute[Any], mapping: Mapping) -> Attribute[Any]:
        """Return *attribute* as *mapping*, which may be a class above or below, has it."""
        return mapping.attributes.get(attribute.name, attribute)

    # --- expressions --------------------------------------------------------------------------

    def columns_of(self, node: Any) -> list[str]:
        """Return the columns of an attribute, those of the key of an object, or the one rendering of anything else."""
        if isinstance(node, Variable):
            return self.place_of(node).key()
        if isinstance(node, CollectionAttribute) or (isinstance(node, Path) and node.is_many):
            raise TypeError(
                f"{node!r} is a collection, and one value is wanted: take sum(), max() or count() of it, or ask with "
                f"exists()"
            )
        if isinstance(node, Attribute | Path):
            base, attribute = self.step(node)
            if attribute.is_virtual:
                return self.place_of(node).key()
            place = self.place_of(base)
            return place.key_part(self.own(attribute, place.mapping))
        if isinstance(value_of(node), EntityBase):
            mapping = value_of(node)._mapping_
            return [self.key_part(node, index) for index in range(len(mapping.key_columns))]
        if is_condition(node):
            return [enclosed(self.condition(node), COMPARISON + 1)]
        return [self.render(node)]

    def key_part(self, node: Any, index: int) -> str:
        """Return a parameter for one column of the key of the object *node*, or of the one in the slot *node*."""

        def convert(obj: Any) -> Any:
            key = key_of(obj)
            return key[index] if isinstance(key, tuple) else key

        return self.late(node, convert)

    def condition(self, node: Any) -> str:
        """Return *node* as a condition.

        Raises:
            TypeError: it is a value, not a condition.
        """
        if isinstance(value_of(node), bool):
            return Sql("1 = 1" if value_of(node) else "1 = 0", COMPARISON)
        if is_condition(node):
            return OPERATORS[node.operator].render(self, node.operands)
        if getattr(node, "is_many", False):
            raise TypeError(f"{node!r} is a collection, which cannot stand in a condition; ask with exists()")
        if is_value(node):
            raise TypeError(f"a condition is an expression such as User.age > 18, not {node!r:.80}")
        if kind_of(node).is_bool or isinstance(node, RawSql):
            return self.render(node)
        raise TypeError(f"{node!r} is no condition; compare it with something")

    def render(self, node: Any, like: Like = None) -> str:
        """Return the SQL of *node*; a value travels as values beside *like* do.

        Raises:
            TypeError: it has no value: a condition, a collection, a reference of several columns.
        """
        if isinstance(node, Operation):
            if not is_condition(node):
                return OPERATORS[node.operator].render(self, node.operands)
            if like is not None and (like if isinstance(like, Kind) else kind_of(like)).is_bool:
                return self.condition(node)
            raise TypeError(f"{node!r} is a condition, and no value; combine conditions with & | ~")
        if isinstance(node, Subquery):
            return self.scalar(node)
        if isinstance(node, Computed):
            return node.sql
        if isinstance(node, RawSql):
            self.is_ambiguous = True  # it may call columns by the names of loop variables
            self.tables[None] = None  # it may name others
            return OPERATORS["raw"].render(self, (node,))
        if isinstance(node, Expression) and not isinstance(node, Slot):
            columns = self.columns_of(node)
            if len(columns) != 1:
                raise TypeError(f"{node!r} has {len(columns)} columns; it can be compared, and nothing else")
            return columns[0]
        return self.parameter_of(node, like)

    def assigned(self, node: Any, attribute: Attribute[Any]) -> str:
        """Return the SQL of the expression *node* as a value of the column of *attribute*."""
        rendered = self.render(node, attribute)
        kind = attribute.kind.value_type if isinstance(attribute, ValueAttribute) else None
        if self.dialect.name == "sqlite" and kind is not None and kind.python is Decimal:
            rendered = rendered.removesuffix(" COLLATE dbs_decimal")
            return f"dbs_round({rendered}, {kind.scale})"  # other databases round by the type of the column
        return rendered

    def parameter(self, value: Any) -> str:
        """Take *value*, as it travels, as a parameter, and return its mark."""
        self.params.append(value)
        return f"\0{len(self.params) - 1}\0"

    def late(self, node: Any, convert: Callable[[Any], Any]) -> str:
        """Return a parameter that *convert* makes of the object *node*, or of that in its slot, when it is sent."""
        if isinstance(node, Slot):
            return self.parameter(Late(node.number + self.shift, convert))
        self.fixed.append(node)
        return self.parameter(Late(None, lambda _: convert(node)))

    def parameter_of(self, node: Any, like: Like = None, pick: Callable[[Any], Any] | None = None) -> str:
        """Take the value that *node*, a constant or a slot, stands for as a parameter, and return its mark.

        It travels as values beside *like* do. *pick* takes the part that is sent from what it is
        converted to: one item of a list, one part of a key.

        Raises:
            TypeError: it has a type that *like* never has.
        """
        travel = traveller(like, self.dialect)
        convert = travel if pick is None else lambda value: pick(travel(value))
        if isinstance(node, Slot):
            if not isinstance(node.sample, EntityBase):  # it may have no key before a flush
                convert(node.sample)  # a wrong type is known at once
            return self.parameter(Late(node.number + self.shift, convert))
        if isinstance(node, EntityBase):
            return self.late(node, convert)
        return self.parameter(convert(node))

    def made_of(self, node: Any, convert: Callable[[Any], Any]) -> str:
        """Return a parameter that *convert* makes of the list *node*, or of that in its slot."""
        return self.parameter(self._of_list(node, convert))

    def listed(self, node: Any, convert: Callable[[Any], list[Any]], count: int) -> list[str]:
        """Return *count* parameters: the items that *convert* makes of the list *node*, or of that in its slot."""
        late = self._of_list(node, convert)
        if isinstance(late, Late):
            return [self.parameter(late._replace(item=index)) for index in range(count)]
        return [self.parameter(item) for item in late]

    def _of_list(self, node: Any, convert: Callable[[Any], Any]) -> Any:
        objects = [item for item in value_of(node) if isinstance(item, EntityBase)]
        if not objects:  # they may have no keys before a flush
            made = convert(value_of(node))  # a wrong type is known at once
            return Late(node.number + self.shift, convert) if isinstance(node, Slot) else made
        if isinstance(node, Slot):
            return Late(node.number + self.shift, convert)
        self.fixed += objects
        return Late(None, lambda _: convert(node))

    # --- subqueries ---------------------------------------------------------------------------

    def subselect(self, node: Subquery | Path, head: Head = rows, **changes: Any) -> str:
        """Return the SELECT of *node*, a subquery or a path through collections, with *changes* of its `Selected`."""
        node = self._asked(node)
        self.shift, before = self.shift + node.shift, self.shift
        try:
            return write_select(self, node.selected.replace(**changes) if changes else node.selected, head)
        finally:
            self.shift = before

    def scalar(self, node: Subquery | Path) -> str:
        """Return the SELECT of the one value that *node* gives, in parentheses."""
        return self._collated(f"({self.subselect(node, _bare)})", kind_of(node))

    def aggregated(self, operator: str, node: Subquery | Path, *options: Any) -> str:
        """Return the SELECT of an aggregate over all values of *node*, in parentheses."""
        node = self._asked(node)
        selected = node.selected
        if isinstance(selected.result, tuple):  # of which there is no value; the rows themselves can be counted
            return self._count_rows(node)
        kind = kind_of(Operation(operator, selected.result, *options))
        if selected.is_sliced or selected.is_distinct or selected.is_grouped or _is_foreign(selected):
            value = self.dialect.quote("value")
            if operator == "count_distinct":
                operator, node = "count", Subquery(selected.replace(is_distinct=True), node.shift)
            inner = self.subselect(node, _named)
            computed: Operation[Any] = Operation(operator, Computed(selected.result, value), *options)
            return self._collated(f"(SELECT {bare(self.render(computed))} FROM ({inner}) AS rows)", kind)
        aggregate: Operation[Any] = Operation(operator, selected.result, *options)
        return self._collated(f"({self.subselect(node, _bare, result=aggregate, orderings=())})", kind)

    def _count_rows(self, node: Subquery) -> str:
        selected = node.selected
        if selected.is_sliced or selected.is_distinct or selected.is_grouped:
            return f"(SELECT count(*) FROM ({self.subselect(node, rows)}) AS rows)"
        return f"({self.subselect(node, _bare, result=Operation('count'), orderings=())})"

    def _collated(self, sql: str, kind: Kind) -> str:
        """Return a subquery, which loses the collation of what it selects on SQLite, with that of Decimals."""
        return collated(sql) if self.dialect.name == "sqlite" and kind.is_decimal else sql

    def exists(self, node: Subquery | Path) -> str:
        """Return the condition that *node* gives a row."""
        node = self._asked(node)
        probed = probing(node.selected)
        return f"EXISTS ({self.subselect(Subquery(probed, node.shift), probe_of(probed))})"

    def contained(self, node: Any, among: Subquery | Path, *, is_negated: bool = False) -> str:
        """Return the condition that *node* is (or is not) one of the values of *among*; NULLs do not count."""
        owner = owner_of(node, among)
        if owner is not None and not nullable((node, owner.operands[1])):
            return self._owned(owner, is_negated=is_negated)
        columns = self.columns_of(node)
        left = enclosed(columns[0], COMPARISON + 1) if len(columns) == 1 else f"({', '.join(columns)})"
        among = self._asked(among)
        selected = among.selected
        word = "NOT IN" if is_negated else "IN"
        if not kind_of(selected.result).nullable:
            return Sql(f"{left} {word} ({self.subselect(among, keys)})", COMPARISON)
        # One NULL, and NOT IN would be unknown for everything.
        if selected.is_sliced or selected.is_grouped:
            inner = self.subselect(among, _named)
            names = [self.dialect.quote(name) for name in _NAMES[: len(columns)]]
            present = f"SELECT {', '.join(names)} FROM ({inner}) AS rows WHERE {names[0]} IS NOT NULL"
        else:
            condition: Operation[bool] = Operation("<>", selected.result, None)
            present = self.subselect(among, keys, conditions=(*selected.conditions, condition))
        return Sql(f"{left} {word} ({present})", COMPARISON)

    def _asked(self, node: Subquery | Path | CollectionAttribute) -> Subquery:
        """Return *node*, a subquery, or as one a path through collections, or a collection that stands bare."""
        if isinstance(node, CollectionAttribute):
            node = Path(*self.step(node))
        return node if isinstance(node, Subquery) else Subquery(items_of(node))

    def _owned(self, owner: Operation[bool], *, is_negated: bool) -> str:
        """Return the condition *owner* of two references, of which the first may be NULL; it is never unknown."""
        left, right = owner.operands
        if not kind_of(left).nullable:
            return self.condition(Operation("not", owner) if is_negated else owner)
        pairs = list(zip(self.columns_of(left), self.columns_of(right), strict=True))
        if is_negated and len(pairs) == 1:
            ((one, other),) = pairs
            different = "IS NOT" if self.dialect.name == "sqlite" else "IS DISTINCT FROM"
            return Sql(f"{one} {different} {other}", COMPARISON)
        word = self.dialect.null_safe_equals
        same = joined("AND", [Sql(f"{one} {word} {other}", COMPARISON) for one, other in pairs], AND)
        return Sql(f"NOT ({same})", NOT) if is_negated else same


def _bare(compiler: Compiler, selected: Selected) -> list[str]:
    return [bare(text) for text in rows(compiler, selected)]


def _named(compiler: Compiler, selected: Selected) -> list[str]:
    """Select values or keys under names: "value", and "value2" for the second part of a key."""
    texts = keys(compiler, selected)
    return [f"{text} AS {compiler.dialect.quote(name)}" for text, name in zip(texts, _NAMES, strict=False)]


def _is_foreign(selected: Selected) -> bool:
    """Tell whether all variables of the result are of outer queries: SQL would take its aggregate for one of theirs."""
    own = {id(loop.variable) for loop in selected.fors}
    used = variables_in(selected.result)
    return bool(used) and all(id(variable) not in own for variable in used)


def _pairs(left: list[str], right: list[str]) -> str:
    return " AND ".join([f"{one} = {other}" for one, other in zip(left, right, strict=True)])


_NAMES = ("value", *[f"value{number}" for number in range(2, 20)])
_MARK = re.compile("\0(\\d+)\0")
