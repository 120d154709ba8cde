"""What names and values from outside mean in a query: which variable, which function, and the value of which time."""

from __future__ import annotations

import gc
import linecache
import weakref

import pytest

from dbsession import (
    Json,
    Optional,
    Required,
    Set,
    TranslationError,
    count,
    db_session,
    exists,
    raw_sql,
    select,
)
from dbsession.query.translation import memory

least = 0
tone = "global"


@pytest.fixture
def firm(db):
    """Ann, the boss of Bob and Cid, and Bob, the boss of Dan, of two companies, with orders."""

    class Company(db.Entity):
        name = Required(str)
        people = Set("Person")

    class Person(db.Entity):
        name = Required(str)
        age = Required(int)
        data = Optional(Json)
        company = Optional(Company)
        boss = Optional("Person", reverse="staff")
        staff = Set("Person", reverse="boss")
        orders = Set("Order")

        @property
        def chosen(self):
            return self.age > 40

        def over(self, limit):
            return self.age > limit

    class Order(db.Entity):
        total = Required(int)
        person = Optional(Person)

    db.generate_mapping(create_tables=True)
    with db_session:
        first, second = Company(name="A"), Company(name="B")
        ann = Person(name="Ann", age=50, company=first, data={"a": {"b": 1}, "n": [1]})
        bob = Person(name="Bob", age=30, company=first, boss=ann)
        Person(name="Cid", age=20, company=second, boss=ann)
        Person(name="Dan", age=45, boss=bob)
        Order(total=10, person=ann)
        Order(total=20, person=ann)
        Order(total=30, person=bob)
        Order(total=5)
    return db.entities


# --- attributes of a class in a generator ---------------------------------------------------------------------


def test_an_expression_of_a_class_is_about_the_first_loop_over_its_table(firm):
    """Not about another variable over the same table, nor about that of an inner query."""
    Person, Order = firm["Person"], firm["Order"]
    old = Person.age > 40
    with db_session:
        found = select(p.name for p in Person for s in p.staff if old or s.age > 100).fetch()
        assert found == ["Ann"]
        assert select(s.name for p in Person for s in p.staff if old).order_by(1).fetch() == ["Bob", "Cid"]
        assert select(p.name for p in Person if exists(s for s in p.staff if old)).fetch() == ["Ann"]
        assert select(o.total for p in Person for o in p.orders if old).order_by(1).fetch() == [10, 20]
        dear = Order.total.in_([10, 30])
        assert select(o.total for p in Person for o in p.orders if old if dear).fetch() == [10]


def test_an_expression_of_a_class_without_a_loop_over_its_table_is_refused(firm):
    """The error names the attribute and what is missing."""
    old, Company = firm["Person"].age > 40, firm["Company"]
    with pytest.raises(TranslationError, match=r"Person\.age, and no loop variable here is a Person"):
        select(c for c in Company if old)


# --- names of loops -------------------------------------------------------------------------------------------


def test_loops_of_a_query_within_another_have_no_names_for_lambdas(firm):
    """A lambda without parameters sees the loops that its query's author wrote, and all else is Python's."""
    Person = firm["Person"]
    big = select(p for p in Person for x in p.orders if x.total > 10)
    x = "Ann"
    with db_session:
        assert select(p for p in big).filter(lambda: p.name == x).count() == 1  # noqa: F821
        assert select(q for q in big).filter(lambda: q.name == x).count() == 1  # noqa: F821
        with pytest.raises(TypeError, match="no loop variable 'x', but q"):
            select(q for q in big).where(lambda q, x: q.age > x.total)


# --- names in raw SQL -----------------------------------------------------------------------------------------


def returned(Person, least):
    return (p.name for p in Person if raw_sql("p.age > $least"))


def test_a_name_in_raw_sql_never_becomes_a_global_of_that_name(firm):
    """Python has not kept a variable that only the text names, once its function has returned."""
    Person = firm["Person"]
    with pytest.raises(TranslationError, match="mention least outside"):
        select(returned(Person, 40))

    def condition(least):
        return lambda p: p.age > 0 and raw_sql("p.age > $least")

    with pytest.raises(TranslationError, match="mention least outside"):
        Person.select(condition(40))

    def kept(least):
        return lambda p: p.age != least and raw_sql("p.age > $least")

    def running(least):
        return select(p for p in Person if raw_sql("p.age > $least")).count()

    def around(least):
        def inner():
            return select(p for p in Person if raw_sql("p.age > $least")).count()

        return inner()

    with db_session:
        assert [Person.select(kept(limit)).count() for limit in (40, 48)] == [2, 1]
        assert [running(40), around(48)] == [2, 1]


def test_a_name_in_raw_sql_is_a_global_at_module_level(firm):
    """A lambda of a module has the names of the module."""
    text = "found = lambda p: raw_sql('p.age > $least')\n"
    names = {"raw_sql": raw_sql, "least": 48}
    define("raw names", text, names)
    with db_session:
        assert [p.name for p in firm["Person"].select(names["found"])] == ["Ann"]


def define(filename, text, names):
    """Run *text* as a module that Python finds the source of."""
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    exec(compile(text, filename, "exec"), names)


