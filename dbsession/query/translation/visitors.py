"""What the kinds of nodes mean: operators, comparisons, attributes, texts.

Each visitor takes the translator, a node that is not outside, and its scope.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from operator import eq, ge, gt, le, lt, ne
from typing import TYPE_CHECKING, Any

from dbsession.model.collections import Collection
from dbsession.model.expressions import Expression, Operation
from dbsession.model.mapping import Mapping
from dbsession.model.registration import suggest
from dbsession.query import taking
from dbsession.query.kinds import is_condition, kind_of
from dbsession.query.selected import Selected
from dbsession.query.translation.copies import copied, may_merge
from dbsession.query.translation.names import Scope
from dbsession.query.tree import Path, Subquery, Variable, is_many

if TYPE_CHECKING:
    from dbsession.query.translation.translator import Translator

__all__ = [
    "arithmetic",
    "attribute",
    "attribute_of",
    "both",
    "chosen",
    "comparison",
    "conditional",
    "conditional_truth",
    "entity_of",
    "f_string",
    "name",
    "negation",
    "subscript",
    "tuple_of",
    "unary",
    "why_not",
]

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "=",
    ast.NotEq: "<>",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_PYTHON: dict[str, Callable[[Any, Any], Any]] = {"=": eq, "<>": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}


# --- and, or, not -----------------------------------------------------------------------------------------


def both(t: Translator, node: ast.BoolOp, scope: Scope) -> Any:
    """Translate ``a and b``, ``a or b`` as conditions; what follows a part that is decisive is not looked at."""
    operator = "or" if isinstance(node.op, ast.Or) else "and"
    parts: list[Any] = []
    for value in node.values:
        parts.append(t.condition(value, scope))
        if parts[-1] is (operator == "or"):
            break
    return t.joined(operator, parts, node, scope)


def chosen(t: Translator, node: ast.BoolOp, scope: Scope) -> Any:
    """Translate ``a and b``, ``a or b`` as values: one of the two."""
    return _choose(t, node, node.values, scope)


def _choose(t: Translator, node: ast.BoolOp, values: list[ast.expr], scope: Scope) -> Any:
    first, rest = values[0], values[1:]
    if not rest:
        return t.visit(first, scope)
    is_or = isinstance(node.op, ast.Or)
    if t.is_outside(first, scope):
        return t.visit(first, scope) if t.condition(first, scope) is is_or else _choose(t, node, rest, scope)
    left = t.visit(first, scope)
    test = t.as_condition(left, first, scope)
    if isinstance(test, bool):
        return left if test is is_or else _choose(t, node, rest, scope)
    right = _choose(t, node, rest, scope)
    if _is_bool(left) and _is_bool(right):
        return t.joined("or" if is_or else "and", [test, t.as_condition(right, node, scope)], node, scope)
    yes, no = (left, right) if is_or else (right, left)
    return t.make("if", test, yes, no, node=node, scope=scope)


def _is_bool(found: Any) -> bool:
    return isinstance(found, bool) or is_condition(found) or kind_of(found).is_bool


def negation(t: Translator, node: ast.UnaryOp, scope: Scope) -> Any:
    """Translate ``not x``, or another operator with one operand, as a condition."""
    if isinstance(node.op, ast.Not):
        return t.negated(t.condition(node.operand, scope), node, scope)
    return t.as_condition(unary(t, node, scope), node, scope)


def unary(t: Translator, node: ast.UnaryOp, scope: Scope) -> Any:
    """Translate an operator with one operand."""
    if isinstance(node.op, ast.Not):
        return negation(t, node, scope)
    if isinstance(node.op, ast.Invert):
        raise t.error(node, scope, "~ is for the expression form, ~(User.age > 18); here write not")
    operand = t.visit(node.operand, scope)
    return operand if isinstance(node.op, ast.UAdd) else t.make("neg", operand, node=node, scope=scope)


# --- comparisons ------------------------------------------------------------------------------------------


def comparison(t: Translator, node: ast.Compare, scope: Scope) -> Any:
    """Translate ``a < b <= c``: each pair in turn, until Python knows one of them to be false."""
    operands = [node.left, *node.comparators]
    known: dict[int, Any] = {}

    def operand(place: int) -> Any:
        if place not in known:
            known[place] = t.visit(operands[place], scope)
        return known[place]

    parts: list[Any] = []
    for place, op in enumerate(node.ops):
        left, right = operands[place], operands[place + 1]
        pair = node if len(node.ops) == 1 else ast.copy_location(ast.Compare(left, [op], [right]), left)
        if len(node.ops) > 1 and t.is_outside(left, scope) and t.is_outside(right, scope):
            parts.append(t.condition(pair, scope))
        elif isinstance(op, ast.In | ast.NotIn):
            found = _member(t, left, right, pair, scope)
            parts.append(t.negated(found, pair, scope) if isinstance(op, ast.NotIn) else found)
        else:
            parts.append(_pair(t, op, operand(place), operand(place + 1), pair, scope))
        if parts[-1] is False:
            break
    return t.joined("and", parts, node, scope)


def _pair(t: Translator, op: ast.cmpop, left: Any, right: Any, node: ast.Compare, scope: Scope) -> Any:
    if isinstance(op, ast.Is | ast.IsNot):
        if left is not None and right is not None and not (kind_of(left).is_object and kind_of(right).is_object):
            raise t.error(node, scope, "`is` asks for None or for one and the same object; compare values with ==")
        operator = "=" if isinstance(op, ast.Is) else "<>"
    else:
        operator = _COMPARISONS[type(op)]
    if isinstance(left, tuple) or isinstance(right, tuple):
        return _pairwise(t, operator, left, right, node, scope)
    if not isinstance(left, Expression) and not isinstance(right, Expression):  # a branch that Python has chosen
        return bool(_PYTHON[operator](left, right))
    if operator not in ("=", "<>") and (left is None or right is None):
        raise t.error(
            node, scope, "None has no order; ask for it first, as in `least is None or u.age > least`, or leave it out"
        )
    return t.make(operator, left, right, node=node, scope=scope)


def _pairwise(t: Translator, operator: str, left: Any, right: Any, node: ast.Compare, scope: Scope) -> Any:
    """Translate ``(a, b) == (c, d)``."""
    if not (isinstance(left, tuple) and isinstance(right, tuple)) or operator not in ("=", "<>"):
        raise t.error(node, scope, "a tuple can be compared with a tuple by == and !=, and looked for with in")
    if len(left) != len(right):
        return operator == "<>"
    op: ast.cmpop = ast.Eq() if operator == "=" else ast.NotEq()
    parts = [_pair(t, op, one, other, node, scope) for one, other in zip(left, right, strict=True)]
    return t.joined("and" if operator == "=" else "or", parts, node, scope)


def _member(t: Translator, left: ast.expr, right: ast.expr, node: ast.Compare, scope: Scope) -> Any:
    """Translate ``x in y``, whatever y is: a text, a list, a collection, a query."""
    item = t.visit(left, scope)
    if not t.is_outside(right, scope):
        return _found_in(t, item, _elements(t, right, scope), node, scope)
    if t.is_constant(right):
        value = taking.items(t.outside(right, scope))[0]
        if not isinstance(value, str | bytes | tuple):
            raise t.error(node, scope, _NO_CONTAINER.format(value))
        return _found_in(t, item, value, node, scope)
    number = t.ask_for(right, scope, taking.items)
    value = t.answer(number)
    if isinstance(value, tuple):
        found = _rows(t, number, len(item), node, scope) if isinstance(item, tuple) else t.slot(number)
        return _found_in(t, item, found, node, scope)
    if taking.is_entity(value):
        return t.make("in", item, Subquery(Selected.of(value._mapping_)), node=node, scope=scope)
    if isinstance(value, Collection) and entity_of(item) is not None:
        return t.make("in", item, t.collection_of(number), node=node, scope=scope)
    if not isinstance(value, str | bytes | Expression | Collection) and not taking.is_query(value):
        raise t.error(node, scope, _NO_CONTAINER.format(value))
    return _found_in(t, item, t.taken(number, right, scope), node, scope)


_NO_CONTAINER = "`in` looks into texts, lists, queries and collections, and {!r:.60} is none"


def _found_in(t: Translator, item: Any, members: Any, node: ast.Compare, scope: Scope) -> Any:
    if isinstance(item, tuple) and isinstance(members, Subquery):
        return _row_in(t, item, members, node, scope)
    if isinstance(members, tuple) and isinstance(item, tuple):
        rows = [row for row in members if isinstance(row, tuple)]
        return t.joined("or", [_pairwise(t, "=", item, row, node, scope) for row in rows], node, scope)
    return t.make("in", item, members, node=node, scope=scope)


def _row_in(t: Translator, item: tuple[Any, ...], members: Subquery, node: ast.Compare, scope: Scope) -> Any:
    """Translate ``(a, b) in ((x.a, x.b) for x in ...)``: whether there is a row that is equal."""
    selected = members.selected
    if not may_merge(selected):
        raise t.error(
            node, scope, "a tuple cannot be looked for in a query that is aggregated, limited or made distinct"
        )
    if not t.is_own(selected):
        selected = copied(selected, members.shift, "")
    equal = _pairwise(t, "=", item, selected.result, node, scope)
    conditions = (*selected.conditions, *t.conjuncts(equal))
    found = selected.replace(result=selected.fors[0].variable, conditions=conditions, orderings=(), main=selected.bare)
    return t.make("exists", Subquery(t.own(found)), node=node, scope=scope)


def _elements(t: Translator, node: ast.expr, scope: Scope) -> Any:
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return tuple([t.visit(element, scope) for element in node.elts])
    return t.visit(node, scope)


def _rows(t: Translator, number: int, width: int, node: ast.Compare, scope: Scope) -> tuple[Any, ...]:
    """Return the slots for a list of tuples; those of another length are equal to nothing."""
    rows: list[Any] = []
    for place, row in enumerate(t.answer(number)):
        if isinstance(row, tuple) and len(row) == width:
            parts = [t.ask_about(number, taking.plain, _picker(place, part)) for part in range(width)]
            rows.append(tuple([t.taken(part, node, scope) for part in parts]))
    return tuple(rows)


def _picker(place: int, part: int) -> Callable[[Any], Any]:
    return lambda values: values[place][part]


# --- values -----------------------------------------------------------------------------------------------


def arithmetic(t: Translator, node: ast.BinOp, scope: Scope) -> Any:
    """Translate ``a + b``, whatever the two are."""
    operator = _ARITHMETIC.get(type(node.op))
    if operator is None:
        hint: dict[type[ast.operator], str] = {
            ast.BitAnd: "; combine conditions with and",
            ast.BitOr: "; combine conditions with or",
        }
        why = "this operator has no counterpart in the database" + hint.get(type(node.op), "")
        raise t.error(node, scope, why)
    left, right = t.visit(node.left, scope), t.visit(node.right, scope)
    if operator == "%" and kind_of(left).is_text:
        raise t.error(node, scope, 'texts are put together with an f-string, such as f"{u.name}!"')
    return t.make(operator, left, right, node=node, scope=scope)


def conditional(t: Translator, node: ast.IfExp, scope: Scope) -> Any:
    """Translate ``a if test else b``."""
    test = t.condition(node.test, scope)
    if isinstance(test, bool):
        return t.visit(node.body if test else node.orelse, scope)
    return t.make("if", test, t.visit(node.body, scope), t.visit(node.orelse, scope), node=node, scope=scope)


def conditional_truth(t: Translator, node: ast.IfExp, scope: Scope) -> Any:
    """Translate ``a if test else b`` as a condition, which it is if one of the two is one."""
    found = _branch(t, node, scope)
    return found if _is_logical(found) else t.as_condition(found, node, scope)


def _branch(t: Translator, node: ast.expr, scope: Scope) -> Any:
    """Return what stands for *node*, of which only the truth counts: branches need not be of one type."""
    if isinstance(node, ast.BoolOp):
        return t.condition(node, scope)
    if not isinstance(node, ast.IfExp) or t.is_outside(node, scope):
        found = t.visit(node, scope)
        return t.as_condition(found, node, scope) if t.is_many(found) else found
    test = t.condition(node.test, scope)
    if isinstance(test, bool):
        return _branch(t, node.body if test else node.orelse, scope)
    yes, no = _branch(t, node.body, scope), _branch(t, node.orelse, scope)
    if _is_logical(yes) or _is_logical(no) or kind_of(yes).python is not kind_of(no).python:
        yes = yes if _is_logical(yes) else t.as_condition(yes, node.body, scope)
        no = no if _is_logical(no) else t.as_condition(no, node.orelse, scope)
    return t.make("if", test, yes, no, node=node, scope=scope)


def _is_logical(found: Any) -> bool:
    """Tell whether *found* is true, false or unknown, as a condition is, or a choice of conditions."""
    if isinstance(found, Operation) and found.operator == "if":
        return all(map(_is_logical, found.operands[1:]))
    return isinstance(found, bool) or is_condition(found)


def f_string(t: Translator, node: ast.JoinedStr, scope: Scope) -> Any:
    """Translate an f-string: the texts of its parts, one behind the other."""
    parts: list[Any] = []
    for part in node.values:
        if t.is_outside(part, scope):
            whole = part if isinstance(part, ast.Constant) else ast.copy_location(ast.JoinedStr([part]), part)
            parts.append(t.outside(whole, scope))
            continue
        assert isinstance(part, ast.FormattedValue)
        if part.format_spec is not None:
            raise t.error(
                part,
                scope,
                "a format after the colon is Python's; format the result, or round() the number in the query",
            )
        if part.conversion not in (-1, ord("s")):
            raise t.error(part, scope, "!r and !a are Python's; leave them out")
        parts.append(t.as_text(t.visit(part.value, scope), part, scope))
    return parts[0] if len(parts) == 1 else t.make("concat", *parts, node=node, scope=scope)


def subscript(t: Translator, node: ast.Subscript, scope: Scope) -> Any:
    """Translate ``x[key]`` and ``x[start:stop]``."""
    base = t.visit(node.value, scope)
    if is_many(base):
        raise t.error(node, scope, "a collection has no places in the database; order the query, and slice that")
    key = node.slice
    if not isinstance(key, ast.Slice):
        return t.make("item", base, t.visit(key, scope), node=node, scope=scope)
    if key.step is not None:
        raise t.error(node, scope, "a slice with a step has no counterpart in the database")
    ends = [None if end is None else t.visit(end, scope) for end in (key.lower, key.upper)]
    return t.make("slice", base, *ends, node=node, scope=scope)


def tuple_of(t: Translator, node: ast.Tuple, scope: Scope) -> Any:
    """Translate a tuple: a tuple of expressions."""
    return tuple([t.visit(element, scope) for element in node.elts])


def name(_: Translator, node: ast.Name, scope: Scope) -> Any:
    """Return what a loop variable stands for."""
    return scope.inside[node.id]


# --- attributes -------------------------------------------------------------------------------------------


def attribute(t: Translator, node: ast.Attribute, scope: Scope) -> Any:
    """Translate ``x.name``."""
    return attribute_of(t, t.visit(node.value, scope), node.attr, node, scope)


def attribute_of(t: Translator, base: Any, name: str, node: ast.expr, scope: Scope) -> Any:
    """Return ``base.name``."""
    if isinstance(base, Subquery):
        selected = base.selected
        if base.shift or selected.is_sliced or selected.is_grouped or isinstance(selected.result, tuple):
            raise t.error(node, scope, f"take .{name} within the query, as in select(x.{name} for x in ...)")
        found = attribute_of(t, selected.result, name, node, scope)
        narrowed = selected.replace(result=found, main=selected.bare)
        return Subquery(t.own(narrowed) if t.is_own(selected) else narrowed)
    mapping = entity_of(base)
    if mapping is None:
        return t.part(base, name, node, scope)
    assert isinstance(base, Path | Variable)
    member = _member_of(mapping, name)
    if member is not None:
        return Path(base, member)
    found = t.member(base, mapping, name, node, scope)
    if found is not taking.NOTHING:
        return found
    known = [*mapping.attributes, *mapping.collections]
    raise t.error(node, scope, f"{mapping.name} has no attribute {name!r}{suggest(name, known)}")


def _member_of(mapping: Mapping, name: str) -> Any:
    """Return the attribute *name* of the entity, or else of a subclass, whose columns stand in the same table."""
    for member in mapping.family():
        found = member.member(name)
        if found is not None:
            return found
    return None


def entity_of(node: Any) -> Mapping | None:
    """Return the mapping of the objects that *node* stands for; None if it stands for plain values."""
    if isinstance(node, Variable):
        return node.mapping
    return node.target if isinstance(node, Path) else None


# --- which visitor ----------------------------------------------------------------------------------------


def why_not(node: ast.AST) -> str:
    """Say why *node* has no visitor, and what to write instead."""
    return _WHY_NOT.get(type(node), "this has no counterpart in the database; compute it before the query")


_WHY_NOT: dict[type[ast.AST], str] = {
    ast.NamedExpr: "a query assigns nothing; write the expression where it is used, or assign it before the query",
    ast.Await: "a query awaits nothing; await it before the query, and use the result",
    ast.Yield: "a query yields nothing",
    ast.YieldFrom: "a query yields nothing",
    ast.Lambda: "a lambda is no value; it can be given to select(), filter() and where()",
    ast.Starred: "what is unpacked must be known to Python; write the parts one by one",
    ast.Dict: "a dict of columns has no counterpart in the database; select a tuple, and make dicts of the rows",
    ast.DictComp: "a dict of columns has no counterpart in the database; select a tuple, and make dicts of the rows",
    ast.List: "a list of columns has no counterpart in the database; write a tuple",
    ast.Set: "a set of columns has no counterpart in the database; write a tuple",
}
