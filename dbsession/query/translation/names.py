"""Names in an expression: those of loop variables, and those from outside, which Python evaluates.

A sub-expression that uses no loop variable is Python's: its names are looked up where the code sees
them, in its closure, globals and builtins. A name alone is a lookup; what is larger is compiled once.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from dis import get_instructions
from types import CodeType, FrameType, FunctionType
from typing import Any, TypeAlias
from weakref import ref

from dbsession.errors import TranslationError
from dbsession.query.translation.memory import Names, Run
from dbsession.query.translation.source import Source, place, segment

__all__ = [
    "COMPREHENSIONS",
    "Evaluate",
    "Frame",
    "Scope",
    "assigned_in",
    "evaluator",
    "free_names",
    "mangled",
    "names_bound_in",
    "own_names",
]

Evaluate: TypeAlias = Callable[[Run], Any]

COMPREHENSIONS = (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)

_MISSING = object()


class Frame:
    """The code that an expression stands in, and where its names are looked up each time."""

    __slots__ = ("code", "names", "source")

    def __init__(self, code: CodeType, source: Source, names: Callable[[Run], Names]) -> None:
        self.code = code
        self.source = source
        self.names = names


class Scope:
    """What names mean at one place in an expression.

    *inside*: the loop variables, and what stands for them: nodes of the tree. *outside*: names of an
    inlined function whose values Python has computed, and which answers those are. *unassigned*: its
    variables that have no value yet.
    """

    __slots__ = ("frame", "inside", "outside", "unassigned")

    def __init__(
        self,
        frame: Frame,
        inside: dict[str, Any],
        outside: dict[str, int] | None = None,
        unassigned: frozenset[str] = frozenset(),
    ) -> None:
        self.frame = frame
        self.inside = inside
        self.outside = outside or {}
        self.unassigned = unassigned

    def with_inside(self, name: str, node: Any) -> Scope:
        """Return this with *name* standing for *node*."""
        outside = {known: number for known, number in self.outside.items() if known != name}
        return Scope(self.frame, {**self.inside, name: node}, outside, self.unassigned - {name})

    def with_outside(self, name: str, number: int) -> Scope:
        """Return this with *name* standing for what was answered as number *number*."""
        inside = {known: node for known, node in self.inside.items() if known != name}
        return Scope(self.frame, inside, {**self.outside, name: number}, self.unassigned - {name})

    def with_unassigned(self, names: frozenset[str]) -> Scope:
        """Return this with *names*, as far as they stand for nothing, as variables without a value."""
        return Scope(self.frame, self.inside, self.outside, names - self.inside.keys() - self.outside.keys())


# --- which names ------------------------------------------------------------------------------------------


def free_names(node: ast.AST) -> frozenset[str]:
    """Return the names that *node* takes from around it."""
    if isinstance(node, ast.Name):
        return frozenset((node.id,))
    if isinstance(node, COMPREHENSIONS):
        first, *rest = node.generators
        return free_names(first.iter) | (_inner(node, rest) - names_bound_in(node))
    if isinstance(node, ast.Lambda):
        given = node.args
        defaults = [*given.defaults, *[default for default in given.kw_defaults if default is not None]]
        return _all_free(defaults) | (free_names(node.body) - own_names(given))
    return _all_free(ast.iter_child_nodes(node))


def _inner(node: Any, rest: list[ast.comprehension]) -> frozenset[str]:
    parts: list[ast.AST] = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    return _all_free([*parts, *node.generators[0].ifs, *rest])


def _all_free(nodes: Any) -> frozenset[str]:
    return frozenset().union(*map(free_names, nodes))


def names_bound_in(node: ast.AST) -> frozenset[str]:
    """Return the names that the loops of the comprehension *node* bind."""
    targets = [clause.target for clause in node.generators]  # type: ignore[attr-defined]
    return frozenset(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def assigned_in(node: ast.AST) -> frozenset[str]:
    """Return the names that the statements in *node* assign, which are those of its own variables."""
    if isinstance(node, ast.Name):
        return frozenset((node.id,)) if isinstance(node.ctx, ast.Store) else frozenset()
    inner = (*COMPREHENSIONS, ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    parts = [part for part in ast.iter_child_nodes(node) if not isinstance(part, inner)]
    return frozenset().union(*map(assigned_in, parts))


def own_names(given: ast.arguments) -> frozenset[str]:
    """Return the names of the parameters *given*."""
    several = [parameter for parameter in (given.vararg, given.kwarg) if parameter is not None]
    return frozenset(parameter.arg for parameter in (*given.posonlyargs, *given.args, *given.kwonlyargs, *several))


# --- evaluating in Python ---------------------------------------------------------------------------------


def evaluator(node: ast.expr, scope: Scope, *, is_written: bool = False) -> Evaluate:
    """Return what computes the value of *node*, which uses no loop variable.

    *is_written*: it stands in a string, so Python's compiler has not seen it, and its names may be
    those of whoever makes the query.

    Raises:
        TranslationError: it uses a variable of a function that may have no value yet.
    """
    _require_assigned(node, scope)
    if isinstance(node, ast.Constant):
        value = node.value
        return lambda _: value
    if isinstance(node, ast.Name):
        return _name(mangled(node.id, scope.frame.code), scope, is_written=is_written)
    code = scope.frame.code
    handed = sorted(name for name in free_names(node) if is_written or name in scope.outside or _is_cell(name, code))
    compiled = _compiled(node, handed, scope)
    lookups = [_name(mangled(name, code), scope, is_written=is_written) for name in handed]
    frame_names = scope.frame.names

    def evaluate(run: Run) -> Any:
        return FunctionType(compiled, frame_names(run).globals)(*[lookup(run) for lookup in lookups])

    return evaluate


def _require_assigned(node: ast.expr, scope: Scope) -> None:
    for name in sorted(free_names(node) & scope.unassigned):
        source = scope.frame.source
        raise TranslationError(
            f"cannot translate `{segment(source, node)}` ({place(source, node)}): {name} is a variable of the function "
            f"that has no value on one of the ways to here; assign it on each of them"
        )


def _is_cell(name: str, code: CodeType) -> bool:
    return mangled(name, code) in code.co_freevars


def _name(name: str, scope: Scope, *, is_written: bool = False) -> Evaluate:
    """Return what looks *name* up."""
    number = scope.outside.get(name)
    if number is not None:
        known = number
        return lambda run: run.answers[known]
    frame_names = scope.frame.names
    if name in scope.frame.code.co_freevars:

        def from_closure(run: Run) -> Any:
            value = frame_names(run).closure.get(name, _MISSING)
            if value is _MISSING:
                raise NameError(
                    f"cannot access free variable {name!r} where it is not associated with a value in enclosing scope"
                )
            return value

        return from_closure

    # What is remembered of a code object must not hold it: it is forgotten when that is gone.
    written_in = ref(scope.frame.code) if is_written and not _is_global(name, scope.frame.code) else None

    def from_globals(run: Run) -> Any:
        names = frame_names(run)
        code = None if written_in is None else written_in()
        value, is_known = (_MISSING, True) if code is None else _of_makers(name, code)
        if value is _MISSING:
            value = names.globals.get(name, _MISSING)
            if value is not _MISSING and not is_known:
                raise TranslationError(
                    f"cannot tell what {name!r} in the text of raw_sql() is: the function around it has returned, and "
                    f"Python keeps only those of its variables that the code mentions; mention {name} outside of the "
                    f"text, so that Python keeps it"
                )
        if value is _MISSING:
            value = names.builtins.get(name, _MISSING)
        if value is _MISSING:
            raise NameError(f"name {name!r} is not defined")
        return value

    return from_globals


def _is_global(name: str, code: CodeType) -> bool:
    """Tell whether Python's compiler has seen *name* in *code*, and found it to be no variable of a function."""
    return any(each.opname in ("LOAD_GLOBAL", "LOAD_NAME") and each.argval == name for each in get_instructions(code))


