"""JSON: paths into documents, and their values compared and computed with by their own types.

Nobody knows before the row is read what a path leads to, so the operator decides: arithmetic takes
numbers, methods of texts take texts, and a value of another type is unknown, not an error. A key that
is missing is NULL, and so is JSON's null. True is not 1, and 5 is 5.0.

PostgreSQL has jsonb, which compares as values do. SQLite has texts: what they are equal to is known to
the collation ``dbs_json``, which every expression that is JSON carries with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dbsession.model.expressions import Expression, Operation
from dbsession.query.kinds import Kind, is_value, kind_of, value_of
from dbsession.query.operators.base import (
    AND,
    COMPARISON,
    CONCATENATION,
    NOT,
    OR,
    POSTFIX,
    PRIMARY,
    Operator,
    Sql,
    enclosed,
    joined,
    prepared,
)
from dbsession.query.operators.comparison import MIRRORED
from dbsession.query.operators.json_paths import (
    COLLATED,
    JSON,
    as_json,
    extracted,
    is_document,
    is_item,
    is_json,
    item_kind,
    key_text,
    plain,
)
from dbsession.query.operators.logic import as_filter
from dbsession.query.tree import Slot, is_many
from dbsession.query.values import traveller

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["fits", "overloads"]

_EMPTY = """('null', 'false', '0', '""', '[]', '{}')"""
_NUMERAL = "'^[-+]?[0-9]+([.][0-9]+)?(e[-+]?[0-9]+)?$'"


_Render = Callable[["Compiler", tuple[Any, ...]], str]


def fits(kinds: tuple[Kind, ...]) -> bool:
    """Tell whether an expression that is JSON is among the operands."""
    return any(map(is_document, kinds))


# --- comparing ------------------------------------------------------------------------------------------


_OPPOSITE = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def _comparison(operator: str) -> Operator:
    compare = _equality if operator in ("=", "<>") else _order
    return Operator(compare(operator), _condition_kind, is_condition=True, negated=compare(_OPPOSITE[operator]))


def _equality(operator: str) -> _Render:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        left, right = operands
        if is_value(left):
            left, right = right, left
        _check_value(right)
        if value_of(right) is None:
            return _is_null(compiler, left, is_negated=operator == "<>")
        first = enclosed(plain(as_json(compiler, left)), COMPARISON + 1)
        second = plain(as_json(compiler, right))
        if compiler.dialect.name == "sqlite":
            second = enclosed(second, POSTFIX) + COLLATED
        second = enclosed(second, COMPARISON + 1)
        return Sql(f"{first} {operator} {second}", COMPARISON)

    return render


def _is_null(compiler: Compiler, node: Any, *, is_negated: bool = False) -> str:
    """Return the condition that *node* is JSON's null, or not there at all."""
    found = extracted(compiler, node, as_text=True) if is_item(node) else plain(compiler.render(node))
    return Sql(f"{enclosed(found, COMPARISON + 1)} {'IS NOT NULL' if is_negated else 'IS NULL'}", COMPARISON)


def _check_value(node: Any) -> None:
    name = kind_of(node).name
    if is_value(node) and kind_of(node).is_decimal:
        raise TypeError(f"JSON holds Decimals as text, and {node!r} is {name}; compare with a float or a str")


def _condition_kind(_: tuple[Any, ...]) -> Kind:
    return Kind(bool)


def _order(operator: str) -> _Render:
    """Return a comparison of numbers with numbers and of texts with texts; everything else is unknown."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        left, right = operands
        wanted = _ordered_type(left, right) or _ordered_type(right, left)
        if compiler.dialect.name == "sqlite":
            first, second = [plain(_bare(compiler, operand)) for operand in operands]
            return Sql(f"dbs_json_order({first}, {second}) {operator} 0", COMPARISON)
        if wanted is not None:
            json = left if is_json(left) else right
            guard = f"jsonb_typeof({extracted(compiler, json)}) = '{wanted}'"
        else:
            guard = f"jsonb_typeof({extracted(compiler, left)}) = jsonb_typeof({extracted(compiler, right)})"
            guard += f" AND jsonb_typeof({extracted(compiler, left)}) IN ('number', 'string')"
        first = enclosed(_bare(compiler, left), COMPARISON + 1)
        second = enclosed(_bare(compiler, right), COMPARISON + 1)
        return f"CASE WHEN {guard} THEN {first} {operator} {second} END"

    return render


def _bare(compiler: Compiler, node: Any) -> str:
    """Return JSON where its null does no harm."""
    return extracted(compiler, node) if is_json(node) else as_json(compiler, node)


def _ordered_type(node: Any, other: Any) -> str | None:
    """Return the JSON type of what *node* is compared with, if it is known."""
    if is_json(node):
        return None
    kind = kind_of(node)
    if is_value(node) and value_of(node) is None:
        raise TypeError(f"None cannot be compared with {other!r} by < or >")
    if kind.is_number and not kind.is_decimal:
        return "number"
    if kind.is_text:
        return "string"
    raise TypeError(f"{other!r} is JSON, of which only numbers and texts have an order; {node!r} is {kind.name}")


def _between(general: Operator) -> Operator:
    """Return ``between``, made of two comparisons."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        value, low, high = operands
        return compiler.condition(Operation("and", Operation(">=", value, low), Operation("<=", value, high)))

    return general._replace(render=render, negated=None)


