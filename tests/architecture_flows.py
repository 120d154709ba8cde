"""The rules of flows, for which type checkers have no word: a flow that nobody runs is a lost write.

Flows are known by their annotation, ``-> Flow[...]``. Functions are found by where they were defined,
methods by the type of their object as far as annotations tell it (`architecture_types.py`), and by
their name alone where they do not: to be told apart there, annotate the object.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from tests.architecture import Function, Module, Package, walk_own
from tests.architecture_types import EXTERNAL, Class, Types

BATCH_YIELDING = "dbsession.backends.flow.execute"
FLOW_RUNNERS = {"dbsession.backends.flow.run", "dbsession.backends.flow.arun"}
# Where locks, clocks, sleep and ContextVars come from.
NOT_FOR_FLOWS = (
    "asyncio",
    "contextvars",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "threading",
    "time",
)


def is_flow(annotation: ast.expr | None) -> bool:
    """Whether *annotation* is a Flow, alone or in a union."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return is_flow(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.BinOp):
        return is_flow(annotation.left) or is_flow(annotation.right)
    text = ast.unparse(annotation) if annotation else ""
    return text.partition("[")[0].rpartition(".")[2] == "Flow" or text.startswith("Generator[Batch,")


def flow_parameters(function: Function) -> set[str]:
    """Return the parameters that are flows."""
    return {parameter.arg for parameter in function.parameters if is_flow(parameter.annotation)}