def test_raw_sql_in_the_expression_form_sends_its_values(firm):
    """The query is the same for any two values, and keeps no object alive."""
    Person = firm["Person"]

    def over(limit):
        return Person.select(raw_sql('"age" > $limit')).order_by(Person.age)

    def boss_of(person):
        return Person.select(raw_sql('"boss" = $person.id') & (Person.age > 0)).count()

    def of(person):
        kept = weakref.ref(person)
        return boss_of(person), kept

    with db_session:
        assert [[p.name for p in over(limit)] for limit in (40, 48, 100)] == [["Dan", "Ann"], ["Ann"], []]
        assert over(1).selected is over(2).selected
        ann = Person.get(name="Ann")
        number, kept = of(ann)
        assert number == 2
    del ann
    gc.collect()
    assert kept() is None


# --- functions, values, code ----------------------------------------------------------------------------------


def test_a_property_or_method_that_is_replaced_is_taken_as_it_is_now(firm):
    """As a function is."""
    Person = firm["Person"]

    def names():
        by_property = select(p.name for p in Person if p.chosen).order_by(1).fetch()
        return by_property, select(p.name for p in Person if p.over(45)).order_by(1).fetch()

    with db_session:
        assert names() == (["Ann", "Dan"], ["Ann"])
        Person.chosen = property(lambda self: self.age <= 40)
        Person.over = lambda self, limit: self.age >= limit
        assert names() == (["Bob", "Cid"], ["Ann", "Dan"])


def test_a_value_is_the_one_of_the_time_when_the_query_was_made(firm):
    """A dict or list that is changed afterwards changes no query."""
    Person = firm["Person"]
    document = {"a": {"b": 1}, "n": [1]}
    ages = [50]
    queries = [
        select(p.name for p in Person if p.data == document),
        Person.select(Person.data == document),
        select(p.name for p in Person if p.age in ages),
    ]
    document["a"]["b"] = 2
    document["n"].append(3)
    ages.append(20)
    with db_session:
        assert [len(query.fetch()) for query in queries] == [1, 1, 1]


def test_code_that_is_gone_is_forgotten(firm):
    """Running a module again and again does not fill the memory of translations."""
    Person = firm["Person"]
    text = (
        "LEAST = 3\n"
        "def is_old(p):\n"
        "    return p.age > LEAST\n"
        "def query(Person):\n"
        "    return select(p for p in Person if p.age > LEAST and is_old(p) and raw_sql('p.age > $(LEAST + 1)'))\n"
    )
    gc.collect()
    before = len(memory._memories)
    for _ in range(20):
        names = {"select": select, "raw_sql": raw_sql}
        define("gone", text, names)
        names["query"](Person).get_sql()
    del names
    gc.collect()
    assert len(memory._memories) <= before + 2


def test_an_object_beside_the_columns_is_refused(firm):
    """The same object for all rows is no column."""
    Person = firm["Person"]
    with db_session:
        ann = Person.get(name="Ann")
        with pytest.raises(TranslationError, match="the same for all rows"):
            select((p.name, ann) for p in Person)


# --- replace() ------------------------------------------------------------------------------------------------


def test_replace(firm):
    """Texts are replaced as Python does, JSON's as well; None is no text."""
    Person = firm["Person"]
    new, nothing = "%x", None
    with db_session:
        assert select(p.name.replace("n", new) for p in Person).order_by(1).fetch() == ["A%x%x", "Bob", "Cid", "Da%x"]
        assert select(p.name.replace(p.name[0], "") for p in Person if p.age > 40).order_by(1).fetch() == ["an", "nn"]
        with pytest.raises(TranslationError, match="for text, and None is None"):
            select(p.name.replace("n", nothing) for p in Person)
        Person.get(name="Bob").data = {"text": "a.b.c"}
        assert select(p.data["text"].replace(".", "-") for p in Person if p.name == "Bob").fetch() == ["a-b-c"]
        with pytest.raises(TranslationError, match=r"replace\(\) is for text, and p\.age is an int"):
            select(p.age.replace("n", "x") for p in Person)
        with pytest.raises(TranslationError, match="replace"):
            select(p.name.replace(1, "x") for p in Person)


# --- loops over references ------------------------------------------------------------------------------------


def test_a_loop_over_one_reference_is_refused(firm):
    """As Python would; a reference of the items of a collection has many objects, each of which comes once."""
    Order, Company = firm["Order"], firm["Company"]
    with pytest.raises(TranslationError, match="this is one Person or None"):
        select(p for o in Order for p in o.person)
    with pytest.raises(TranslationError, match="this is one Person or None"):
        select(o for o in Order if exists(p for p in o.person))
    with db_session:
        found = select((c.name, b.name) for c in Company for b in c.people.boss).order_by(1).fetch()
        assert found == [("A", "Ann"), ("B", "Ann")]
        assert select((c.name, count(b for b in c.people.boss)) for c in Company).order_by(1).fetch() == [
            ("A", 1),
            ("B", 1),
        ]


# --- variables of functions -----------------------------------------------------------------------------------


def in_one_branch(p):
    if p.age > 40:
        tone = "old"
    return tone


def in_each_branch(p):
    if p.age > 40:
        tone = "old"
    else:
        tone = "young"
    return tone


def never(p):
    shade = f"{tone}!"  # noqa: F823
    tone = p.name
    return shade + tone


def test_a_variable_of_a_function_is_no_global_where_it_has_no_value(firm):
    """Python would raise UnboundLocalError, for some rows."""
    Person = firm["Person"]
    for function in (in_one_branch, never):
        with pytest.raises(TranslationError, match="tone is a variable of the function that has no value"):
            select(function(p) for p in Person)
    with db_session:
        assert select(in_each_branch(p) for p in Person).order_by(1).fetch() == ["old", "old", "young", "young"]
