"""Names from outside: where they are looked up, when they are evaluated, and what is remembered of a translation."""

from __future__ import annotations

import ast
import builtins
import gc
import os
import subprocess
import sys
import threading
import weakref
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dbsession
from dbsession import Database, Query, count, db_session, desc, exists, max, raw_sql, select, sum
from dbsession import count as number_of
from dbsession.model.expressions import Operation
from dbsession.query.translation import memory, source, translate
from tests.query.office import define
from tests.query.trees import condition, narrowed, result, tree

db = define(Database("sqlite://"), create_tables=False)
Person, Manager, Order = map(db.entities.get, ("Person", "Manager", "Order"))

ADULT = 18
configuration = SimpleNamespace(limit=5, inner=SimpleNamespace(names=["a", "b"]))


# --- where names are looked up ----------------------------------------------------------------------------


def test_names_of_the_closure_the_module_and_the_builtins():
    """Names are looked up as Python does it."""
    local = 7
    assert condition(p for p in Person if p.age > local) == ">(p.age, {0: 7})"
    assert condition(p for p in Person if p.age > ADULT) == ">(p.age, {0: 18})"
    assert condition(p for p in Person if p.name == __name__) == f"=(p.name, {{0: {__name__!r}}})"
    assert condition(p for p in Person if p.age > len([1, 2])) == ">(p.age, {0: 2})"


def test_names_are_read_when_the_query_is_made():
    """A later assignment changes later queries, and not those that were made before."""
    local = 1

    def made() -> Query[Any]:
        return select(p for p in Person if p.age > local)

    first = made()
    local = 2
    assert (first.values, made().values) == ((1,), (2,))


def test_attributes_items_and_calls_are_evaluated_in_python():
    """What uses no loop variable is one value, however it is computed."""
    values = {"a": [1, 2, 3]}
    assert condition(p for p in Person if p.age > configuration.limit) == ">(p.age, {0: 5})"
    assert condition(p for p in Person if p.age > values["a"][-1] * 2) == ">(p.age, {0: 6})"
    assert condition(p for p in Person if p.age in [value + 1 for value in values["a"]]) == "in(p.age, {0: (2, 3, 4)})"
    assert condition(p for p in Person if p.age > max(x for x in values["a"])) == ">(p.age, {0: 3})"
    assert condition(p for p in Person if p.age > sum(values["a"], 10)) == ">(p.age, {0: 16})"
    assert condition(p for p in Person if p.age > (lambda x: x + 1)(2)) == ">(p.age, {0: 3})"
    assert condition(p for p in Person if p.name in configuration.inner.names) == "in(p.name, {0: ('a', 'b')})"
    assert condition(p for p in Person if p.name == f"{values['a'][0]:03}") == "=(p.name, {0: '001'})"


def test_loop_variables_shadow_everything():
    """A loop variable hides what has its name outside, in inner loops too."""
    p = o = 3
    assert condition(p for p in Person if p.age > o) == ">(p.age, {0: 3})"
    assert (
        condition(p for p in Person if exists(o for o in p.orders if o.total > 1))
        == "exists([o FOR o IN p.orders IF >(o.total, 1)])"
    )
    assert condition(q for q in Person if q.age > p) == ">(q.age, {0: 3})"
    assert condition(q for q in Person if q.age in [p for p in (1, 2)]) == "in(q.age, {0: (1, 2)})"


class Shop:
    """Names with two underscores mean others within a class."""

    __limit = 9

    def __init__(self) -> None:
        self.__floor = 4

    def query(self) -> str:
        return condition(p for p in Person if p.age > self.__floor and p.age < Shop.__limit + self.__floor)


def test_private_names_of_a_class():
    """self.__floor is what it is in the class that the query stands in."""
    assert Shop().query() == ">(p.age, {0: 4}) AND <(p.age, {1: 13})"


def test_raw_sql_sees_local_variables_that_nothing_else_uses():
    """$name is a name of the function that makes the query, though Python's compiler does not see it."""
    hidden = 3
    assert condition(p for p in Person if raw_sql("p.age > $hidden")) == "raw<p.age > {0: 3}>"
    assert narrowed(Person.select(), lambda p: raw_sql("p.age > $(hidden + ADULT)")) == "raw<p.age > {0: 21}>"


def test_a_name_that_does_not_exist():
    """It is Python's own error."""
    with pytest.raises(NameError, match="name 'nowhere' is not defined"):
        select(p for p in Person if p.age > nowhere)  # noqa: F821
    with pytest.raises(NameError, match="cannot access free variable 'later'"):
        select(p for p in Person if p.age > later)  # noqa: F821
    later = 1
    with pytest.raises(AttributeError, match="nothing"):
        select(p for p in Person if p.age > configuration.nothing)


