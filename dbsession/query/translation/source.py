"""The source of an expression: from a code object to its node in the syntax tree.

A generator expression, a lambda, or a function or property that is to be inlined is known by its code
object. This is what finds the text that it was compiled from: in files, in archives, in the cells of
IPython and Jupyter and at the prompt of Python 3.13, in doctests.

Nothing is believed. The statement in question is compiled again, with the same flags, and must contain
an *equal* code object: same instructions, constants, names, and positions. A file that was edited after
it was imported is so an error, and never gives another expression than the one that is running. Equal
positions do not tell which of several expressions of one line it is, since a code object does not know
where its expression begins; what tells is that it changes when, and only when, its own node is moved.
"""

from __future__ import annotations
import __future__

import ast
import linecache
import os
import re
import sys
import tokenize
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache, partial
from itertools import accumulate
from types import CodeType
from typing import Any, NamedTuple, TypeAlias
from weakref import ReferenceType, ref

from dbsession.errors import SourceNotFound

__all__ = ["Source", "SourceNode", "find_source", "place", "segment"]

SourceNode: TypeAlias = ast.GeneratorExp | ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef

# The flags of all ``from __future__ import ...``; they are bits.
_FUTURES = sum({getattr(__future__, feature).compiler_flag for feature in __future__.all_feature_names})

_FAR = 1_000_000  # lines, where nothing else stands
_ATTEMPTS = 100  # Python 3.11 counts the depths of the trees of all threads as one, and takes that for its own error
_LONGEST = 80  # characters of a sub-expression in a message
_KINDS = {"<lambda>": "lambda", "<genexpr>": "generator expression"}
_REMEDY = "write it in the form that needs no source, such as User.select(User.age > 18)"

# By identity: equal code objects of two files are equal to Python, which does not compare the file names.
_found: dict[int, tuple[ReferenceType[CodeType], Source]] = {}


class Source(NamedTuple):
    """Where an expression stands: its node, and the file or cell that it was compiled from."""

    node: SourceNode
    filename: str
    text: str


def find_source(code: CodeType) -> Source:
    """Return the node that *code* was compiled from; from the second time on, for a look into a dictionary.

    Raises:
        SourceNotFound: there is no source, or it is not that of the running code.
    """
    known = _found.get(id(code))
    if known is not None and known[0]() is code:
        return known[1]
    source = _look_for(code)
    key = id(code)
    return _found.setdefault(key, (ref(code, partial(_forget, _found, key)), source))[
        1
    ]  # of several threads, the first's


def _forget(found: dict[int, Any], key: int, gone: ReferenceType[CodeType]) -> None:
    known = found.get(key)  # when Python ends, the names of this module are gone before the code is
    if known is not None and known[0] is gone:
        del found[key]


def segment(source: Source, node: ast.AST) -> str:
    """Return the text of *node* in one line, shortened, for messages."""
    text = ast.get_source_segment(source.text, node) or ""
    for shown in (" ".join(text.split()), text):
        if "\n" not in shown and _means(shown, node):
            text = shown
            break
    else:  # on several lines with comments or strings, or in an f-string before Python 3.12
        text = " ".join([line.strip() for line in ast.unparse(node).split("\n")])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3].rstrip()}..."


def _means(text: str, node: ast.AST) -> bool:
    """Tell whether *text* is that of the expression *node*."""
    try:
        parsed: ast.AST = _parse(f"({text})", "<segment>", 0, mode="eval").body
    except SyntaxError:
        return False
    return ast.dump(parsed) == ast.dump(node)


def place(source: Source, node: ast.AST) -> str:
    """Return where *node* stands, for messages: ``orders.py, line 12``."""
    lines = (found.lineno for found in ast.walk(node) if isinstance(found, ast.expr | ast.stmt | ast.arg))
    return _place(source.filename, next(lines, source.node.lineno))


def _place(filename: str, line: int) -> str:
    return f"{os.path.basename(filename)}, line {line}"  # noqa: PTH119 (it may be a cell's name, and no path)


