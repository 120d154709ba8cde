"""Expressions: what ``User.age > 18`` evaluates to. They are values; the query room turns them into SQL.

They stand in this room, not in the query room, because attributes are their leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

if TYPE_CHECKING:
    from dbsession.model.mapping import Mapping

__all__ = [
    "Expression",
    "Operation",
    "Ordering",
    "Path",
    "ReferenceExpression",
    "desc",
    "leaves_its_row",
    "plain_expression",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Expression(Generic[T_co]):
    """Something that the database can evaluate for each row. Operators make larger expressions."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Operation[bool]:  # type: ignore[override]
        return Operation("=", self, other)

    def __ne__(self, other: object) -> Operation[bool]:  # type: ignore[override]
        return Operation("<>", self, other)

    def __lt__(self, other: Any) -> Operation[bool]:
        return Operation("<", self, other)

    def __le__(self, other: Any) -> Operation[bool]:
        return Operation("<=", self, other)

    def __gt__(self, other: Any) -> Operation[bool]:
        return Operation(">", self, other)

    def __ge__(self, other: Any) -> Operation[bool]:
        return Operation(">=", self, other)

    def __and__(self, other: Any) -> Operation[bool]:
        return Operation("and", self, other)

    def __or__(self, other: Any) -> Operation[bool]:
        return Operation("or", self, other)

    def __rand__(self, other: Any) -> Operation[bool]:
        return self._combined("and", "&", other)

    def __ror__(self, other: Any) -> Operation[bool]:
        return self._combined("or", "|", other)

    def _combined(self, operator: str, sign: str, other: Any) -> Operation[bool]:
        if isinstance(other, bool):
            return Operation(operator, other, self)
        raise TypeError(
            f"{other!r:.60} {sign} {self!r}: {sign} binds before comparisons; put these in parentheses, as in "
            f"(User.age > 18) {sign} (User.age < 65)"
        )

    def __invert__(self) -> Operation[bool]:
        return Operation("not", self)

    def __add__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("+", self, other)

    def __radd__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("+", other, self)

    def __sub__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("-", self, other)

    def __rsub__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("-", other, self)

    def __mul__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("*", self, other)

    def __rmul__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("*", other, self)

    def __truediv__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("/", self, other)

    def __rtruediv__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("/", other, self)

    def __floordiv__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("//", self, other)

    def __rfloordiv__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("//", other, self)

    def __mod__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("%", self, other)

    def __rmod__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("%", other, self)

    def __pow__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("**", self, other)

    def __rpow__(self: Expression[T], other: Any) -> Operation[T]:
        return Operation("**", other, self)

    def __abs__(self: Expression[T]) -> Operation[T]:
        return Operation("abs", self)

    @overload
    def __round__(self, ndigits: None = None) -> Operation[int]: ...

    @overload
    def __round__(self: Expression[T], ndigits: int) -> Operation[T]: ...

    def __round__(self, ndigits: int | None = None) -> Operation[Any]:
        return Operation("round", self) if ndigits is None else Operation("round", self, ndigits)

    def __neg__(self: Expression[T]) -> Operation[T]:
        return Operation("neg", self)

    def __getitem__(self, key: Any) -> Operation[Any]:
        """Look into a JSON document, ``User.data["a"][0]``, or cut a text, ``User.name[:3]``.

        Raises:
            TypeError: a slice has a step.
        """
        if not isinstance(key, slice):
            return Operation("item", self, key)
        if key.step is not None:
            raise TypeError("a slice with a step has no counterpart in the database")
        return Operation("slice", self, key.start, key.stop)

    def startswith(self, prefix: str) -> Operation[bool]:
        """Match text that begins with *prefix*, case and all."""
        return Operation("startswith", self, prefix)

    def endswith(self, suffix: str) -> Operation[bool]:
        """Match text that ends with *suffix*, case and all."""
        return Operation("endswith", self, suffix)

    def contains(self, part: str) -> Operation[bool]:
        """Match text that has *part* in it, case and all."""
        return Operation("contains", self, part)

    def strip(self, chars: str | None = None) -> Operation[str]:
        """Return the text without white space, or *chars*, at both ends."""
        return Operation("strip", self, chars)

    def lstrip(self, chars: str | None = None) -> Operation[str]:
        """Return the text without white space, or *chars*, at its beginning."""
        return Operation("lstrip", self, chars)

    def rstrip(self, chars: str | None = None) -> Operation[str]:
        """Return the text without white space, or *chars*, at its end."""
        return Operation("rstrip", self, chars)

    def lower(self) -> Operation[str]:
        """Return the text in lower case."""
        return Operation("lower", self)

    def upper(self) -> Operation[str]:
        """Return the text in upper case."""
        return Operation("upper", self)

    def in_(self, values: Iterable[Any]) -> Operation[bool]:
        """Match what equals one of *values*; None among them matches NULL.

        Raises:
            TypeError: *values* is one value, or a text, whose characters would be taken one by one.
        """
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise TypeError(f"in_() takes several values, not {values!r:.60}; give it a list")
        return Operation("in", self, tuple(map(plain_expression, values)))

    def not_in(self, values: Iterable[Any]) -> Operation[bool]:
        """Match what equals none of *values*, and is not NULL if None is among them.

        Raises:
            TypeError: *values* is one value, or a text.
        """
        return Operation("not", self.in_(values))

    def between(self, low: Any, high: Any) -> Operation[bool]:
        """Match what is neither below *low* nor above *high*."""
        return Operation("between", self, low, high)

    def is_null(self) -> Operation[bool]:
        """Match NULL; the same as ``== None``."""
        return Operation("=", self, None)

    def is_not_null(self) -> Operation[bool]:
        """Match what is not NULL; the same as ``!= None``."""
        return Operation("<>", self, None)

    def asc(self) -> Ordering:
        """Order by this, smallest first."""
        return Ordering(self, descending=False)

    def desc(self) -> Ordering:
        """Order by this, largest first."""
        return Ordering(self, descending=True)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "an expression has no truth value in Python: combine conditions with & | ~ (in parentheses) instead of "
            "and, or, not; write x.in_([...]) for in, and x.between(a, b) for a <= x <= b. A lambda takes all of "
            "these: User.select(lambda u: 18 <= u.age < 65)"
        )

    def __contains__(self, item: object) -> NoReturn:
        raise TypeError(
            f"`in` cannot ask the database about {self!r}: compare with {self!r}.in_([...]), or look into the "
            f"attribute of an object"
        )

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self!r}, of a class, cannot be iterated; iterate the attribute of an object")


