"""The sources of a package, and the rules of the house that are not about flows.

A rule is a function from a `Package` to a list of violations. `test_architecture.py` has the house as
data, and applies the rules to `dbsession` and to bad examples; `architecture_flows.py` has the rest.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

TYPE_PARAMETERS = {"TypeVar", "ParamSpec", "TypeVarTuple"}

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Room:
    """Modules that belong together, and the rooms they may import beside their own."""

    name: str
    purpose: str
    modules: tuple[str, ...]  # patterns of names below `dbsession`; the package itself is ""
    imports: tuple[str, ...]


# --- sources ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """A function or method, and where it stands."""

    module: Module
    node: FunctionNode
    qualname: str
    is_method: bool

    @property
    def name(self) -> str:
        """The full name, for functions that are not methods."""
        return f"{self.module.name}.{self.node.name}"

    @property
    def place(self) -> str:
        """The name in messages and tables."""
        return f"{self.module.name}:{self.qualname}"

    @property
    def parameters(self) -> list[ast.arg]:
        """The parameters, without ``*args`` and ``**kwargs``."""
        given = self.node.args
        return [*given.posonlyargs, *given.args, *given.kwonlyargs]

    @property
    def is_stub(self) -> bool:
        """Whether there is no code: the declaration of a Protocol, or an overload."""
        return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in self.node.body)

    def body(self) -> Iterator[ast.AST]:
        """Walk the function's own code, and not that of functions inside it."""
        return walk_own(self.node.body)


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    source: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.source)

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node above each node."""
        return {child: parent for parent in ast.walk(self.tree) for child in ast.iter_child_nodes(parent)}

    @cached_property
    def functions(self) -> list[Function]:
        """All functions, methods and inner functions."""
        return [
            Function(self, node, self.qualname(node), isinstance(self.parents[node], ast.ClassDef))
            for node in ast.walk(self.tree)
            if isinstance(node, FunctionNode)
        ]

    @cached_property
    def names(self) -> dict[str, str]:
        """What names mean in this module: what is imported or defined in it, but for methods."""
        names = {name: f"{self.name}.{name}" for name in self._defined()}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    names[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom):
                names |= {alias.asname or alias.name: f"{self.origin(node)}.{alias.name}" for alias in node.names}
        return names

    def _defined(self) -> Iterator[str]:
        yield from (function.node.name for function in self.functions if not function.is_method)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef):
                yield node.name
        for node in self.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            yield from (target.id for target in targets if isinstance(target, ast.Name))

    def origin(self, node: ast.ImportFrom) -> str:
        """Return the absolute name of what *node* imports from."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        parts = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*parts, *filter(None, [node.module])])

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the nodes around *node*, from the inside out."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def qualname(self, node: ast.AST) -> str:
        """Return the names of the classes and functions around *node*, and its own."""
        around = [node, *self.above(node)]
        names = [each.name for each in around if isinstance(each, (FunctionNode, ast.ClassDef))]
        return ".".join(reversed(names)) or "<module>"

    def dotted(self, node: ast.AST) -> str | None:
        """Return what a chain of names and attributes means, where it starts with a known name."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return f"{owner}.{node.attr}" if owner else None
        return None


@dataclass(frozen=True)
class Import:
    """An import of one module of the package by another."""

    module: Module
    node: ast.stmt
    target: str

    def __str__(self) -> str:
        return f"{self.module.name}:{self.node.lineno} imports {self.target}"

    @property
    def is_local(self) -> bool:
        """Whether it stands in a function."""
        return any(isinstance(node, FunctionNode) for node in self.module.above(self.node))

    @property
    def is_for_types(self) -> bool:
        """Whether it stands under ``if TYPE_CHECKING``."""
        tests = [node.test for node in self.module.above(self.node) if isinstance(node, ast.If)]
        return any(ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"} for test in tests)


@dataclass(frozen=True)
class Package:
    """The modules of a package, by name."""

    modules: Mapping[str, Module]

    @classmethod
    def read(cls, root: Path) -> Package:
        """Read the sources below *root*."""
        modules = {}
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules[name] = Module(name, path.read_text(encoding="utf-8"), is_package)
        return cls(modules)

    @classmethod
    def of(cls, sources: Mapping[str, str]) -> Package:
        """Make a package of a few lines each; names are below `dbsession`, "" is its ``__init__``."""
        names = {f"dbsession.{name}".rstrip("."): textwrap.dedent(text) for name, text in sources.items()}
        return cls({name: Module(name, text, name == "dbsession") for name, text in names.items()})

    @cached_property
    def functions(self) -> list[Function]:
        """The functions of all modules."""
        return [function for module in self.modules.values() for function in module.functions]

    @cached_property
    def imports(self) -> list[Import]:
        """Every import of a module of this package, wherever it stands."""
        return [found for module in self.modules.values() for found in self._imports_of(module)]

    def _imports_of(self, module: Module) -> Iterator[Import]:
        for node in ast.walk(module.tree):
            targets: list[str] = []
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                origin = module.origin(node)
                names = [f"{origin}.{alias.name}" for alias in node.names]
                targets = [name if name in self.modules else origin for name in names]
            if isinstance(node, ast.stmt):
                ours = [target for target in targets if target.partition(".")[0] == "dbsession"]
                yield from (Import(module, node, target) for target in dict.fromkeys(ours))

    def canonical(self, name: str) -> str:
        """Follow re-exports: return the name under which something was defined."""
        seen = set[str]()
        while name not in seen:
            seen.add(name)
            owner, _, attribute = name.rpartition(".")
            if owner in self.modules:
                name = self.modules[owner].names.get(attribute, name)
        return name


def walk_own(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Walk *nodes* without going into functions and classes."""
    stack = list(reversed(nodes))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (FunctionNode, ast.ClassDef, ast.Lambda)):
            stack.extend(ast.iter_child_nodes(node))


