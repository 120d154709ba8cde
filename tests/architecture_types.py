"""The type of an expression, as far as annotations tell: enough to know whose method is called.

The answer is a `Class` of the package, `EXTERNAL` for what is certainly none of ours, or None where it
cannot be told without a type checker.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tests.architecture import Function, FunctionNode, Module, Package, walk_own

EXTERNAL: Final = "external"
DEPTH = 12
WRAPPERS = {"Annotated", "ClassVar", "Final", "Optional", "Type", "type"}
UNTOLD = {"Any", "object", "TypeVar", "ParamSpec"}
FOREIGN = {"logging", "os", "psycopg", "psycopg_pool", "sqlite3"}  # what their functions return is theirs, too
MAPPINGS = {"dict", "defaultdict", "Mapping", "MutableMapping", "OrderedDict", "WeakValueDictionary"}
LITERALS = (
    *(ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Compare),
    *(ast.ListComp, ast.SetComp, ast.DictComp),
)


@dataclass
class Class:
    """A class of the package."""

    module: Module
    node: ast.ClassDef
    methods: dict[str, Function] = field(default_factory=dict)
    annotations: dict[str, ast.expr] = field(default_factory=dict)  # of attributes, in the class or on self
    values: dict[str, ast.expr] = field(default_factory=dict)  # self.name = value


@dataclass(frozen=True)
class Annotation:
    """A type as it is written somewhere."""

    module: Module
    node: ast.expr


Type: TypeAlias = Class | Annotation | str | None


def head(node: ast.expr) -> str:
    """Return the last name of a type, without its arguments."""
    node = node.value if isinstance(node, ast.Subscript) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def arguments(node: ast.expr) -> list[ast.expr]:
    """Return the arguments of a type."""
    if not isinstance(node, ast.Subscript):
        return []
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


def parsed(node: ast.expr) -> ast.expr:
    """Return the type that a string stands for."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return ast.parse(node.value, mode="eval").body
    return node


