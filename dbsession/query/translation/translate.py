"""From a generator or lambda to what a query asks for: the translation that is remembered, or a new one."""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import FunctionType, GeneratorType
from typing import Any

from dbsession.model.expressions import Ordering
from dbsession.query import taking
from dbsession.query.selected import Selected
from dbsession.query.translation import inlining, loops
from dbsession.query.translation.memory import Leaf, Memory, Run, memory_of, names_of_function, names_of_generator
from dbsession.query.translation.names import Frame, Scope
from dbsession.query.translation.source import find_source
from dbsession.query.translation.translator import Translator

__all__ = ["translate_filter", "translate_generator", "translate_order", "translate_value"]


def translate_generator(
    generator: GeneratorType[Any, Any, Any], given: Any, *, is_left: bool = False
) -> tuple[Selected, tuple[Any, ...]]:
    """Return what the query that *generator* stands for asks for, and the values of its slots.

    *given*: what its first loop ranges over.

    Raises:
        TranslationError: it cannot be translated, or its source is not to be found.
    """
    code = generator.gi_code
    run = Run(names_of_generator(generator), given)
    memory = memory_of(code, "left" if is_left else "select")
    leaf = memory.find(run)
    if leaf is None:
        source = find_source(code)
        scope = Scope(Frame(code, source, _root), {})
        translator = Translator(run, len(run.answers), 0)
        assert isinstance(source.node, ast.GeneratorExp)
        given = translator.ask(_given, taking.looped)
        selected = loops.generator(translator, source.node, scope, given=given, is_left=is_left)
        leaf = _remember(memory, run, translator, selected)
    return leaf.result, leaf.values(run)


def translate_filter(
    selected: Selected, values: tuple[Any, ...], function: FunctionType, *, by_name: bool
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the conditions that the lambda *function* adds to a query, and the values of their slots.

    Its parameters are the items of the result, in order, or, *by_name*, loop variables; one without
    parameters sees the loop variables by their names. The same conditions are the same tuple.

    Raises:
        TranslationError: it cannot be translated, or its source is not to be found.
    """
    return _translate_function(selected, values, function, inlining.conditions, by_name=by_name)


def translate_order(
    selected: Selected, values: tuple[Any, ...], function: FunctionType
) -> tuple[tuple[Ordering, ...], tuple[Any, ...]]:
    """Return the orderings that the lambda *function* asks for, and the values of their slots.

    Its parameters are as those of `translate_filter`.
    """
    return _translate_function(selected, values, function, inlining.orderings, by_name=False)


def translate_value(selected: Selected, values: tuple[Any, ...], function: FunctionType) -> tuple[Any, tuple[Any, ...]]:
    """Return the value that the lambda *function* works out for each object, and the values of its slots.

    It is an expression, or, where it is the same for all, a slot or a constant. Its parameters are as those of
    `translate_filter`.
    """
    return _translate_function(selected, values, function, inlining.value, by_name=False)


def _translate_function(
    selected: Selected,
    values: tuple[Any, ...],
    function: FunctionType,
    body: Callable[[Translator, Any, Scope], Any],
    *,
    by_name: bool,
) -> tuple[Any, tuple[Any, ...]]:
    code = function.__code__
    run = Run(names_of_function(function), selected)
    memory = memory_of(code, f"{body.__name__}{by_name}")
    leaf = memory.find(run)
    if leaf is None:
        frame = Frame(code, find_source(code), _root)
        translator = Translator(run, len(run.answers), len(values))
        translator.ask(_given, _based)
        scope = inlining.lambda_scope(translator, selected, frame, by_name=by_name)
        found = body(translator, frame.source.node, scope)
        leaf = _remember(memory, run, translator, found)
    return leaf.result, leaf.values(run)


def _remember(memory: Memory, run: Run, translator: Translator, result: Any) -> Leaf:
    picks = tuple(translator.picks)
    leaf = Leaf(result, picks, any(is_query for _, is_query in picks))
    memory.add(run, leaf)
    return leaf


def _root(run: Run) -> Any:
    return run.names


def _given(run: Run) -> Any:
    return run.given


def _based(selected: Selected) -> tuple[Any, Any]:
    return selected, taking.Same(selected)
