"""Queries evaluated by loops: the rows of a generator expression, its groups, and the verbs that follow."""

from __future__ import annotations

import ast
from copy import copy
from functools import lru_cache
from itertools import groupby

from tests.differential.aggregates import AGGREGATES, aggregate
from tests.differential.schema import TABLES, attributes
from tests.differential.values import Undefined, order_key, token

__all__ = ["Group", "Loops", "is_aggregate"]

COLLECTIONS = {name for entity in TABLES for name in attributes(entity, "collections")}


class Group(dict):
    """The variables of the rows that make one row of the result: those of the first, and all of the `members`."""

    def __init__(self, members):
        super().__init__(members[0] if members else {})
        self.members = members


def is_aggregate(node):
    """Whether the call *node* is an aggregate of the rows of its own query, not of a collection or another query."""
    if not isinstance(node.func, ast.Name) or node.func.id not in AGGREGATES:
        return False
    if not node.args:
        return True
    first = node.args[0]
    if isinstance(first, ast.Call) and isinstance(first.func, ast.Name) and first.func.id == "distinct":
        return is_aggregate(ast.Call(node.func, first.args, []))
    if isinstance(first, ast.Name) and first.id == "q":  # a query that was made before
        return False
    if isinstance(first, ast.GeneratorExp) or (node.func.id in {"min", "max"} and len(node.args) > 1):
        return False
    if isinstance(first, ast.Call) and isinstance(first.func, ast.Name) and first.func.id == "select":
        return False
    while isinstance(first, ast.Attribute):
        if first.attr in COLLECTIONS:
            return False
        first = first.value
    return True