def test_functions_are_known_by_identity():
    """What a function is called does not matter, only which one it is."""
    tally = builtins.len
    assert result(number_of(p.orders) for p in Person) == "count(p.orders)"
    assert result(dbsession.count(p.orders) for p in Person) == "count(p.orders)"
    assert result(tally(p.orders) for p in Person) == "count(p.orders)"

    def count(person):
        return person.age

    assert result(count(p) for p in Person) == "p.age"
    assert result(builtins.sum(p.orders.total) for p in Person) == "sum(p.orders.total)"


# --- when they are evaluated ------------------------------------------------------------------------------


def test_what_python_knows_short_circuits_as_in_python():
    """`cutoff is None or ...` looks no further where it is None; conditions that Python knows vanish."""
    for cutoff, expected in ((None, ""), (date(2020, 1, 1), ">(p.age, {0: 2020})")):
        assert condition(p for p in Person if cutoff is None or p.age > cutoff.year) == expected
        assert condition(p for p in Person if not cutoff or p.age > cutoff.year) == expected
        assert condition(p for p in Person if (True if not cutoff else p.age > cutoff.year)) == expected
    flag = False
    assert condition(p for p in Person if flag and p.age > nowhere) == "False"  # noqa: F821
    assert condition(p for p in Person if flag if p.age > nowhere) == "False"  # noqa: F821
    assert condition(p for p in Person if 1 < ADULT < p.age) == "<({0: 18}, p.age)"
    assert condition(p for p in Person if 99 < ADULT < p.age) == "False"
    assert result(p.name if ADULT else nowhere for p in Person) == "p.name"  # noqa: F821
    assert result((flag or p.name) for p in Person) == "p.name"


def test_what_is_outside_is_evaluated_once_and_in_order():
    """Functions run as often, and in the order, as the expression has them."""
    calls: list[str] = []

    def called(name: str) -> int:
        calls.append(name)
        return 1

    def query() -> None:
        select(p for p in Person if p.age > called("a") and p.age < called("b") + called("c") if p.age != called("d"))

    query()
    assert calls == ["a", "b", "c", "d"]
    calls.clear()
    query()
    assert calls == ["a", "b", "c", "d"]


def test_none_is_another_query():
    """A value that is None is NULL: `= NULL` would never be true."""
    for name, expected in ((None, "=(p.nick, None)"), ("x", "=(p.nick, {0: 'x'})"), ("y", "=(p.nick, {0: 'x'})")):
        assert condition(p for p in Person if p.nick == name) == expected


def test_lists_of_other_lengths_are_other_queries():
    """A list of values is one slot; how long it is, and whether None is in it, decides on the SQL."""
    found = [
        condition(p for p in Person if p.nick in names) for names in (["a"], [], ["b", "c"], {"d"}, ["e", None, None])
    ]
    assert found == [
        "in(p.nick, {0: ('a',)})",
        "in(p.nick, {0: ()})",
        "in(p.nick, {0: ('b', 'c')})",
        "in(p.nick, {0: ('a',)})",
        "in(p.nick, {0: ('e', None)})",
    ]
    assert condition(p for p in Person if p.nick in dict.fromkeys("ab")) == "in(p.nick, {0: ('a', 'b')})"
    assert condition(p for p in Person if p.nick in iter("ab")) == "in(p.nick, {0: ('a', 'b')})"


def test_lists_of_tuples_are_told_apart_by_their_lengths():
    """Each tuple that can be equal is compared part by part; one of another length is equal to nothing."""
    found = [
        condition(p for p in Person if (p.name, p.age) in rows)
        for rows in ([("a", 1), ("b", None)], [("a",), ("b", 2)], [("a", 1), ("b",)], ["ab"])
    ]
    assert found == [
        "or(and(=(p.name, {0: 'a'}), =(p.age, {1: 1})), and(=(p.name, {2: 'b'}), =(p.age, None)))",
        "=(p.name, {0: 'b'}) AND =(p.age, {1: 2})",
        "=(p.name, {0: 'a'}) AND =(p.age, {1: 1})",
        "False",
    ]
    pair = ("a", 1)
    assert condition(p for p in Person if (p.name, p.age) == pair) == "=(p.name, {0: 'a'}) AND =(p.age, {1: 1})"


def test_queries_entities_and_functions_as_values():
    """Whatever a name stands for, each has its own translation."""
    for entity, expected in ((Person, "p FOR p IN Person"), (Manager, "p FOR p IN Manager")):
        assert tree(p for p in entity) == expected
    for query, expected in (
        (Person.select(), "p FOR p IN Person"),
        (Person.select().limit(1), "p FOR p IN [p FOR p IN Person]"),
    ):
        assert tree(p for p in query) == expected
    for aggregate, expected in ((count, "count(p.age)"), (max, "max(p.age)"), (sum, "sum(p.age)")):
        assert result(aggregate(p.age) for p in Person) == expected
    for classes in (Person, (Manager, Person)):
        assert "Person" in condition(p for p in Person if isinstance(p, classes))