# --- in -------------------------------------------------------------------------------------------------


def _contained(compiler: Compiler, item: Any, container: Any) -> str:
    """Render whether *item* is a key of an object, an item of a list, or a part of a text."""
    if is_json(item):
        raise TypeError(
            f"{item!r} is JSON, as {container!r} is; say what it is: str({item!r}), int({item!r}), float({item!r})"
        )
    _check_value(item)
    if compiler.dialect.name == "sqlite":
        outer = plain(extracted(compiler, container))
        inner = "'null'" if value_of(item) is None else plain(as_json(compiler, item))
        return f"dbs_json_contains({outer}, {inner})"
    outer = enclosed(as_json(compiler, container), CONCATENATION)
    if kind_of(item).is_text:
        found = extracted(compiler, container)
        part = compiler.parameter_of(item, Kind(str), key_text) if is_value(item) else compiler.render(item)
        return (
            f"CASE WHEN jsonb_typeof({found}) = 'string' "
            f"THEN strpos({extracted(compiler, container, as_text=True)}, {part}) > 0 "
            f"ELSE {outer} ? {enclosed(part, CONCATENATION + 1)} END"
        )
    inner = "'null'" if value_of(item) is None else as_json(compiler, item)
    if kind_of(item).python in (dict, list):
        found = f"EXISTS (SELECT 1 FROM jsonb_array_elements({outer}) AS item WHERE item.value = {inner})"
        return f"CASE WHEN jsonb_typeof({outer}) = 'array' THEN {found} END"
    return Sql(f"jsonb_typeof({outer}) = 'array' AND {outer} @> {inner}", AND)


def _membership(general: Operator) -> Operator:
    """Return what ``in`` means: in a document, or for a JSON value among others."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        item, container = operands
        if isinstance(value_of(container), _LISTS):
            return _among(compiler, item, container)
        if is_many(container):
            kind = kind_of(container)
            if not is_document(kind):
                raise TypeError(
                    f"{item!r} is JSON, and the query that it is to be among gives {kind.name}; write str({item!r}), "
                    f"int({item!r}) or float({item!r})"
                )
            return general.render(compiler, (Operation("json", item), container))
        if is_json(container):
            return _contained(compiler, item, container)
        return general.render(compiler, (_as_text(item), container))

    return Operator(render, _condition_kind, is_condition=True)


_LISTS = (tuple, list, set, frozenset)
_WRITTEN_OUT = 100  # the longest list that is


def _among(compiler: Compiler, item: Any, container: Any) -> str:
    """Render whether JSON is one of listed values; None among them finds JSON's null and what is not there."""
    values = value_of(container)
    present = [value for value in values if value_of(value) is not None]
    parts: list[str] = []
    if present:
        left = enclosed(as_json(compiler, item), COMPARISON + 1)
        parts.append(Sql(f"{left} {_listed(compiler, container, present)}", COMPARISON))
    if len(present) < len(values):
        parts.append(_is_null(compiler, item))
    return joined("OR", parts, OR) if parts else Sql("1 = 0", COMPARISON)


def _listed(compiler: Compiler, container: Any, present: list[Any]) -> str:
    """Return IN with the values that are *present* in the list *container*; many of them travel as one parameter."""
    for value in present:
        _check_value(value)
    travel = traveller(JSON, compiler.dialect)

    def documents(values: Any) -> list[Any]:
        return [travel(value) for value in values if value is not None]

    if not isinstance(container, Slot) and any(isinstance(value, Expression) for value in present):
        return f"IN ({', '.join([plain(as_json(compiler, value)) for value in present])})"
    if len(present) <= _WRITTEN_OUT:
        return f"IN ({', '.join(compiler.listed(container, documents, len(present)))})"
    if compiler.dialect.name == "sqlite":
        mark = compiler.made_of(container, lambda values: travel(list(map(str, documents(values)))))
        return f"IN (SELECT value FROM json_each({mark}))"
    return f"= ANY({compiler.made_of(container, documents)}::jsonb[])"