def _of_makers(name: str, code: CodeType) -> tuple[Any, bool]:
    """Return the local variable *name* of the functions that *code* stands in, and whether all of them still run."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if any(constant is code for constant in frame.f_code.co_consts):
            value = frame.f_locals.get(name, _MISSING)
            code = frame.f_code
            if value is not _MISSING or "<locals>" not in code.co_qualname:
                return value, True
        frame = frame.f_back
    return _MISSING, "<locals>" not in code.co_qualname


def _compiled(node: ast.expr, parameters: list[str], scope: Scope) -> CodeType:
    """Compile *node* as the body of a function with *parameters*; tracebacks show it where it stands."""
    if any(isinstance(part, ast.Attribute | ast.Name) and _is_private(_text(part)) for part in ast.walk(node)):
        node = _Mangler(scope.frame.code).visit(ast.parse(ast.unparse(node), mode="eval").body)
    given = ast.arguments(
        posonlyargs=[], args=[ast.arg(arg=name) for name in parameters], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    function = ast.fix_missing_locations(ast.Expression(ast.copy_location(ast.Lambda(args=given, body=node), node)))
    filename = scope.frame.source.filename
    compiled: Any = compile(function, filename, "eval", dont_inherit=True)
    return next(constant for constant in compiled.co_consts if isinstance(constant, CodeType))


# --- names like __this in a class -------------------------------------------------------------------------


def mangled(name: str, code: CodeType) -> str:
    """Return *name* as Python's compiler has it in *code*: ``__limit`` is ``_Shop__limit`` within a class."""
    if not _is_private(name):
        return name
    known = (*code.co_names, *code.co_freevars)
    return next((full for full in known if re.fullmatch(rf"_[^_].*?{re.escape(name)}", full)), name)


def _is_private(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def _text(node: ast.Attribute | ast.Name) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id


class _Mangler(ast.NodeTransformer):
    def __init__(self, code: CodeType) -> None:
        self.code = code

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.attr = mangled(node.attr, self.code)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = mangled(node.id, self.code)
        return node
