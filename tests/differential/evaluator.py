"""Evaluates the source of a query in plain Python, over plain rows, with SQL's NULL rules.

It knows nothing of dbsession, of SQL, or of how the one becomes the other: it walks over the syntax
tree, and loops. The rules are those that docs/queries.md gives.
"""

from __future__ import annotations

import ast
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum

from tests.differential.aggregates import AGGREGATES, aggregate
from tests.differential.loops import Loops, has_loops, is_aggregate, names_in
from tests.differential.rows import Row
from tests.differential.schema import TABLES, attributes, lineage
from tests.differential.values import (
    Many,
    Undefined,
    Untyped,
    all_of,
    any_of,
    arithmetic,
    as_untyped,
    compare,
    negate,
    number,
    one_of,
    token,
    truth,
)

COLLECTIONS = {name for entity in TABLES for name in attributes(entity, "collections")}

# What the properties and methods of the entities are, as far as a query may use them.
INLINED = {
    "label": "lambda self: self.name + '/' + coalesce(self.email, '-')",
    "older_than": "lambda self, years: self.age > years",
}
INLINED = {name: ast.parse(text, mode="eval").body for name, text in INLINED.items()}

CONDITION_CALLS = {"all", "any", "exists", "isinstance", "between", "startswith", "endswith", "older_than"}


class Entity:
    """The name of an entity as a value: what a ``for`` ranges over, the second argument of isinstance()."""

    def __init__(self, name):
        self.name = name