def _containing(general: Operator) -> Operator:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        container, item = operands
        if is_json(container):
            return _contained(compiler, item, container)
        return general.render(compiler, (container, _as_text(item)))

    return general._replace(render=render, kind=_condition_kind, negated=None)


# --- taken for something else ---------------------------------------------------------------------------


def _taken(name: str) -> Callable[[Any], Any]:
    """Return what takes JSON for something else by the operator *name*, and leaves other operands alone."""
    return lambda node: Operation(name, node) if is_json(node) else node


_as_number, _as_text = _taken("json_number"), _taken("json_text")


def _as_json(node: Any) -> Any:
    return node if is_value(node) else Operation("json", node)


def _lifted(operator: Operator, take: Callable[[Any], Any]) -> Operator:
    """Return *operator* with what *take* makes of its operands."""
    return prepared(operator, lambda operands: tuple(map(take, operands)))


def _lifted_aggregate(name: str, operator: Operator, take: Callable[[Any], Any]) -> Operator:
    """Return the aggregate *operator* of what *take* makes of JSON; that of many rows is taken within their SELECT."""
    lifted = _lifted(operator, take)

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        if is_many(operands[0]):
            return compiler.aggregated(name, *operands)
        return lifted.render(compiler, operands)

    return lifted._replace(render=render)


