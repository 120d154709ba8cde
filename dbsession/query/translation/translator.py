"""Translation: from the source of a generator expression or lambda to the words of a query.

The translator knows syntax, not SQL: it makes the same `Operation` of ``a + b`` whatever the two are,
and `kinds` says at once whether that has a meaning. What uses no loop variable is *outside*: Python
evaluates it, in the order in which the translation comes to it, so that ``limit is None or u.age >
limit.years`` is short-circuited as in Python. See `memory` for what is remembered of all this.

The visitors of the kinds of nodes stand in `visitors`, `loops` (generators), `functions` (calls) and
`inlining` (functions and properties of the user's).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from operator import itemgetter
from types import ModuleType
from typing import Any

from dbsession.errors import TranslationError
from dbsession.model.attributes import Attribute, ValueAttribute
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Operation, plain_expression
from dbsession.query import operators, taking
from dbsession.query.arguments import bound
from dbsession.query.kinds import is_condition, is_value, kind_of, value_of
from dbsession.query.selected import For, Selected, has_aggregate
from dbsession.query.taking import How
from dbsession.query.translation import functions, inlining, loops, methods, visitors
from dbsession.query.translation.memory import (
    Question,
    Run,
)
from dbsession.query.translation.names import (
    COMPREHENSIONS,
    Evaluate,
    Scope,
    evaluator,
    free_names,
    names_bound_in,
)
from dbsession.query.translation.source import place, segment
from dbsession.query.tree import AGGREGATES, Path, RawSql, Slot, Subquery, Variable, is_many
from dbsession.query.values import traveller

__all__ = ["Translator"]

_CHANGING = (ast.Call, ast.Lambda, *COMPREHENSIONS)  # another object each time
_REFUSED = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
assert operators.OPERATORS  # they enter what `kinds` knows


class Translator:
    """One translation: it asks for values from outside, and hands out the slots for them.

    *first_slot*: the number of values that the query has already.
    """

    def __init__(self, run: Run, asked: int, first_slot: int) -> None:
        self._run = run
        self._asked = 0
        self._answered = asked  # answers that a look into the memory has left
        self._next_slot = first_slot
        self._slots: dict[int, Slot] = {}
        self.picks: list[tuple[int, bool]] = []
        self._known: dict[Any, int] = {}
        self._kept: list[Any] = []  # whose identities are keys of `_known`
        self._own: list[Selected] = []
        self.inlined: list[Any] = []  # the functions that are being inlined, from the outside in

    # --- asking -------------------------------------------------------------------------------

    def ask(self, evaluate: Evaluate, how: How) -> int:
        """Return the number of the answer that *evaluate* gives, taken as *how* takes it."""
        number = self._asked
        self._asked += 1
        if number >= self._answered:
            self._run.ask(Question(evaluate, how))
        return number

    def answer(self, number: int) -> Any:
        """Return an answer."""
        return self._run.answers[number]

    def ask_for(self, node: ast.expr, scope: Scope, how: How) -> int:
        """Return the number of the answer for *node*, which is outside; the same one if it was asked for before."""
        if isinstance(node, ast.Name):
            key: Any = (node.id, id(scope.frame), scope.outside.get(node.id), how)
        else:
            key = (id(node), id(scope.frame), tuple(scope.outside.items()), how)
        number = self._known.get(key)
        if number is None:
            self._kept += [node, scope.frame]
            number = self._known[key] = self.ask(evaluator(node, scope), how)
        return number

    def ask_about(self, number: int, how: How, pick: Callable[[Any], Any] | None = None) -> int:
        """Return the number of the answer that takes an earlier one, or what *pick* picks from it, in another way."""
        if pick is None:
            return self.ask(lambda run: run.answers[number], how)
        return self.ask(lambda run: pick(run.answers[number]), how)

    def slot(self, number: int) -> Slot:
        """Return the slot for an answer."""
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = Slot(self._next_slot, taking.sample_of(self.answer(number)))
            self._next_slot += 1
            self.picks.append((number, False))
        return slot

    def subquery_of(self, number: int) -> Subquery:
        """Return the subquery for an answer that is a query."""
        query = self.answer(number)
        subquery = Subquery(query.selected, self._next_slot)
        self._next_slot += len(query.values)
        self.picks.append((number, True))
        return subquery

    # --- inside or outside --------------------------------------------------------------------

    def is_outside(self, node: ast.expr, scope: Scope) -> bool:
        """Tell whether *node* uses no loop variable, and nothing else that only the database can evaluate."""
        if not free_names(node).isdisjoint(scope.inside) or isinstance(node, ast.Starred):
            return False
        bound = frozenset().union(
            *[names_bound_in(each) for each in ast.walk(node) if isinstance(each, COMPREHENSIONS)]
        )
        for part in ast.walk(node):
            if isinstance(part, _REFUSED):
                return False
            if isinstance(part, COMPREHENSIONS):
                first: ast.expr | None = part.generators[0].iter
                if isinstance(first, ast.Call):
                    first = first.func.value if isinstance(first.func, ast.Attribute) else None
                if first is not None and not self._is_other(first, scope, bound):
                    return False
            elif isinstance(part, ast.Call) and functions.is_special(self, part, scope, bound):
                return False
        return True

    def _is_other(self, node: ast.expr, scope: Scope, bound: frozenset[str]) -> bool:
        if not isinstance(node, ast.Name | ast.Attribute) or not free_names(node).isdisjoint(bound):
            return True
        return not self.answer(self.ask_for(node, scope, taking.ours))

    def is_ours(self, node: ast.expr, scope: Scope) -> bool:
        """Tell whether *node*, which is outside, is an entity, a query or a collection."""
        return bool(self.answer(self.ask_for(node, scope, taking.ours)))

    # --- nodes --------------------------------------------------------------------------------

    def visit(self, node: ast.expr, scope: Scope) -> Any:
        """Return the expression that *node* stands for, as a value."""
        if self.is_outside(node, scope):
            return self.outside(node, scope)
        visitor = _VISITORS.get(type(node))
        if visitor is None:
            raise self.error(node, scope, visitors.why_not(node))
        return visitor(self, node, scope)

    def condition(self, node: ast.expr, scope: Scope) -> Any:
        """Return the condition that *node* stands for: a bool, where Python knows, or an expression."""
        if self.is_outside(node, scope):
            number = self.ask_for(node, scope, taking.truth)
            found = self.answer(number)
            return found if isinstance(found, bool) else self.as_condition(self.taken(number, node, scope), node, scope)
        visitor = _CONDITIONS.get(type(node))
        if visitor is not None:
            return visitor(self, node, scope)
        return self.as_condition(self.visit(node, scope), node, scope)

    def as_condition(self, found: Any, node: ast.expr, scope: Scope) -> Any:
        """Return whether *found*, which *node* stands for, is true, as Python has it."""
        if is_condition(found) or (isinstance(found, RawSql) and found.python in (None, bool)):
            return found
        if not isinstance(found, Expression):
            return bool(found)
        if isinstance(found, Operation) and found.operator == "if":
            simple = self._without_if(*found.operands, node=node, scope=scope)
            if simple is not None:
                return simple
        if is_many(found):
            return self.make("exists", found, node=node, scope=scope)
        if isinstance(found, Variable) or (isinstance(found, Path) and found.target is not None):
            return self.make("<>", found, None, node=node, scope=scope)
        return self.make("truth", found, node=node, scope=scope)

    def may_be_unknown(self, condition: Any) -> bool:
        """Tell whether a condition may be neither true nor false."""
        if isinstance(condition, Operation):
            if condition.operator in ("and", "or", "not"):
                return any(map(self.may_be_unknown, condition.operands))
            if condition.operator in ("=", "<>") and any(operand is None for operand in condition.operands):
                return False
        return isinstance(condition, Expression) and kind_of(condition).nullable

    def _without_if(self, test: Any, yes: Any, no: Any, *, node: ast.expr, scope: Scope) -> Any:
        """Return ``yes if test else no`` as a condition without the if, where one branch is known; else None."""
        if self.may_be_unknown(test):
            return None
        parts = [self.as_condition(part, node, scope) for part in (yes, no) if not isinstance(part, bool)]
        if len(parts) != 1:
            return None
        is_yes_known = isinstance(yes, bool)
        known = yes if is_yes_known else no
        chosen = test if is_yes_known is known else self.negated(test, node, scope)
        return self.joined("or" if known else "and", [chosen, *parts], node, scope)

    def outside(self, node: ast.expr, scope: Scope) -> Any:
        """Return what stands for *node*, which Python evaluates."""
        if isinstance(node, ast.Tuple) and not self.is_constant(node):
            return tuple([self.visit(element, scope) for element in node.elts])
        if self.is_constant(node):
            return evaluator(node, scope)(self._run)
        return self.taken(self.ask_for(node, scope, taking.plain), node, scope)

    def taken(self, number: int, node: ast.expr, scope: Scope) -> Any:
        """Return what stands for an answer, which *node* has given."""
        value = plain_expression(self.answer(number))
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, tuple):
            parts = [self.ask_about(number, taking.plain, itemgetter(index)) for index in range(len(value))]
            return tuple([self.taken(part, node, scope) for part in parts])
        if taking.is_query(value):
            return self.subquery_of(number)
        if isinstance(value, Collection):
            return loops.items_of_answer(self, number)
        if isinstance(value, Attribute | CollectionAttribute):
            raise self.error(
                node,
                scope,
                f"{value!r} is the attribute of the class, and here it has to be that of an object: write the loop "
                f"variable, as in {value.mapping.variable[0]}.{value.name} for {value.mapping.variable[0]} in "
                f"{value.mapping.name}",
            )
        if isinstance(value, Expression):
            if isinstance(node, ast.Compare | ast.BinOp | ast.UnaryOp | ast.BoolOp):
                raise self.error(
                    node, scope, "the attributes of a class are for the expression form; here write the loop variable"
                )
            if has_aggregate(value):
                raise self.error(
                    node,
                    scope,
                    "an aggregate of the attributes of a class has no rows of its own here; give it a generator, such "
                    "as max(x.age for x in User)",
                )
            return bound(value, lambda attribute: self._base_of(attribute, node, scope))
        if isinstance(value, type | ModuleType | Iterator) or callable(value):
            raise self.error(node, scope, f"it is {value!r:.60}, and no value that a database has")
        return self.slot(number)

    def _base_of(self, attribute: Any, node: ast.expr, scope: Scope) -> Path | Variable:
        """Return what a bare attribute in an expression from outside is of: the first variable over its table."""
        for base in scope.inside.values():
            mapping = None if self.is_many(base) else visitors.entity_of(base)
            if mapping is not None and mapping.root is attribute.mapping.root:
                return base  # type: ignore[no-any-return]
        raise self.error(
            node,
            scope,
            f"it speaks of {attribute!r}, and no loop variable here is a {attribute.mapping.name}; write the "
            f"condition with the loop variables",
        )

    def is_many(self, found: Any) -> bool:
        """Tell whether *found* has any number of values, or of rows."""
        if isinstance(found, Subquery):
            items = found.selected.items
            return len(items) != 1 or not has_aggregate(items[0])
        return isinstance(found, Path) and found.is_many

    def require_one(self, found: Any, node: ast.AST, scope: Scope) -> None:
        """Refuse what has many values where one is wanted."""
        if isinstance(found, tuple):
            raise self.error(node, scope, "a tuple can be compared with a tuple, and looked for with in, and no more")
        if self.is_many(found):
            raise self.error(
                node,
                scope,
                "a collection or query has many values, and here one is wanted: take sum(), max(), count() of them, "
                "look for one with in, or ask with exists(x for x in ... if ...)",
            )

    def joined(self, operator: str, parts: list[Any], node: ast.AST, scope: Scope) -> Any:
        """Return conditions joined by "and" or "or"; what Python knows of them is left out."""
        decisive = operator == "or"
        if any(part is decisive for part in parts):
            return decisive
        rest: list[Any] = []
        for part in parts:
            if isinstance(part, Operation) and part.operator == operator:
                rest += part.operands
            elif not isinstance(part, bool):
                rest.append(part)
        if not rest:
            return not decisive
        return rest[0] if len(rest) == 1 else self.make(operator, *rest, node=node, scope=scope)

    def conjuncts(self, condition: Any) -> tuple[Any, ...]:
        """Return the conditions that *condition* puts together by "and"; none if it is true."""
        if isinstance(condition, Operation) and condition.operator == "and":
            return condition.operands
        return () if condition is True else (condition,)

    def negated(self, condition: Any, node: ast.AST, scope: Scope) -> Any:
        """Return the opposite of a condition."""
        return not condition if isinstance(condition, bool) else self.make("not", condition, node=node, scope=scope)

    def as_text(self, found: Any, node: ast.AST, scope: Scope) -> Any:
        """Return ``str(found)``."""
        return found if kind_of(found).is_text else self.make("str", found, node=node, scope=scope)

    def make(self, operator: str, *operands: Any, node: ast.AST, scope: Scope) -> Operation[Any]:
        """Return an operation.

        Raises:
            TranslationError: the operands do not fit.
        """
        operation: Operation[Any] = Operation(operator, *operands)
        if operator not in AGGREGATES and operator != "isinstance":
            among = operands[1] if operator == "in" and isinstance(operands[1], tuple) else ()
            for operand in (*operands[: 1 if operator == "in" else None], *among):
                self.require_one(operand, node, scope)
        if operator not in _OF_OBJECTS and any(map(_is_object, operands)):
            raise self.error(
                node,
                scope,
                "objects can be compared by == and looked for with in, and no more; take an attribute of them",
            )
        try:
            kind_of(operation)
            if operator in _COMPARING:
                _try_values(operands)
        except TypeError as error:
            raise self.error(node, scope, str(error)) from None
        return operation

    def selected(
        self, fors: tuple[For, ...], result: Any, conditions: tuple[Any, ...], *, is_left: bool = False
    ) -> Selected:
        """Return a query of this translation."""
        return self.own(Selected(fors, result, conditions, is_left=is_left))

    def own(self, selected: Selected) -> Selected:
        """Note that the slots of *selected* are those of this translation."""
        self._own.append(selected)
        return selected

    def is_own(self, selected: Selected) -> bool:
        """Tell whether *selected* was made by this translation, rather than handed in."""
        return any(selected is known for known in self._own)

    def all_of(self, entity: type[EntityBase]) -> Subquery:
        """Return the subquery for all objects of *entity*."""
        variable = Variable.of(entity._mapping_)
        return Subquery(self.selected((For(variable),), variable, ()))

    def is_constant(self, node: ast.expr) -> bool:
        """Tell whether *node* is the same each time."""
        return not free_names(node) and not any(isinstance(part, _CHANGING) for part in ast.walk(node))

    def is_call_of_desc(self, node: ast.expr, scope: Scope) -> bool:
        """Tell whether *node* is ``desc(x)``."""
        return isinstance(node, ast.Call) and functions.is_call_of(self, node, scope, functions.descending)

    # What stands in other modules: they need each other, and meet here.

    generator = loops.generator
    collection_of = loops.collection_of
    items_of_path = loops.items_of_path
    attribute_of = visitors.attribute_of
    method = methods.method
    part = methods.part
    items_of = methods.items_of
    member = inlining.member
    method_of_object = inlining.method_of_object
    inline_answer = inlining.inline_answer
    inline_with = inlining.inline_with
    operators = operators.OPERATORS

    def error(self, node: ast.AST, scope: Scope, why: str) -> TranslationError:
        """Return the error for *node*, with its text and its line."""
        source = scope.frame.source
        return TranslationError(f"cannot translate `{segment(source, node)}` ({place(source, node)}): {why}")


# What objects may be operands of; what an aggregate says of them is better said by `kinds`.
_OF_OBJECTS = AGGREGATES | {"=", "<>", "in", "isinstance", "truth"}


def _is_object(node: Any) -> bool:
    return isinstance(node, Expression) and kind_of(node).is_object


_COMPARING = frozenset({"=", "<>", "<", "<=", ">", ">=", "between", "in"})


def _try_values(operands: tuple[Any, ...]) -> None:
    """Raise TypeError for a value that what it is compared with never has, while it is known where it stands."""
    listed = [part for operand in operands for part in (operand if isinstance(operand, tuple) else (operand,))]
    kinds = [kind_of(part) for part in listed if not is_value(part)]
    like = next((kind for kind in kinds if isinstance(kind.attribute, ValueAttribute)), None)
    if like is not None and like.attribute is not None:
        travel = traveller(like, like.attribute.mapping.dialect)
        for part in listed:
            value = value_of(part)
            if is_value(part) and not isinstance(value, EntityBase | tuple):
                travel(value)


_VISITORS: dict[type[ast.AST], Callable[[Any, Any, Scope], Any]] = {
    ast.Attribute: visitors.attribute,
    ast.BinOp: visitors.arithmetic,
    ast.BoolOp: visitors.chosen,
    ast.Call: functions.call,
    ast.Compare: visitors.comparison,
    ast.GeneratorExp: loops.subquery,
    ast.IfExp: visitors.conditional,
    ast.JoinedStr: visitors.f_string,
    ast.ListComp: loops.subquery,
    ast.Name: visitors.name,
    ast.SetComp: loops.subquery,
    ast.Subscript: visitors.subscript,
    ast.Tuple: visitors.tuple_of,
    ast.UnaryOp: visitors.unary,
}
_CONDITIONS: dict[type[ast.AST], Callable[[Any, Any, Scope], Any]] = {
    ast.BoolOp: visitors.both,
    ast.Compare: visitors.comparison,
    ast.IfExp: visitors.conditional_truth,
    ast.UnaryOp: visitors.negation,
}