# --- rules: imports, sizes, exports -------------------------------------------------------------------


def room_of(name: str, rooms: Sequence[Room]) -> Room | None:
    """Return the room of the module *name*."""
    below = name.removeprefix("dbsession").removeprefix(".")
    return next((room for room in rooms if any(fnmatchcase(below, pattern) for pattern in room.modules)), None)


def check_rooms(package: Package, rooms: Sequence[Room]) -> list[str]:
    """Every module stands in a room."""
    return [f"{name} stands in no room" for name in package.modules if room_of(name, rooms) is None]


def check_imports(package: Package, rooms: Sequence[Room]) -> list[str]:
    """Modules import what their room may know."""
    found = []
    for each in package.imports:
        room, other = room_of(each.module.name, rooms), room_of(each.target, rooms)
        if room and other and other != room and other.name not in room.imports:
            found.append(f"{each}: {room.name} may not know {other.name}")
    return found


def check_circles(package: Package) -> list[str]:
    """No module needs itself, through whatever others, to be imported."""
    edges: dict[str, list[str]] = {name: [] for name in package.modules}
    for each in package.imports:
        if not each.is_for_types:
            edges[each.module.name].append(each.target)
    found, done = [], set[str]()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for target in edges.get(name, ()):
                visit(target, [*path, name])
            done.add(name)

    for name in edges:
        visit(name, [])
    return found


def check_local_imports(package: Package) -> list[str]:
    """No function imports a module of the package, by a statement or by a call."""
    found = [f"{each} inside a function" for each in package.imports if each.is_local]
    for module in package.modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                name = ast.unparse(node.args[0]) if node.args else ""
                if name.startswith(("'dbsession", "'.")):
                    found.append(f"{module.name}:{node.lineno} imports {name} by a call")
    return found


def check_sizes(package: Package, file_lines: int, function_lines: int) -> list[str]:
    """Files and functions keep to their sizes; decorators do not count, docstrings do."""
    lengths = {module.name: (len(module.source.splitlines()), file_lines) for module in package.modules.values()}
    for function in package.functions:
        length = (function.node.end_lineno or 0) - function.node.lineno + 1
        lengths[f"{function.place} (line {function.node.lineno})"] = (length, function_lines)
    return [f"{place}: {length} lines, of {most}" for place, (length, most) in lengths.items() if length > most]


def check_exports(package: Package) -> list[str]:
    """Where there is an ``__all__``, it has all public names that the module defines, and each once.

    It may have imported names as well; in an ``__init__`` it has all of them. What ``import *`` brings is
    not known here: `test_architecture.py` looks at the names of `dbsession` as they are when it is imported.
    """
    found = []
    for module in package.modules.values():
        exported, defined, imported = exports(module)
        if exported is None:
            continue
        twice = sorted({name for name in exported if exported.count(name) > 1})
        missing = sorted((defined | imported if module.is_package else defined) - {*exported, "*"})
        unknown = sorted(set(exported) - defined - imported) if "*" not in imported else []
        problems = {"names twice": twice, "lacks": missing, "names what is not there": unknown}
        found += [f"{module.name}: __all__ {problem}: {names}" for problem, names in problems.items() if names]
    return found


def exports(module: Module) -> tuple[list[str] | None, set[str], set[str]]:
    """Return ``__all__``, the public names that *module* defines, and those that it imports."""
    exported: list[str] | None = None
    defined, imported = set[str](), set[str]()
    for node in walk_own(module.tree.body):
        names: list[str] = []
        if isinstance(node, (FunctionNode, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            maker = ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ""
            if "__all__" in names and node.value is not None:
                exported = list(ast.literal_eval(node.value))
            if maker.rpartition(".")[2] in TYPE_PARAMETERS:
                names = []
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            imported |= {alias.asname or alias.name for alias in node.names}
        defined |= {name for name in names if not name.startswith("_")}
    return exported, defined, {name for name in imported if not name.startswith("_")}