# --- looking for it ---------------------------------------------------------------------------------------


def _look_for(code: CodeType) -> Source:
    seen: list[str] = []
    for text in _texts(code):
        if text not in seen:
            node = _node_in(text, code)
            if node is not None:
                return Source(node, code.co_filename, _file(text, code.co_filename).text)
            seen.append(text)
    raise _not_found(code, has_text=bool(seen))


def _not_found(code: CodeType, *, has_text: bool) -> SourceNotFound:
    filename = code.co_filename
    what = _KINDS.get(code.co_name, f"function {code.co_name}()")
    what += f" at {_place(filename, code.co_firstlineno)}"
    if filename.startswith("<"):
        why = "it came from a string, a pipe, or a prompt that keeps no source"
    elif not has_text:
        why = f"{filename} is not there, or cannot be read"
    else:
        return SourceNotFound(
            f"{filename} has changed since it was imported: it does not contain the {what} as it is running. Start "
            f"the program again, or reload the module. Where that does not help, its __pycache__ was written by "
            f"another Python or with other options, or its code is changed while it is imported; {_REMEDY}"
        )
    return SourceNotFound(f"the {what} has no source to translate it from: {why}; {_REMEDY}, or put it into a file")


def _texts(code: CodeType) -> Iterator[str]:
    """Yield the texts that *code* may have been compiled from.

    What linecache has may be older than the file, and is then the more likely. It is not asked to read
    files, since it would keep them.
    """
    filename = code.co_filename
    if filename in linecache.cache:
        yield from _joined(linecache.getlines(filename))
    try:
        with tokenize.open(filename) as file:
            yield "".join(file)
    except (OSError, SyntaxError, ValueError):  # none; of no or of a wrong encoding
        yield from _of_loader(filename)
        # Of a doctest, which replaces this function; of a file that sys.path leads to.
        yield from _joined(linecache.getlines(filename))
        typed: Any = getattr(linecache, "_getlines_from_code", None)  # at the prompt since Python 3.13.1
        yield from _joined(typed(code) if typed else [])


def _joined(lines: list[str]) -> Iterator[str]:
    if lines:
        yield "".join(lines).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _of_loader(filename: str) -> Iterator[str]:
    """Yield what the module's loader says, which knows what is in archives."""
    for module in list(sys.modules.values()):
        names: dict[str, Any] = getattr(module, "__dict__", {})
        spec = names.get("__spec__")
        if names.get("__file__") == filename and hasattr(getattr(spec, "loader", None), "get_source"):
            try:
                text: str | None = spec.loader.get_source(spec.name)  # type: ignore[union-attr]
            except (ImportError, OSError, ValueError):
                continue
            yield from _joined([text] if text else [])


# --- in a text --------------------------------------------------------------------------------------------


class _File(NamedTuple):
    text: str
    ends: list[int]  # the last line of each statement of the top level
    offsets: list[int]  # where it ends in the text
    imported: list[str]  # what is imported at the top level, which changes how calls of it are compiled


@lru_cache(maxsize=64)
def _file(text: str, filename: str) -> _File:
    """Return how *text* can be taken apart, so that one statement can be compiled without the others.

    The tree of a whole file is ten times its size, and is not kept.
    """
    tree = _parse(text, filename, 0)
    ends = [statement.end_lineno or statement.lineno for statement in tree.body]
    imported: set[str] = set()
    rest: list[ast.AST] = [tree]
    while rest:
        node = rest.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported.update(name.asname or name.name.partition(".")[0] for name in node.names)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            rest += ast.iter_child_nodes(node)
    offsets = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    return _File(text, ends, [offsets[end] for end in ends], sorted(imported - {"*"}))