class Evaluator:
    """Evaluates with the rows of *world* (see `rows.world`) and the *names* from outside the query."""

    def __init__(self, world, names, *, nulls_first):
        self.world = world
        self.names = {**{name: Entity(name) for name in TABLES}, **names}
        self.nulls_first = nulls_first
        self._known = {}  # queries, by their place in the text and what they use of the queries around them

    def run(self, text):
        """Return the outcome of the program *text*: a `Loops` for a query, or a value."""
        return self.value(ast.parse(text, mode="eval").body, {})

    # --- what kind of expression it is ------------------------------------------------------------------

    def is_external(self, node, scope):
        """Whether *node* has nothing of the query in it, so that Python evaluates it before the query is made."""
        return not has_loops(node) and names_in(node).isdisjoint(scope)

    def is_condition(self, node):
        """Whether *node* is true, false or unknown by its nature; anything else is a value with a truth value."""
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            return name in CONDITION_CALLS
        if isinstance(node, ast.BoolOp):
            return any(map(self.is_condition, node.values))
        if isinstance(node, ast.IfExp):
            return self.is_condition(node.body) or self.is_condition(node.orelse)
        return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))

    # --- expressions ------------------------------------------------------------------------------------

    def condition(self, node, scope):
        """Return whether *node* holds: True, False, or None for unknown."""
        if isinstance(node, ast.BoolOp):
            operands = [self.condition(operand, scope) for operand in node.values]
            return (all_of if isinstance(node.op, ast.And) else any_of)(operands)
        if isinstance(node, ast.IfExp) and self.is_condition(node):
            return self._choose(node, scope, self.condition)
        value = self.value(node, scope)
        return value if self.is_condition(node) else truth(value)

    def value(self, node, scope):
        """Return the value of *node*, with the variables in *scope*."""
        return getattr(self, f"_{type(node).__name__.lower()}")(node, scope)

    def _constant(self, node, scope):
        return node.value

    def _name(self, node, scope):
        return scope[node.id] if node.id in scope else self.names[node.id]

    def _tuple(self, node, scope):
        return tuple(self.value(item, scope) for item in node.elts)

    _list = _set = _tuple

    def _boolop(self, node, scope):
        if any(map(self.is_condition, node.values)):
            return self.condition(node, scope)
        return self._chosen(node, scope)

    def _chosen(self, node, scope):
        """Return what ``a or b`` gives as a value: the first that decides, as Python has it."""
        *operands, last = [self.value(operand, scope) for operand in node.values]
        decisive = isinstance(node.op, ast.Or)
        return next((value for value in operands if truth(value) is decisive), last)

    def _unaryop(self, node, scope):
        if isinstance(node.op, ast.Not):
            return negate(self.condition(node.operand, scope))
        value = self.value(node.operand, scope)
        return None if value is None else self._like(value, -value)

    @staticmethod
    def _like(value, found):
        return as_untyped(found) if type(value) is Untyped else found

    def _binop(self, node, scope):
        return arithmetic(type(node.op).__name__, self.value(node.left, scope), self.value(node.right, scope))

    def _ifexp(self, node, scope):
        return self._choose(node, scope, self.value)

    def _choose(self, node, scope, evaluate):
        chosen, other = evaluate(node.body, scope), evaluate(node.orelse, scope)
        return chosen if self.condition(node.test, scope) is True else other

    def _compare(self, node, scope):
        found, left = [], node.left
        for operation, right in zip(node.ops, node.comparators, strict=True):
            found.append(self._comparison(type(operation).__name__, left, right, scope))
            left = right
        return all_of(found)

    def _comparison(self, name, left, right, scope):
        if name in {"In", "NotIn"}:
            found = self._membership(left, right, scope)
            return found if name == "In" else negate(found)
        first, second = self.value(left, scope), self.value(right, scope)
        name = {"Is": "Eq", "IsNot": "NotEq"}.get(name, name)
        if name in {"Eq", "NotEq"}:  # None from outside asks for NULL
            for node, value, other in ((right, second, first), (left, first, second)):
                if value is None and self.is_external(node, scope):
                    return (other is None) == (name == "Eq")
        return compare(name, first, second)

    def _membership(self, left, right, scope):
        value, items = self.value(left, scope), self.value(right, scope)
        if isinstance(right, ast.Tuple | ast.List | ast.Set):
            found = [
                one_of(value, [item], listed=self.is_external(node, scope))
                for node, item in zip(right.elts, items, strict=True)
            ]
            return any_of(found)
        if isinstance(items, str):
            return None if value is None else value in items
        if items is None:
            return None
        if isinstance(items, Loops):
            return self._one_of_many(value, items.results())
        if isinstance(items, Entity):
            return one_of(value, self.world[items.name], listed=False)
        if isinstance(items, dict) or (isinstance(items, list) and not self.is_external(right, scope)):
            if isinstance(items, Many):
                return self._one_of_many(value, items)
            return None if value is None else value in items  # of a JSON document
        return one_of(value, items, listed=True)

    @staticmethod
    def _one_of_many(value, items):
        """Return whether *value* is one of the results of a query; NULLs among these are left out."""
        return one_of(value, [item for item in items if item is not None], listed=False)

    def _joinedstr(self, node, scope):
        texts = [
            part.value if isinstance(part, ast.Constant) else as_text(self.value(part.value, scope))
            for part in node.values
        ]
        return None if None in texts else "".join(texts)

    def _generatorexp(self, node, scope):
        key = (id(node), *(id(scope[name]) for name in sorted(names_in(node)) if name in scope))
        if key not in self._known:
            self._known[key] = Loops(self, node, scope)
        return self._known[key]

    # --- attributes and items ---------------------------------------------------------------------------

    def _attribute(self, node, scope):
        value = self.value(node.value, scope)
        if self.is_external(node, scope) and not isinstance(value, Row):
            return getattr(value, node.attr)
        return self.attribute(value, node.attr)

    def attribute(self, value, name):
        """Return the attribute *name* of *value*; NULL has none but empty collections."""
        if isinstance(value, Many):
            if name not in COLLECTIONS:
                return Many(self.attribute(item, name) for item in value)
            return Many(dict.fromkeys(found for item in value for found in self.attribute(item, name)))
        if name in COLLECTIONS:
            return Many(getattr(value, name, ()))
        if name in INLINED and isinstance(value, Row | None):
            return self.inlined(name, value, ())
        if value is None:
            return None
        if isinstance(value, Row):
            return getattr(value, name, None)  # NULL where only a subclass has it
        return getattr(value, name)

    def inlined(self, name, value, arguments):
        """Return what the property or the method *name* of an entity gives."""
        function = INLINED[name]
        variables = [argument.arg for argument in function.args.args]
        return self.value(function.body, dict(zip(variables, (value, *arguments), strict=True)))

    def _subscript(self, node, scope):
        value = self.value(node.value, scope)
        if isinstance(node.slice, ast.Slice):
            bounds = [
                None if part is None else self.value(part, scope) for part in (node.slice.lower, node.slice.upper)
            ]
            if isinstance(value, Loops):
                return value.sliced(*bounds)
            return None if value is None else value[slice(*bounds)]
        key = self.value(node.slice, scope)
        if value is None or key is None:
            return None
        if isinstance(value, str) and not -len(value) <= key < len(value):
            if self.is_external(node, scope):
                raise Undefined(f"character {key} of {value!r}, which Python evaluates")
            return ""
        try:
            return value[key]
        except (KeyError, IndexError, TypeError):
            return None  # a JSON document without it

    # --- calls ------------------------------------------------------------------------------------------

    def _call(self, node, scope):
        if isinstance(node.func, ast.Attribute):
            return self._method(node, scope)
        if isinstance(node.func, ast.Lambda):
            arguments = [self.value(argument, scope) for argument in node.args]
            self.names |= zip((argument.arg for argument in node.func.args.args), arguments, strict=True)
            return self.value(node.func.body, scope)
        name = node.func.id
        if is_aggregate(node):
            return self._aggregate_of_group(node, scope)
        if name in AGGREGATES and not (name in {"min", "max"} and len(node.args) > 1):
            return self._aggregate(node, scope)
        arguments = [self.value(argument, scope) for argument in node.args]
        return getattr(self, f"_call_{name}")(*arguments)

    def _aggregate(self, node, scope):
        """Return the aggregate of the values of a collection or of a query of its own."""
        items, *options = [self.value(argument, scope) for argument in node.args]
        values = items.results() if isinstance(items, Loops) else items
        if node.func.id == "count" and not scope:  # the whole program: how many results there are
            return len(values)
        return aggregate(node.func.id, values, *options)

    def _aggregate_of_group(self, node, scope):
        """Return the aggregate of the rows of the query, for the group that is in *scope*."""
        if not node.args:
            return len(scope.members)
        first, *options = node.args
        distinct = isinstance(first, ast.Call) and isinstance(first.func, ast.Name) and first.func.id == "distinct"
        first = first.args[0] if distinct else first
        values = [self.value(first, member) for member in scope.members]
        if distinct:
            values = list({token(value): value for value in values}.values())
        return aggregate(node.func.id, values, *[self.value(option, scope) for option in options])

    def _method(self, node, scope):
        value, name = self.value(node.func.value, scope), node.func.attr
        if isinstance(value, Entity):
            return self._of_class(value.name, name, node.args, scope)
        if isinstance(value, Loops):
            return value.verb(node, scope)
        arguments = [self.value(argument, scope) for argument in node.args]
        if isinstance(value, Row | None) and name in INLINED:
            return self.inlined(name, value, arguments)
        if name == "get":  # of a JSON document, which may not be there
            return self._of_document(value, *arguments)
        if value is None or None in arguments:
            return None
        return getattr(value, name)(*arguments)

    @staticmethod
    def _of_document(value, key, default=None):
        found = value.get(key) if isinstance(value, dict) else None
        return default if found is None else found

    def _of_class(self, entity, verb, arguments, scope):
        """Return what a verb of the class *entity* gives, whose argument may be a lambda."""
        variable = arguments[0].args.args[0].arg if arguments else "x"
        conditions = [argument.body for argument in arguments]
        clause = ast.comprehension(ast.Name(variable), ast.Name(entity), conditions, 0)
        query = Loops(self, ast.GeneratorExp(ast.Name(variable), [clause]), scope)
        return query if verb == "select" else getattr(self, f"_call_{verb}")(query)

    def _call_select(self, query):
        return query

    def _call_left_join(self, query):
        return query.left()

    def _call_get(self, query):
        found = query.results()
        if len(found) > 1:
            raise Undefined("more than one")
        return found[0] if found else None

    def _call_any(self, query):
        return any(map(truth, query.results()))

    def _call_all(self, query):
        return all(map(truth, query.results()))

    def _call_exists(self, items):
        return bool(items.results() if isinstance(items, Loops) else items)

    def _call_distinct(self, items):
        return items.distinct() if isinstance(items, Loops) else Many({token(item): item for item in items}.values())

    def _call_isinstance(self, value, entities):
        names = [entity.name for entity in (entities if isinstance(entities, tuple) else (entities,))]
        return value is not None and any(name in lineage(value.entity) for name in names)

    def _call_between(self, value, low, high):
        return all_of([compare("GtE", value, low), compare("LtE", value, high)])

    def _call_coalesce(self, *values):
        return next((value for value in values if value is not None), None)

    def _call_concat(self, *values):
        texts = list(map(as_text, values))
        return None if None in texts else "".join(texts)

    def _call_min(self, *values):
        return None if None in values else min(values)

    def _call_max(self, *values):
        return None if None in values else max(values)

    def _call_len(self, value):
        return None if value is None else len(value)

    def _call_abs(self, value):
        return None if value is None else self._like(value, abs(value))

    def _call_round(self, value, digits=None):
        if value is None:
            return None
        if abs(value) * 10 ** (digits or 0) % 1 * 2 == 1:
            raise Undefined(f"half of a digit: {value!r}")
        return self._like(value, round(value, digits))

    def _call_int(self, value):
        return None if value is None else number(int(value))

    def _call_float(self, value):
        return None if value is None else float(value)

    def _call_str(self, value):
        return as_text(value)

    # ... of values from outside

    _call_Decimal = staticmethod(Decimal)  # noqa: N815
    _call_date = staticmethod(date)
    _call_datetime = staticmethod(datetime)

    @staticmethod
    def _call_timedelta(days=0, seconds=0):
        return timedelta(days=days, seconds=seconds)


def as_text(value):
    """Return the text of *value*; that of NULL is NULL."""
    if isinstance(value, float | bool | Decimal | Enum):
        raise Undefined(f"the text of {value!r}")
    return None if value is None else str(value)