class Flows:
    """Which calls make a flow, and which functions take one.

    Makers are flow functions, and whatever is annotated ``Callable[..., Flow[...]]``: attributes,
    parameters and variables. Takers are functions with a parameter of type Flow. Where the type of an
    object is not known, the name of the method decides.
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        self.types = Types(package)
        methods = [function for function in package.functions if function.is_method]
        self._makers = {f.name for f in package.functions if is_flow(f.node.returns) and not f.is_method}
        self._takers = {f.name for f in package.functions if flow_parameters(f) and not f.is_method}
        self._making_methods = {f.node.name for f in methods if is_flow(f.node.returns)}
        self._taking_methods = {f.node.name for f in methods if flow_parameters(f)}
        self._aliases = set[str]()
        self._variables = set[tuple[str, str]]()  # module and name
        nodes = [(module, node) for module in package.modules.values() for node in ast.walk(module.tree)]
        for module, node in nodes:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and self._is_maker_type(module, node.value):
                self._aliases.add(f"{module.name}.{ast.unparse(target)}" if target else "")
        for module, node in nodes:
            if isinstance(node, (ast.AnnAssign, ast.arg)) and self._is_maker_type(module, node.annotation):
                name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
                self._variables.add((module.name, name))
                self._making_methods.add(name.rpartition(".")[2])

    def _is_maker_type(self, module: Module, annotation: ast.expr | None) -> bool:
        """Whether *annotation* is ``Callable[..., Flow[...]]``, or an alias of that."""
        if isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
            return ast.unparse(annotation.value).endswith("Callable") and is_flow(annotation.slice.elts[-1])
        return self.package.canonical(module.dotted(annotation) or "") in self._aliases if annotation else False

    def is_maker(self, module: Module, node: ast.expr) -> bool:
        """Whether calling *node* makes a flow."""
        if isinstance(node, ast.Name):
            return (module.name, node.id) in self._variables or self._named(module, node) in self._makers
        if not isinstance(node, ast.Attribute) or self._named(module, node) in self._makers:
            return isinstance(node, ast.Attribute)
        owner = self._owner(module, node)
        if not isinstance(owner, Class):
            return owner is None and node.attr in self._making_methods
        method, annotation = self.types.method(owner, node.attr), self.types.annotation(owner, node.attr)
        if method is not None:
            return is_flow(method.node.returns)
        return annotation is not None and self._is_maker_type(annotation.module, annotation.node)

    def is_taker(self, module: Module, node: ast.expr) -> bool:
        """Whether *node* is a function that takes a flow."""
        if self._named(module, node) in self._takers:
            return True
        owner = self._owner(module, node) if isinstance(node, ast.Attribute) else EXTERNAL
        if isinstance(owner, Class) and isinstance(node, ast.Attribute):
            method = self.types.method(owner, node.attr)
            return method is not None and bool(flow_parameters(method))
        return owner is None and getattr(node, "attr", None) in self._taking_methods

    def _named(self, module: Module, node: ast.expr) -> str:
        return self.package.canonical(module.dotted(node) or "")

    def _owner(self, module: Module, node: ast.Attribute) -> Class | str | None:
        """Return whose attribute *node* is; modules count as external, their functions are known by name."""
        name = self._named(module, node.value)
        return EXTERNAL if name in self.package.modules else self.types.owner(module, node.value)

    def fate(self, module: Module, flow: ast.AST) -> str:
        """Return what becomes of the value of *flow*: ``run``, ``dropped`` or ``passed on``."""
        node, parent = flow, module.parents[flow]
        while isinstance(parent, (ast.IfExp, ast.keyword)):
            node, parent = parent, module.parents[parent]
        if isinstance(parent, ast.YieldFrom):
            return "run"
        if isinstance(parent, ast.Call) and node is not parent.func and self.is_taker(module, parent.func):
            return "run"
        return "dropped" if isinstance(parent, ast.Expr) else "passed on"


def check_flow_calls(package: Package, passed_on: Mapping[str, str]) -> list[str]:
    """A flow is run where it is made: ``yield from flow()``, or ``taker(flow())``, such as run and arun.

    In the places of *passed_on* it may also be returned, assigned or handed on; dropped nowhere.
    """
    flows, found, used = Flows(package), [], set[str]()
    for module in package.modules.values():
        calls = {node.func: node for node in ast.walk(module.tree) if isinstance(node, ast.Call)}
        for node in ast.walk(module.tree):
            if not isinstance(node, (ast.Name, ast.Attribute)) or not isinstance(node.ctx, ast.Load):
                continue
            if not flows.is_maker(module, node):
                continue
            fate = flows.fate(module, calls[node]) if node in calls else "passed on"
            place = f"{module.name}:{module.qualname(node)}"
            if fate == "passed on" and place in passed_on:
                used.add(place)
            elif fate != "run":
                found.append(f"{place}, line {node.lineno}: {ast.unparse(node)} is {fate}, not run")
    return found + [f"{place} is listed, and passes no flow on" for place in passed_on if place not in used]


def check_flow_parameters(package: Package, passed_on: Mapping[str, str]) -> list[str]:
    """A function that takes a flow runs it."""
    flows, found = Flows(package), []
    for function in package.functions:
        if function.is_stub or function.name in FLOW_RUNNERS or function.place in passed_on:
            continue
        uses = [node for node in function.body() if isinstance(node, ast.Name)]
        run = {node.id for node in uses if flows.fate(function.module, node) == "run"}
        found += [f"{function.place} never runs {name}" for name in sorted(flow_parameters(function) - run)]
    return found


def check_flow_annotations(package: Package) -> list[str]:
    """A function that runs a flow with ``yield from`` is annotated as a flow."""
    flows, found = Flows(package), []
    for function in package.functions:
        values = [node.value for node in function.body() if isinstance(node, ast.YieldFrom)]
        for value in values:
            made = isinstance(value, ast.Call) and flows.is_maker(function.module, value.func)
            given = isinstance(value, ast.Name) and value.id in flow_parameters(function)
            if (made or given) and not is_flow(function.node.returns):
                found.append(f"{function.place} runs a flow, and is not annotated as one")
    return found


def flow_functions(package: Package) -> Iterator[Function]:
    """Yield the functions that are flows."""
    return (function for function in package.functions if is_flow(function.node.returns))


def check_bare_yields(package: Package) -> list[str]:
    """Only `execute` has a bare ``yield``."""
    return [
        f"{function.place}, line {node.lineno}: a bare yield"
        for function in flow_functions(package)
        for node in function.body()
        if isinstance(node, ast.Yield) and function.name != BATCH_YIELDING
    ]


def check_way_out(package: Package) -> list[str]:
    """No flow yields in ``finally``, or where it catches GeneratorExit, with which it is thrown away."""
    found = []
    for function in flow_functions(package):
        for node in function.body():
            blocks: list[ast.stmt] = []
            if isinstance(node, (ast.Try, ast.TryStar)):
                exits = [handler for handler in node.handlers if _catches_exit(handler)]
                blocks = [*node.finalbody, *(statement for handler in exits for statement in handler.body)]
            yields = [inner for inner in walk_own(blocks) if isinstance(inner, (ast.Yield, ast.YieldFrom))]
            found += [f"{function.place}, line {each.lineno}: yields on its way out" for each in yields]
    return found


def _catches_exit(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in {"BaseException", "GeneratorExit"} for kind in kinds)


def check_surroundings(package: Package) -> list[str]:
    """A flow takes no lock, reads no clock, never sleeps and never looks at a ContextVar."""
    found = []
    for function in flow_functions(package):
        for node in function.body():
            if isinstance(function.module.parents[node], ast.Attribute):
                continue  # the longer name tells more
            name = function.module.dotted(node) or ""
            last = getattr(node, "attr", getattr(node, "id", ""))
            if last == "sleep" or any(name == bad or name.startswith(f"{bad}.") for bad in NOT_FOR_FLOWS):
                found.append(f"{function.place}, line {getattr(node, 'lineno', 0)}: uses {name or last}")
            if isinstance(node, ast.withitem) and "lock" in ast.unparse(node.context_expr).rpartition(".")[2].lower():
                found.append(f"{function.place}: takes {ast.unparse(node.context_expr)}")
    return found