def _node_in(text: str, code: CodeType) -> SourceNode | None:
    """Return the node in *text* that *code* is compiled from, or None."""
    flags = code.co_flags & _FUTURES
    try:
        for tree in _trees(text, code, flags):
            nodes = [node for node in ast.walk(tree) if _may_be(node, code)]
            if nodes and _contains(tree, code, flags):
                return _pick(nodes, tree, code, flags)
    except (SyntaxError, ValueError):  # it is being edited; ValueError: it has characters that no source can have
        pass
    return None


def _trees(text: str, code: CodeType, flags: int) -> Iterator[ast.Module]:
    """Yield the tree of the statement where *code* begins, and that of the whole *text*, if it is still asked for.

    Raises:
        SyntaxError: *text* is no Python.
    """
    _, ends, offsets, imported = _file(text, code.co_filename)
    number = bisect_left(ends, code.co_firstlineno)
    above, start = (ends[number - 1], offsets[number - 1]) if number else (0, 0)
    end = offsets[number] if number < len(ends) else None
    try:
        tree = _parse("\n" * above + text[start:end], code.co_filename, flags)
    except SyntaxError:  # it begins in the middle of a line
        pass
    else:
        if imported:
            tree.body.append(ast.fix_missing_locations(ast.Import([ast.alias(name) for name in imported])))
        yield tree
    yield _parse(text, code.co_filename, flags)


def _may_be(node: ast.AST, code: CodeType) -> bool:
    """Tell whether *node* makes code of that name and first line."""
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    if isinstance(node, ast.GeneratorExp):
        return code.co_name == "<genexpr>" and node.lineno == code.co_firstlineno
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        first = node.decorator_list[0] if node.decorator_list else node
        return code.co_name == node.name and first.lineno == code.co_firstlineno
    return False


def _pick(nodes: list[Any], tree: ast.Module, code: CodeType, flags: int) -> SourceNode:
    """Return the one of *nodes*, all of which begin in one line, the outer before the inner, that *code* is of.

    A node that is moved to another line changes its code, and that of the nodes around it. So with more
    and more of them moved, the code is no longer there from its own node on. Where Python makes one
    code object of several equal expressions, that is the last of them.
    """

    def is_gone(last: int) -> bool:
        moved = nodes[: last + 1]
        for node in moved:
            node.lineno, node.end_lineno = node.lineno + _FAR, node.end_lineno + _FAR
        try:
            return not _contains(tree, code, flags)
        finally:
            for node in moved:
                node.lineno, node.end_lineno = node.lineno - _FAR, node.end_lineno - _FAR

    picked: SourceNode = nodes[bisect_left(range(len(nodes) - 1), True, key=is_gone)]
    return picked


def _contains(tree: ast.Module, code: CodeType, flags: int) -> bool:
    """Tell whether *tree*, compiled, contains *code*."""
    outermost: CodeType = _compile(tree, code.co_filename, flags)
    rest = [outermost]
    while rest:
        compiled = rest.pop()
        if compiled == code:
            return True
        rest += [constant for constant in compiled.co_consts if isinstance(constant, CodeType)]
    return False


def _parse(text: str, filename: str, flags: int, mode: str = "exec") -> Any:
    return _compile(text, filename, flags | ast.PyCF_ONLY_AST, mode)


def _compile(what: str | ast.Module, filename: str, flags: int, mode: str = "exec") -> Any:
    """Compile with these *flags* and none of this module; cells of notebooks may await.

    What is to be said of a file was said when it was imported. Filters are global, so the one that hides
    it is for this file alone: it does no harm if another thread copies it.

    Raises:
        SyntaxError: it cannot be compiled.
    """
    flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    silence: Any = ("ignore", None, Warning, re.compile(re.escape(filename.removesuffix(".py")) + r"\Z"), 0)
    filters: Any = warnings.filters
    filters.insert(0, silence)
    try:
        for _ in range(_ATTEMPTS):
            with suppress(SystemError):
                return compile(what, filename, mode, flags, dont_inherit=True)
        return compile(what, filename, mode, flags, dont_inherit=True)
    finally:
        filters.remove(silence)
