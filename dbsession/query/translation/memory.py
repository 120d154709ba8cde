"""What has been translated before: for each code object a tree of questions, with translations as leaves.

A translation asks for values from outside, in an order that depends on nothing but their shapes (see
`shapes`). So it is remembered as a chain of branches: the question, and for each shape that was met
what comes next. To make the query again, the questions are asked again, and each answer's shape is
looked up; nothing is parsed, and no tree is built.

Threads share this without a lock: branches are added with one operation on a dictionary each, and
two threads that translate the same thing at once make two translations, either of which will do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from types import CodeType, GeneratorType
from typing import Any, NamedTuple, cast
from weakref import ReferenceType, ref

from dbsession.query.taking import UNCACHED, How

__all__ = ["Leaf", "Memory", "Names", "Question", "Run", "memory_of", "names_of_function", "names_of_generator"]

_LEAVES = 500  # translations of one expression that are kept
_BRANCHES = 200  # shapes at one place


class Names(NamedTuple):
    """Where the names of a piece of code are looked up, in this order."""

    closure: Mapping[str, Any]
    globals: dict[str, Any]
    builtins: Mapping[str, Any]
    function: Any = None


def names_of_generator(generator: GeneratorType[Any, Any, Any]) -> Names:
    """Return the names that a generator, which has not begun, sees."""
    frame: Any = generator.gi_frame
    closure = frame.f_locals if generator.gi_code.co_freevars else {}
    return Names(closure, frame.f_globals, frame.f_builtins)


def names_of_function(function: Any) -> Names:
    """Return the names that the body of *function* sees."""
    closure: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            closure[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return Names(closure, function.__globals__, function.__builtins__, function)


class Question(NamedTuple):
    """A value that is asked for: how Python computes it, and how the query takes it."""

    evaluate: Callable[[Run], Any]
    how: How


class Run:
    """One time that an expression becomes a query: the names it sees, and what was answered so far.

    *given* is what is being translated is about: what the first loop ranges over, or the query that a
    lambda narrows.
    """

    __slots__ = ("answers", "given", "names", "questions", "shapes")

    def __init__(self, names: Names, given: Any) -> None:
        self.names = names
        self.given = given
        self.answers: list[Any] = []
        self.shapes: list[Hashable] = []
        self.questions: list[Question] = []

    def ask(self, question: Question) -> Any:
        """Return the answer to *question*, and keep it."""
        answer, shape = question.how(question.evaluate(self))
        self.answers.append(answer)
        self.shapes.append(shape)
        self.questions.append(question)
        return answer


class Leaf(NamedTuple):
    """A translation, and which of the answers are the values of its slots, in order.

    *picks*: the numbers of the answers; of a query that stands in this one the values are taken.
    """

    result: Any
    picks: tuple[tuple[int, bool], ...]
    has_queries: bool

    def values(self, run: Run) -> tuple[Any, ...]:
        """Return the values of the slots."""
        answers = run.answers
        if not self.has_queries:
            return tuple([answers[number] for number, _ in self.picks])
        values: list[Any] = []
        for number, is_query in self.picks:
            if is_query:
                values += answers[number].values
            else:
                values.append(answers[number])
        return tuple(values)


class _Branch:
    """A question, and for each shape of its answer what comes next."""

    __slots__ = ("following", "question")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.following: dict[Hashable, _Branch | Leaf] = {}


class Memory:
    """The translations of one expression."""

    __slots__ = ("_first", "_leaves")

    def __init__(self) -> None:
        self._first: _Branch | Leaf | None = None
        self._leaves = 0

    def find(self, run: Run) -> Leaf | None:
        """Ask what has to be asked, and return the translation; None if there is none yet for such answers."""
        step = self._first
        answers, shapes, questions = run.answers, run.shapes, run.questions
        while type(step) is _Branch:
            question = step.question
            answer, shape = question.how(question.evaluate(run))
            answers.append(answer)
            shapes.append(shape)
            questions.append(question)
            step = step.following.get(shape)
        return cast("Leaf | None", step)

    def add(self, run: Run, leaf: Leaf) -> None:
        """Keep the translation that *run* has led to."""
        if UNCACHED in run.shapes:
            return
        if self._leaves >= _LEAVES:
            self._first, self._leaves = None, 0
        self._leaves += 1
        step: _Branch | Leaf = leaf
        if not run.questions:
            self._first = leaf
            return
        first = self._first
        if not isinstance(first, _Branch):
            self._first = first = _Branch(run.questions[0])
        branch = first
        for question, shape in zip(run.questions[1:], run.shapes[:-1], strict=True):
            step = _room(branch.following).setdefault(shape, _Branch(question))
            assert isinstance(step, _Branch)
            branch = step
        _room(branch.following)[run.shapes[-1]] = leaf


def _room(following: dict[Hashable, _Branch | Leaf]) -> dict[Hashable, _Branch | Leaf]:
    if len(following) >= _BRANCHES:
        following.clear()
    return following


# By identity: equal code objects of two files are equal to Python, which does not compare the file names.
_memories: dict[int, tuple[ReferenceType[CodeType], dict[str, Memory]]] = {}


def memory_of(code: CodeType, purpose: str) -> Memory:
    """Return what is remembered of *code*, translated for *purpose*; it is forgotten with the code."""
    key = id(code)
    known = _memories.get(key)
    if known is None or known[0]() is not code:
        _memories[key] = known = (ref(code, partial(_forget, _memories, key)), {})
    memories = known[1]
    memory = memories.get(purpose)
    return memories.setdefault(purpose, Memory()) if memory is None else memory


def _forget(memories: dict[int, Any], key: int, gone: ReferenceType[CodeType]) -> None:
    """Forget the code that is *gone*. When Python ends, the names of this module are gone by then, too."""
    known = memories.get(key)
    if known is not None and known[0] is gone:
        del memories[key]