def _number(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    if compiler.dialect.name == "sqlite":
        return f"dbs_json_number({extracted(compiler, operands[0])})"
    found = extracted(compiler, operands[0])
    return f"CASE WHEN jsonb_typeof({found}) = 'number' THEN {enclosed(found, PRIMARY)}::float8 END"


def _text(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    if compiler.dialect.name == "sqlite":
        return f"dbs_json_text({extracted(compiler, operands[0])})"
    guard = f"jsonb_typeof({extracted(compiler, operands[0])}) = 'string'"
    return f"CASE WHEN {guard} THEN {extracted(compiler, operands[0], as_text=True)} END"


def _str(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    if compiler.dialect.name == "sqlite":
        return f"dbs_json_str({extracted(compiler, operands[0])})"
    found = extracted(compiler, operands[0])
    text = extracted(compiler, operands[0], as_text=True)
    return f"CASE {found} WHEN 'true' THEN 'True' WHEN 'false' THEN 'False' ELSE {text} END"


def _converted(function: str, postgresql: str) -> Operator:
    """Return what makes a number of a number, and of a text that is written as one."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        if compiler.dialect.name == "sqlite":
            return f"{function}({extracted(compiler, operands[0])})"
        text = extracted(compiler, operands[0], as_text=True)
        return f"CASE WHEN {text} ~* {_NUMERAL} THEN {postgresql.format(enclosed(text, PRIMARY))} END"

    return Operator(render, lambda _: Kind(float if function == "dbs_json_float" else int))


def _length(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    if compiler.dialect.name == "sqlite":
        return f"dbs_json_len({extracted(compiler, operands[0])})"
    found = extracted(compiler, operands[0])
    return (
        f"CASE jsonb_typeof({found}) WHEN 'array' THEN jsonb_array_length({found}) "
        f"WHEN 'object' THEN (SELECT count(*)::int FROM jsonb_object_keys({found})) "
        f"WHEN 'string' THEN length({extracted(compiler, operands[0], as_text=True)}) END"
    )


def _truth(word: str, *, is_strict: bool) -> _Render:
    """Return what renders whether JSON is true (*word* is NOT IN) or false (IN); *is_strict*: never unknown."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        found = extracted(compiler, operands[0])
        if compiler.dialect.name == "sqlite":
            text = f"dbs_json_truth({found})"
            return Sql(f"NOT {text}", NOT) if word == "IN" else text
        text = f"coalesce({found}, 'null')" if is_strict else enclosed(found, COMPARISON + 1)
        return Sql(f"{text} {word} {_EMPTY}", COMPARISON)

    return render


def _truth_operator(*, is_strict: bool) -> Operator:
    return Operator(
        _truth("NOT IN", is_strict=is_strict),
        lambda _: Kind(bool, None, nullable=False),
        is_condition=True,
        negated=_truth("IN", is_strict=True),
    )


def _sum(general: Operator) -> Operator:
    """Return ``+``: of numbers or texts, whichever the other operand is."""

    def chosen(operands: tuple[Any, ...]) -> Operator:
        if all(map(is_json, operands)):
            left, right = operands
            raise TypeError(f"{left!r} + {right!r}: both are JSON; say what one is: float({left!r}) or str({left!r})")
        return _lifted(general, _as_text if any(kind_of(node).is_text for node in operands) else _as_number)

    return Operator(
        lambda compiler, operands: chosen(operands).render(compiler, operands),
        lambda operands: chosen(operands).kind(operands),
    )


def _refused(name: str) -> Operator:
    def refuse(operands: tuple[Any, ...]) -> Any:
        node = next(operand for operand in operands if is_json(operand))
        raise TypeError(
            f"{name}: {node!r} is JSON, and may be anything; write str({node!r}), int({node!r}) or float({node!r})"
        )

    return Operator(lambda _, operands: refuse(operands), refuse)


def _branch(compiler: Compiler, node: Any) -> str:
    return "NULL" if value_of(node) is None else plain(as_json(compiler, node))


def _if(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    """Render a conditional expression, whose branches all become JSON."""
    parts: list[str] = []
    otherwise: Any = Operation("if", *operands)
    while isinstance(otherwise, Operation) and otherwise.operator == "if":
        condition, then, otherwise = otherwise.operands
        parts.append(f"WHEN {compiler.condition(as_filter(condition))} THEN {_branch(compiler, then)}")
    if value_of(otherwise) is not None:
        parts.append(f"ELSE {_branch(compiler, otherwise)}")
    return f"CASE {' '.join(parts)} END"


def _coalesce(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    present = [operand for operand in operands if value_of(operand) is not None]
    texts = [plain(as_json(compiler, operand)) for operand in present]
    return f"coalesce({', '.join(texts)})" if len(texts) > 1 else texts[0]


def _collated(render: _Render) -> _Render:
    """Return *render* with the collation of JSON on SQLite."""

    def collated(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        text = render(compiler, operands)
        return Sql(f"{enclosed(text, POSTFIX)}{COLLATED}", POSTFIX) if compiler.dialect.name == "sqlite" else text

    return collated


_OPERATORS: dict[str, Operator] = {
    "item": Operator(lambda compiler, operands: as_json(compiler, Operation("item", *operands)), item_kind),
    "json": Operator(_collated(lambda compiler, operands: plain(as_json(compiler, operands[0]))), lambda _: JSON),
    "json_number": Operator(_number, lambda _: Kind(float)),
    "json_text": Operator(_text, lambda _: Kind(str)),
    "json_str": Operator(_str, lambda _: Kind(str)),
    "str": Operator(_str, lambda _: Kind(str)),
    "int": _converted("dbs_json_int", "trunc({}::numeric)::bigint"),
    "float": _converted("dbs_json_float", "{}::float8"),
    "len": Operator(_length, lambda _: Kind(int)),
    "truth": _truth_operator(is_strict=True),
    "holds": _truth_operator(is_strict=False),
    "isnull": Operator(
        lambda compiler, operands: _is_null(compiler, operands[0]),
        lambda _: Kind(bool, None, nullable=False),
        is_condition=True,
        negated=lambda compiler, operands: _is_null(compiler, operands[0], is_negated=True),
    ),
    "if": Operator(_collated(_if), lambda _: JSON),
    "coalesce": Operator(_collated(_coalesce), lambda _: JSON),
    **{operator: _comparison(operator) for operator in MIRRORED},
}

_TAKEN: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("-", "*", "/", "//", "%", "**", "neg", "abs", "round"), _as_number),
    **dict.fromkeys(("lower", "upper", "strip", "lstrip", "rstrip", "startswith", "endswith", "replace"), _as_text),
}
_AGGREGATES: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("sum", "avg"), _as_number),
    **dict.fromkeys(("count", "count_distinct"), _as_json),
}
_SPECIAL: Mapping[str, Callable[[Operator], Operator]] = {
    "+": _sum,
    "in": _membership,
    "contains": _containing,
    "between": _between,
}
_REFUSED = ("slice", "min", "max", "min2", "max2")


def overloads(general: Mapping[str, Operator]) -> dict[str, Operator]:
    """Return what operators mean where JSON is among their operands."""
    special = {name: make(general[name]) for name, make in _SPECIAL.items() if name in general}
    special |= {name: _lifted(general[name], take) for name, take in _TAKEN.items() if name in general}
    special |= {name: _lifted_aggregate(name, general[name], take) for name, take in _AGGREGATES.items()}
    special |= {name: _refused(f"{name}()") for name in _REFUSED if name in general}
    return special | _OPERATORS