class Types:
    """What the annotations of a package tell about its expressions."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.classes: dict[str, Class] = {}
        self._functions = {function.name: function for function in package.functions if not function.is_method}
        for module in package.modules.values():
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ClassDef):
                    self.classes[f"{module.name}.{node.name}"] = self._read(module, node)

    def _read(self, module: Module, node: ast.ClassDef) -> Class:
        found = Class(module, node)
        for each in ast.walk(node):
            if isinstance(each, ast.AnnAssign):
                if isinstance(each.target, ast.Name) and module.parents[each] is node:
                    found.annotations[each.target.id] = each.annotation
                elif isinstance(each.target, ast.Attribute) and ast.unparse(each.target.value) == "self":
                    found.annotations[each.target.attr] = each.annotation
            elif isinstance(each, ast.Assign):
                for target in each.targets:
                    if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                        found.values.setdefault(target.attr, each.value)
        found.methods = {f.node.name: f for f in module.functions if module.parents[f.node] is node}
        return found

    # --- whose method is it -------------------------------------------------------------------------

    def owner(self, module: Module, node: ast.expr) -> Class | str | None:
        """Return the class that the value of *node* belongs to."""
        return self._settle(self._of(module, node, DEPTH), DEPTH)

    def lineage(self, owner: Class) -> list[Class]:
        """Return *owner* and its bases in the package."""
        found = [owner]
        for each in found:
            for base in each.node.bases:
                settled = self._settle(Annotation(each.module, base), DEPTH)
                if isinstance(settled, Class) and settled not in found:
                    found.append(settled)
        return found

    def method(self, owner: Class, name: str) -> Function | None:
        """Return the method *name* of *owner* or its bases."""
        return next((each.methods[name] for each in self.lineage(owner) if name in each.methods), None)

    def annotation(self, owner: Class, name: str) -> Annotation | None:
        """Return the annotation of the attribute *name* of *owner* or its bases."""
        found = [each for each in self.lineage(owner) if name in each.annotations]
        return Annotation(found[0].module, found[0].annotations[name]) if found else None

    # --- types as written -> classes ----------------------------------------------------------------

    def _settle(self, found: Type, depth: int) -> Class | str | None:
        if not isinstance(found, Annotation) or depth == 0:
            return None if isinstance(found, Annotation) else found
        module, node = found.module, parsed(found.node)
        if isinstance(node, ast.BinOp):
            sides = [self._settle(Annotation(module, side), depth - 1) for side in (node.left, node.right)]
            return next((side for side in sides if isinstance(side, Class)), None if None in sides else EXTERNAL)
        if head(node) in WRAPPERS and arguments(node):
            return self._settle(Annotation(module, arguments(node)[0]), depth - 1)
        if head(node) == "Self":
            around = [each for each in module.above(found.node) if isinstance(each, ast.ClassDef)]
            return self.classes[f"{module.name}.{around[0].name}"] if around else None
        if isinstance(node, ast.Constant):
            return EXTERNAL if node.value is None else None
        return self._named(module, node.value if isinstance(node, ast.Subscript) else node, depth)

    def _named(self, module: Module, node: ast.expr, depth: int) -> Class | str | None:
        name = module.dotted(node)
        if name is None:
            return (
                EXTERNAL
                if isinstance(node, ast.Name) and hasattr(builtins, node.id) and node.id not in UNTOLD
                else None
            )
        name = self.package.canonical(name)
        if name in self.classes:
            return self.classes[name]
        if name.partition(".")[0] != "dbsession":
            return None if name.rpartition(".")[2] in UNTOLD else EXTERNAL
        alias = self._variable(name)
        return self._settle(Annotation(*alias), depth - 1) if alias and not isinstance(alias[1], ast.Call) else None

    def _variable(self, name: str, *, annotation: bool = False) -> tuple[Module, ast.expr] | None:
        """Return the value (or annotation) of a variable of a module."""
        owner, _, attribute = name.rpartition(".")
        module = self.package.modules.get(owner)
        for node in module.tree.body if module else ():
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if module and any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
                found = getattr(node, "annotation" if annotation else "value", None)
                return (module, found) if isinstance(found, ast.expr) else None
        return None

    # --- expressions -> types -----------------------------------------------------------------------

    def _of(self, module: Module, node: ast.expr, depth: int) -> Type:
        if depth == 0:
            return None
        depth -= 1
        found: Type = None
        match node:
            case ast.Name():
                found = self._of_name(module, node, depth)
            case ast.Attribute():
                found = self._of_attribute(module, node, depth)
            case ast.Call():
                found = self._of_call(module, node, depth)
            case ast.YieldFrom(value=value):
                flow = self._of(module, value, depth)
                found = self._argument(flow, -1) if isinstance(flow, Annotation) and head(flow.node) == "Flow" else None
            case ast.Subscript(value=value):
                found = self._item(self._of(module, value, depth), -1)
            case ast.Await(value=value) | ast.NamedExpr(value=value):
                found = self._of(module, value, depth)
            case ast.IfExp(body=one, orelse=two):
                found = self._of(module, one, depth) or self._of(module, two, depth)
            case ast.BoolOp(values=values):
                told = [self._of(module, value, depth) for value in values]
                found = next((each for each in told if each is not None), None)
            case _ if isinstance(node, LITERALS):
                found = EXTERNAL
        return found

    def _argument(self, found: Type, index: int) -> Type:
        given = arguments(found.node) if isinstance(found, Annotation) else []
        return Annotation(found.module, given[index]) if isinstance(found, Annotation) and given else None

    def _item(self, container: Type, index: int) -> Type:
        """Return the type of an element: of a mapping, its key (0) or its value (-1)."""
        if not isinstance(container, Annotation):
            return None
        node = parsed(container.node)
        if head(node) in WRAPPERS:
            return self._item(self._argument(container, 0), index)
        return self._argument(Annotation(container.module, node), index if head(node) in MAPPINGS else 0)

    def _of_name(self, module: Module, node: ast.Name, depth: int) -> Type:
        for scope in (each for each in module.above(node) if isinstance(each, FunctionNode)):
            for position, parameter in enumerate([*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs]):
                if parameter.arg == node.id:
                    parent = module.parents[scope]
                    if position == 0 and isinstance(parent, ast.ClassDef):
                        return self.classes[f"{module.name}.{parent.name}"]
                    return Annotation(module, parameter.annotation) if parameter.annotation else None
            bound, found = self._of_local(module, scope, node.id, depth)
            if bound:
                return found
        name = module.dotted(node)
        if name is None:
            return None
        name = self.package.canonical(name)
        if name in self.classes:
            return self.classes[name]
        if name.partition(".")[0] != "dbsession":
            return EXTERNAL
        annotation, value = self._variable(name, annotation=True), self._variable(name)
        if annotation is not None:
            return Annotation(*annotation)
        return self._of(*value, depth) if value else None

    def _of_local(self, module: Module, scope: FunctionNode, name: str, depth: int) -> tuple[bool, Type]:
        """Return whether *name* is bound in *scope*, and the type of the first binding that tells."""
        bound = False
        for node in walk_own(scope.body):
            found: Type = None
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.withitem):
                targets = [node.optional_vars]
            is_target = any(isinstance(target, ast.Name) and target.id == name for target in targets)
            if isinstance(node, ast.AnnAssign) and is_target:
                return True, Annotation(module, node.annotation)
            if isinstance(node, (ast.Assign, ast.NamedExpr)) and is_target:
                found = self._of(module, node.value, depth)
            elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
                is_target, found = self._of_loop(module, node, name, depth)
            elif isinstance(node, ast.withitem) and is_target:
                owner = self._settle(self._of(module, node.context_expr, depth), depth)
                enter = self.method(owner, "__enter__") if isinstance(owner, Class) else None
                found = Annotation(enter.module, enter.node.returns) if enter and enter.node.returns else None
            bound = bound or is_target
            if found is not None and is_target:
                return True, found
        return bound, None

    def _of_loop(
        self, module: Module, node: ast.For | ast.AsyncFor | ast.comprehension, name: str, depth: int
    ) -> tuple[bool, Type]:
        names = [each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)]
        if name not in names:
            return False, None
        called = node.iter.func if isinstance(node.iter, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in {"values", "items", "keys"}:
            index = -1 if called.attr == "values" or (called.attr == "items" and names.index(name) > 0) else 0
            return True, self._item(self._of(module, called.value, depth), index)
        if isinstance(node.target, ast.Name):
            return True, self._item(self._of(module, node.iter, depth), 0)
        return True, None

    def _of_attribute(self, module: Module, node: ast.Attribute, depth: int) -> Type:
        name = module.dotted(node)
        if name is not None and self.package.canonical(name) in self.classes:
            return self.classes[self.package.canonical(name)]
        owner = self._settle(self._of(module, node.value, depth), depth)
        if not isinstance(owner, Class):
            return owner
        annotation = self.annotation(owner, node.attr)
        if annotation is not None:
            return annotation
        for each in self.lineage(owner):
            if node.attr in each.methods:  # a property
                method = each.methods[node.attr]
                return Annotation(method.module, method.node.returns) if method.node.returns else None
            if node.attr in each.values:
                return self._of(each.module, each.values[node.attr], depth)
        return None

    def _of_call(self, module: Module, node: ast.Call, depth: int) -> Type:
        name = self.package.canonical(module.dotted(node.func) or "")
        if name in self.classes:
            return self.classes[name]
        if name in self._functions:
            return self._returned(self._functions[name])
        if name.rpartition(".")[2] == "cast" and node.args:
            return Annotation(module, node.args[0])
        if name.partition(".")[0] in FOREIGN:
            return EXTERNAL
        if isinstance(node.func, ast.Name) and node.func.id == "super":
            around = [each for each in module.above(node) if isinstance(each, ast.ClassDef)]
            bases = self.lineage(self.classes[f"{module.name}.{around[0].name}"])[1:] if around else []
            return bases[0] if bases else EXTERNAL
        if isinstance(node.func, ast.Attribute):
            receiver = self._of(module, node.func.value, depth)
            owner = self._settle(receiver, depth)
            method = self.method(owner, node.func.attr) if isinstance(owner, Class) else None
            if method is not None:
                return self._returned(method)
            if node.func.attr in {"get", "pop", "popleft", "setdefault"}:
                return self._item(receiver, -1)
        return None

    def _returned(self, function: Function) -> Type:
        return Annotation(function.module, function.node.returns) if function.node.returns else None