def parts_of(node):
    """Yield the parts of *node* that belong to its own query."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.GeneratorExp):
            yield from parts_of(child)


def has_aggregate(node):
    """Whether *node* needs the rows of its own query to be grouped."""
    return any(isinstance(part, ast.Call) and is_aggregate(part) for part in parts_of(node))


@lru_cache(10_000)
def has_loops(node):
    """Tell whether there is a query in *node*, or a lambda, which a query is narrowed by."""
    return any(isinstance(part, ast.GeneratorExp | ast.Lambda) for part in ast.walk(node))


@lru_cache(10_000)
def names_in(node):
    """Return the names that *node* uses, in queries within it too."""
    return frozenset(part.id for part in ast.walk(node) if isinstance(part, ast.Name))


class Loops:
    """The query of the generator expression *node*, and what verbs have made of it."""

    def __init__(self, evaluator, node, scope):
        self.evaluator = evaluator
        self.scope = dict(scope)
        self.element = node.elt
        self.generators = node.generators
        self.variables = [generator.target.id for generator in node.generators]
        self.conditions = [condition for generator in node.generators for condition in generator.ifs]
        self.filters = []  # lambdas, and conditions in the expression form
        self.orderings = []  # of (node, descending)
        self.start, self.stop = 0, None
        self.is_distinct = False
        self.is_multiplied = False
        self.is_left = False
        self._chosen = None

    # --- rows -------------------------------------------------------------------------------------------

    def _combinations(self):
        """Return the variables of each run through the innermost loop."""
        scopes = [self.scope]
        for generator in self.generators:
            scopes = [
                {**scope, generator.target.id: item}
                for scope in scopes
                for item in self._items(generator.iter, scope) or [None] * self.is_left
            ]
        return scopes

    def _items(self, node, scope):
        if isinstance(node, ast.Name) and node.id in TABLES:
            return self.evaluator.world[node.id]
        iterated = self.evaluator.value(node, scope)
        return iterated.results() if isinstance(iterated, Loops) else iterated

    def _rows(self):
        """Return the scopes that the rows of the result are made of: one for a row, or a `Group`."""
        plain = [node for node in self.conditions if not has_aggregate(node)]
        having = [node for node in self.conditions if has_aggregate(node)]
        kept = []
        for scope in self._combinations():
            found = [self.evaluator.condition(node, scope) for node in plain]  # all: no database promises an order
            found += [self.evaluator.condition(*self._inner(node, scope)) for node in self.filters]
            if all(holds is True for holds in found):
                kept.append(scope)
        if not self.is_multiplied:
            kept = self._one_for_each(kept, self._used(having))
        if not having and not any(map(has_aggregate, self._items_of_result())):
            return kept
        keys = [
            item
            for item in self._items_of_result()
            if not has_aggregate(item) and not names_in(item).isdisjoint(self.variables)
        ]
        groups = {} if keys else {(): []}
        for scope in kept:
            key = token(tuple(self.evaluator.value(item, scope) for item in keys))
            groups.setdefault(key, []).append(scope)
        groups = [Group(members) for members in groups.values()]
        return [group for group in groups if all(self.evaluator.condition(node, group) for node in having)]

    def _inner(self, node, scope):
        """Return what *node*, an argument of a verb, evaluates, and with which names.

        A lambda calls the variables by their names, or the result by any other; in the expression form the
        entity's name stands for the object.
        """
        if isinstance(node, ast.Lambda):
            others = [argument.arg for argument in node.args.args if argument.arg not in self.variables]
            return node.body, {**scope, **{name: self.evaluator.value(self.element, scope) for name in others}}
        main = self.element.id if isinstance(self.element, ast.Name) else self.variables[0]
        return node, {**scope, **dict.fromkeys(names_in(node) & set(TABLES), scope[main])}

    def _used(self, having):
        """Return the variables of the result; ``count()`` counts the combinations of all, one loop is as in Python."""
        if len(self.variables) == 1:
            return set(self.variables)
        for node in [self.element, *having]:
            if any(isinstance(part, ast.Call) and is_aggregate(part) and not part.args for part in parts_of(node)):
                return set(self.variables)
        used = set().union(*map(names_in, [self.element, *having])) & set(self.variables)
        if used - set().union(*map(self._surely_in, [self.element, *having])):
            raise Undefined("whether a variable is used depends on a value from outside")
        return used

    def _surely_in(self, node):
        """Return the names in *node* without those in what Python may choose not to look at."""
        if isinstance(node, ast.Name):
            return {node.id}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"any", "all"}:
            return set()
        operands = []
        if isinstance(node, ast.IfExp):
            operands = [node.test]
        elif isinstance(node, ast.BoolOp):
            operands = node.values
        elif isinstance(node, ast.Compare) and len(node.ops) > 1:
            operands = [node.left, *node.comparators]
        if any(self.evaluator.is_external(operand, dict.fromkeys(self.variables)) for operand in operands):
            return set()
        return set().union(*map(self._surely_in, ast.iter_child_nodes(node)))

    def _one_for_each(self, scopes, names):
        """Keep one of the *scopes* that agree in the objects of *names*."""
        found = {}
        for scope in scopes:
            found.setdefault(tuple(scope[name] if name in names else None for name in self.variables), scope)
        return list(found.values())

    def _items_of_result(self):
        return self.element.elts if isinstance(self.element, ast.Tuple) else [self.element]

    # --- results ----------------------------------------------------------------------------------------

    def blocks(self):
        """Return the results in order, as lists of those between which the order leaves the choice."""
        found = []
        for scope in self._rows():
            value = self.evaluator.value(self.element, scope)
            found.append(([self._order_key(node, scope, value) for node, _ in self.orderings], value))
        if self.is_distinct:
            found = list({token(value): (keys, value) for keys, value in found}.values())
        for place in reversed(range(len(self.orderings))):
            found.sort(key=lambda pair: pair[0][place], reverse=self.orderings[place][1])
        return [[value for _, value in pairs] for _, pairs in groupby(found, key=lambda pair: pair[0])]

    def _order_key(self, node, scope, value):
        if isinstance(node, ast.Constant):
            found = value[node.value - 1] if isinstance(value, tuple) else value
        else:
            found = self.evaluator.value(*self._inner(node, scope))
        if isinstance(found, dict | list):
            raise Undefined("the order of documents")
        return order_key(found, nulls_first=self.evaluator.nulls_first)

    def chosen(self):
        """Return the blocks, and of each how many results are left of it by limit and offset."""
        if self._chosen is not None:
            return self._chosen
        found, place = [], 0
        for block in self.blocks():
            end = place + len(block)
            stop = end if self.stop is None else min(end, self.stop)
            found.append((block, max(0, stop - max(place, self.start))))
            place = end
        self._chosen = [(block, count) for block, count in found if count]
        return self._chosen

    def results(self):
        """Return the results.

        Raises:
            Undefined: the limit cuts where the order leaves the choice.
        """
        for block, count in self.chosen():
            if count < len(block) and len(set(map(token, block))) > 1:
                raise Undefined("the limit cuts among equals")
        return [value for block, count in self.chosen() for value in block[:count]]

    # --- verbs ------------------------------------------------------------------------------------------

    def _changed(self, **changes):
        other = copy(self)
        vars(other).update(changes, _chosen=None)
        return other

    def sliced(self, start, stop):
        """Return the query of the results from *start* to *stop*, within what this one is limited to."""
        begin = self.start + (start or 0)
        end = self.stop if stop is None else self.start + stop
        return self._changed(start=begin, stop=end if self.stop is None else min(end, self.stop))

    def left(self):
        """Return the query with None where a loop finds nothing."""
        return self._changed(is_left=True, is_multiplied=True)

    def distinct(self):
        """Return the query of different results."""
        return self._changed(is_distinct=True)

    def verb(self, node, scope):
        """Return what the method call *node* on this query gives."""
        name = node.func.attr
        if name in {"filter", "where"}:
            equal = [
                ast.Compare(ast.Attribute(self.element, given.arg), [ast.Eq()], [given.value])
                for given in node.keywords
            ]
            return self._changed(filters=[*self.filters, *node.args], conditions=[*self.conditions, *equal])
        if name == "order_by":
            return self._changed(orderings=list(map(_ordering, node.args)))
        arguments = [self.evaluator.value(argument, scope) for argument in node.args]
        if name == "distinct":
            return self.distinct()
        if name == "without_distinct":
            return self._changed(is_multiplied=True)
        if name == "limit":
            limit, offset = [*arguments, 0][:2]
            return self.sliced(offset, None if limit is None else offset + limit)
        if name == "page":
            number, size = [*arguments, 10][:2]
            return self.sliced((number - 1) * size, number * size)
        if name == "first" and not self.orderings:  # by the key, then
            return min(self.results(), key=lambda obj: obj.key, default=None)
        if name == "first":
            return next(iter(self.sliced(0, 1).results()), None)
        results = self.results()
        if name == "count":
            return len(results)
        if name == "exists":
            return bool(results)
        if name in AGGREGATES:
            return aggregate(name, results)
        return self  # fetch


def _ordering(node):
    """Return what an argument of order_by() orders by, and whether it is turned round."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "desc":
        return _ordering(node.args[0])[0], True
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        return node.operand, True
    if isinstance(node, ast.Lambda) and isinstance(node.body, ast.Call):
        inner, descending = _ordering(node.body)
        if descending:
            return ast.Lambda(node.args, inner), True
    return node, False