class Operation(Expression[T_co]):
    """An operator with its operands; operands that are no expressions are values, sent as parameters."""

    __slots__ = ("known_kind", "operands", "operator")
    known_kind: Any  # what it evaluates to, once the query room has found that out

    def __init__(self, operator: str, *operands: Any) -> None:
        self.operator = operator
        self.operands = operands
        for operand in operands:
            if type(operand) is ReferenceExpression:
                self.operands = tuple(map(plain_expression, operands))
                break

    def __repr__(self) -> str:
        if self.operator[0].isalpha() or len(self.operands) != 2:
            return f"{self.operator}({', '.join(map(repr, self.operands))})"
        left, right = [f"({o!r})" if isinstance(o, Operation) else repr(o) for o in self.operands]
        return f"{left} {_PYTHONS.get(self.operator, self.operator)} {right}"


_PYTHONS = {"=": "==", "<>": "!="}


class Path(Expression[Any]):
    """An attribute of what *base* leads to: ``o.user.name``, ``u.orders.total``.

    *base* is a variable of a query, a `Path` to a reference or a collection, a bare reference attribute of
    the query's first variable (``Order.user``), or the slot of an object. Where a collection is passed
    on the way there are many values.
    """

    __slots__ = ("attribute", "base")

    def __init__(self, base: Any, attribute: Any) -> None:
        self.base = base
        self.attribute = plain_expression(attribute)

    def __repr__(self) -> str:
        return f"{self.base!r}.{self.attribute.name}"

    @property
    def target(self) -> Mapping | None:
        """The mapping of the objects that this leads to; None if it leads to plain values."""
        target: Mapping | None = getattr(self.attribute, "target", None)
        return target

    @property
    def is_many(self) -> bool:
        """Whether a collection is passed on the way, so that one object has any number of values."""
        is_many: bool = self.attribute.is_many or getattr(self.base, "is_many", False)
        return is_many


class ReferenceExpression(Expression[T_co]):
    """A reference or collection as its class shows it: ``Order.user``, and behind it ``Order.user.name``.

    It has no attributes but those of the entity that it leads to; what stands for it in a query is its
    `plain_expression`. Names of the methods of expressions (``desc``, ``in_``) are not looked up there: an attribute of
    such a name is reached by a lambda.
    """

    __slots__ = ("_plain_", "_target_")

    def __init__(self, plain: Any, target: Mapping) -> None:
        self._plain_ = plain
        self._target_ = target

    def __repr__(self) -> str:
        return repr(self._plain_)

    def __getattr__(self, name: str) -> Expression[Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        target = self._target_
        target.require_complete()
        member = target.member(name)
        if member is None:
            hint = "; ask with exists(), count(), sum() and their like" if self._plain_.is_many else ""
            raise AttributeError(
                f"{self!r} leads to {target.name}, which has no attribute {name!r}{hint}", name=name, obj=self
            )
        path = Path(self._plain_, member)
        return path if path.target is None else ReferenceExpression(path, path.target)


def plain_expression(node: Any) -> Any:
    """Return what stands for *node* in a query: a reference's attribute or path; anything else is itself."""
    return node._plain_ if type(node) is ReferenceExpression else node


def leaves_its_row(node: Any) -> bool:
    """Tell whether *node* looks at other rows than that of the object whose attributes stand in it."""
    if isinstance(node, Operation):
        return any(map(leaves_its_row, node.operands))
    return isinstance(node, Path | ReferenceExpression) or getattr(node, "is_many", False)


class Ordering:
    """An expression to order by, with its direction."""

    __slots__ = ("descending", "expression")

    def __init__(self, expression: Expression[Any], *, descending: bool) -> None:
        self.expression = plain_expression(expression)
        self.descending = descending

    def __repr__(self) -> str:
        return f"desc({self.expression!r})" if self.descending else repr(self.expression)


def desc(expression: Any) -> Ordering:
    """Order by *expression*, largest first: ``User.select().order_by(desc(User.age))``.

    Raises:
        TypeError: *expression* is not an attribute or expression.
    """
    if isinstance(expression, Ordering):
        return Ordering(expression.expression, descending=not expression.descending)
    if isinstance(expression, int):
        raise TypeError(f"desc() takes an attribute or an expression; a place has a sign: order_by({-expression})")
    if not isinstance(expression, Expression):
        raise TypeError(f"desc() takes an attribute or an expression, such as desc(User.age), not {expression!r}")
    return Ordering(expression, descending=True)