def test_entities_as_values(db: Database):
    """An object is compared by its key; it is no part of what is remembered."""
    Person = define(db).entities["Person"]
    with db_session:
        ann, bob = Person(name="Ann"), Person(name="Bob")
        ann.boss = bob
        dbsession.flush()

        def below(boss: Any) -> Query[Any]:
            return select(p for p in Person if p.boss == boss)

        assert below(bob).fetch() == [ann]
        assert below(ann).fetch() == []
        assert select(p for p in Person if p in [ann]).fetch() == [ann]
        gone = weakref.ref(bob)
    del ann, bob
    gc.collect()
    assert gone() is None


# --- what is remembered -----------------------------------------------------------------------------------


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done of what need not be done twice."""
    done: list[str] = []

    def counted(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def count_it(*args: Any, **named: Any) -> Any:
            done.append(name)
            return real(*args, **named)

        monkeypatch.setattr(owner, name, count_it)

    counted(ast, "parse")
    counted(builtins, "compile")
    counted(translate, "find_source")
    counted(source, "_look_for")
    counted(Operation, "__init__")
    return done


def test_the_second_time_nothing_is_parsed_compiled_or_built(work: list[str]):
    """Making a query again costs lookups: no source, no syntax tree, no words of a query, the same SQL."""
    limit = 3
    names = ["a", "b"]

    def query() -> Query[Any]:
        nonlocal limit
        limit += 1
        made = select(
            (p.name, sum(o.total for o in p.orders if o.total > limit))
            for p in Person
            if limit is None or (p.age > limit + len(names) and p.name in names and p.is_adult)
        )
        made = made.filter(lambda name, total: name != names[0]).order_by(lambda name, total: (desc(name), total))
        return made.where(lambda: p.age < limit)  # noqa: F821

    first = query()
    assert {"compile", "find_source", "_look_for", "__init__"} <= set(work)
    work.clear()
    second = query()
    assert work == []
    assert second.selected is first.selected
    assert (first.values, second.values) == ((6, ("a", "b"), 4, "a", 4), (7, ("a", "b"), 5, "a", 5))


def test_equal_code_in_other_places_is_not_mixed_up():
    """Two functions of one code, and one of equal code in another namespace, see their own names."""

    def maker(entity: Any) -> Any:
        return lambda: select(p for p in entity)

    people, orders = maker(Person), maker(Order)
    assert [people().selected.mapping.name, orders().selected.mapping.name] == ["Person", "Order"]
    assert people().selected is people().selected


def test_a_translation_goes_with_its_code():
    """Code that is gone, of an exec or a closed prompt, is not remembered."""
    before = len(memory._memories)
    make = eval("lambda: (p for p in ())")
    memory.memory_of(make.__code__, "select")
    assert len(memory._memories) == before + 1
    del make
    gc.collect()
    assert len(memory._memories) == before


def test_nothing_is_said_when_python_ends(tmp_path: Path):
    """Code goes when its module goes, at the end of the program, without a word."""
    program = tmp_path / "program.py"
    program.write_text(
        "from dbsession import *\n"
        "db = Database('sqlite://')\n"
        "class Person(db.Entity):\n    age = Optional(int)\n"
        "db.generate_mapping(check_tables=False)\n"
        "print(select(p for p in Person if p.age > 3).filter(lambda p: p.age < 5).count)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(dbsession.__file__).parents[1])}
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""


def test_what_is_remembered_is_bounded():
    """An expression that is made with ever new shapes keeps some of them only."""
    made = None
    for length in range(1200):
        names = ["x"] * length
        made = select(p for p in Person if p.name in names)
    assert made is not None
    assert len(made.values[0]) == 1199
    remembered = [found for _, found in memory._memories.values()]
    assert builtins.max(_leaves(each._first) for found in remembered for each in found.values()) <= 500


def _leaves(step: Any) -> int:
    following = getattr(step, "following", None)
    return 1 if following is None else builtins.sum(map(_leaves, following.values()))


def test_threads_may_translate_the_same_thing_at_once():
    """Without any lock, each gets a right translation with its own values."""
    wrong: list[Any] = []
    barrier = threading.Barrier(4)

    def run(number: int) -> None:
        barrier.wait()
        for round_ in range(50):
            value: Any = number if round_ % 2 else None
            names = [number] * (round_ % 5)
            query = select(p for p in Person if (value is None or p.age > value) and p.age in names)
            expected = (tuple(names),) if value is None else (value, tuple(names))
            if query.values != expected:
                wrong.append((query.values, expected))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
