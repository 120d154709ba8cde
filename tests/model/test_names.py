"""Names of tables, columns, indexes and constraints: strange ones, long ones, and those that clash."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbsession import (
    Database,
    ERDiagramError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    composite_index,
    composite_key,
    db_session,
)

STRANGE = [
    'select "x"',
    "it's",
    '"',
    '""',
    "100%",
    "%s %(x)s %%",
    "a;b--c/*",
    "a.b",
    "tab\t\nnew\r",
    " ",
    "ü😀",
    "$1",
    "?",
    ":name",
    "{0}",
    "\\",
    "order",
    "GROUP",
]


def declare(db, table, column, reference):
    """Declare two entities whose tables and columns have the given names."""

    class Thing(db.Entity):
        _table_ = table
        name = Required(str, column=column, index=True)
        boss = Optional("Thing", column=reference, reverse="staff")
        staff = Set("Thing", reverse="boss")
        friends = Set("Thing", reverse="friends", table=table + "2", column=column, reverse_column=reference)
        hits = Required(int, default=0)
        composite_key(name, hits)

    db.generate_mapping(create_tables=True)
    return Thing


def use(Thing):
    """Insert, read, filter, order, update, check, link and delete."""
    with db_session:
        Thing(name="a")
    with db_session:
        things = [Thing(name="b", boss=1), Thing(name="c", boss=1)]
        things[0].friends.add(things)
    with db_session:
        one = Thing.get(name="a")
        assert [thing.name for thing in one.staff.select().order_by(Thing.name.desc())] == ["c", "b"]
        one.hits = Thing.hits + 5
        assert one.hits == 5
        assert Thing.select((Thing.name == "b") & (Thing.boss == one)).first().boss is one
        assert {thing.name for thing in Thing.get(name="c").friends} == {"b"}
        Thing.get(name="c").set(name="d", boss=None)
    with db_session:
        assert Thing.get(name="a").hits == 5
        Thing.get(name="b").delete()
        assert Thing.select(Thing.name.in_(["d", "a"])).delete(bulk=True) == 2
    with db_session:
        assert Thing.select().count() == 0


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names(db, name):
    """A name may have any characters: quotes, percent signs, blanks, semicolons, reserved words."""
    Thing = declare(db, name, name + "x", "x" + name)
    use(Thing)
    db.create_tables()
    db.check_tables()
    assert name.replace('"', '""') in db.schema_sql()
    db.drop_all_tables()
    with db_session:
        for statement in db.schema_sql().split(";\n\n"):
            db.execute(statement.removesuffix(";\n"))
    db.check_tables()


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=NAMES, column=NAMES, reference=NAMES)
def test_any_name(db_url, table, column, reference):
    """Whatever a table or a column is called, it can be made, used, checked and dropped; what clashes is refused."""
    db = Database(db_url)
    Thing = declare(db, "t" + table, "c" + column, "r" + reference)
    try:
        use(Thing)
        db.check_tables()
    finally:
        db.drop_all_tables(with_all_data=True)
        db.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
def test_any_text(texts, text):
    """Whatever a text holds, it comes back as it was, and is found by itself, its beginning, its end and its parts."""
    Thing = texts
    with db_session:
        Thing.select().delete(bulk=True)
        Thing(text=text), Thing(text=text + "x"), Thing(text="x" + text)
    with db_session:
        assert [thing.text for thing in Thing.select().order_by(Thing.id)] == [text, text + "x", "x" + text]
        assert Thing.select(Thing.text == text).count() == 1
        assert Thing.select(Thing.text.in_([text, None])).count() == 1
        assert Thing.select(Thing.text.startswith("x" + text)).count() == 1 + (("x" + text) == (text + "x"))
        assert Thing.select(Thing.text.endswith(text + "x")).count() == 1 + (("x" + text) == (text + "x"))
        assert Thing.select(Thing.text.contains(text)).count() == 3
        assert Thing.select(text=text).first().text == text


@pytest.fixture
def texts(db):
    """An entity with one text that is kept as it is."""

    class Thing(db.Entity):
        text = Optional(str, autostrip=False)

    db.generate_mapping(create_tables=True)
    return Thing


# --- names that cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", 5, None])
def test_impossible_names(db, name):
    """A name that no database takes is refused when the mapping is made."""

    class Thing(db.Entity):
        value = Required(int, column=name)

    with pytest.raises(ERDiagramError, match=r"the column of Thing\.value cannot be called"):
        db.generate_mapping(create_tables=True)


def test_a_name_too_long_for_postgresql(db):
    """PostgreSQL cuts names at 63 bytes: there a longer one is refused, on SQLite it is taken."""
    name = "ä" * 32

    class Thing(db.Entity):
        value = Required(int, column=name)

    if db.backend.dialect.name == "sqlite":
        db.generate_mapping(create_tables=True)
        return
    with pytest.raises(
        ERDiagramError, match=r"cannot be called 'ä+': PostgreSQL cuts names at 63 bytes, and it has 64"
    ):
        db.generate_mapping(create_tables=True)


def test_our_own_long_names_are_cut_with_a_hash(db):
    """Names of constraints and indexes fit, and stay different, however long what they are made of is."""
    long = "x" * 50

    class Thing(db.Entity):
        _table_ = long
        a = Required(int, column=long + "_a", index=True, unique=True)
        b = Required(int, column=long + "_b", index=True)
        c = Optional("Thing", column=long + "_c", reverse="cs")
        cs = Set("Thing", reverse="c")
        composite_index(a, b)
        composite_key(b, c)

    db.generate_mapping(create_tables=True)
    ours = re.findall(r'(?:CONSTRAINT|EXISTS) "(dbs_[^"]*)"', db.schema_sql())
    assert len(ours) == len(set(ours)) == 7
    assert all(len(name) == 63 and re.search("_[0-9a-f]{8}$", name) for name in ours)
    again = Database("sqlite://")
    type(again.Entity)("Thing", (again.Entity,), {"_table_": long, "a": Required(int, column=long + "_a", index=True)})
    again.generate_mapping(create_tables=True)
    found = re.findall(r'INDEX IF NOT EXISTS "([^"]*)"', again.schema_sql())
    assert found == [name for name in ours if name.startswith("dbs_ix")][:1]  # the same in every process
    again.close()


# --- names that clash -----------------------------------------------------------------------------------


def test_our_own_names_do_not_clash(db):
    """Indexes whose names would come out the same get different ones: none is left out in silence."""

    class T(db.Entity):
        a = Required(int)
        b_c = Required(int)
        a_b = Required(int)
        c = Required(int)
        composite_index(a, b_c)
        composite_index(a_b, c)
        composite_key(a, b_c)
        composite_key(a_b, c)

    db.generate_mapping(create_tables=True)
    ours = re.findall(r'(?:CONSTRAINT|EXISTS) "(dbs_[^"]*)"', db.schema_sql())
    assert len(ours) == len({name.lower() for name in ours}) == 4


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            {"index": "by_value"},
            {"index": "by_value"},
            r"the index of B\.value cannot be called 'by_value': .* A\.value",
        ),
        ({"index": "b"}, {}, r"the index of A\.value cannot be called 'b': that is the name of a table already"),
    ],
)
def test_chosen_names_that_clash(db, first, second, message):
    """An index that the database would pass over, because its name is taken, is an error."""
    make = type(db.Entity)
    make("A", (db.Entity,), {"_table_": "a", "value": Required(int, **first)})
    make("B", (db.Entity,), {"_table_": "b", "value": Required(int, **second)})
    with pytest.raises(ERDiagramError, match=message):
        db.generate_mapping(create_tables=True)


def test_entities_whose_names_differ_in_case(db):
    """Neither database tells ``User`` from ``USER`` by default: such entities need a table name of their own."""
    make = type(db.Entity)
    make("User", (db.Entity,), {"name": Required(str)})
    make("USER", (db.Entity,), {"name": Required(str)})
    with pytest.raises(ERDiagramError, match=r"(?i)user and user have the same table"):
        db.generate_mapping(create_tables=True)


def test_attributes_whose_names_differ_in_case(db):
    """SQLite does not tell columns by case, PostgreSQL does; there is no half-made table."""
    make = type(db.Entity)
    Thing = make("Thing", (db.Entity,), {"name": Required(str), "Name": Required(str)})
    if db.backend.dialect.name == "sqlite":
        with pytest.raises(ERDiagramError, match=r"Thing\.Name and Thing\.name have the same column 'Name'"):
            db.generate_mapping(create_tables=True)
        return
    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(name="a", Name="b")
    with db_session:
        assert (Thing[1].name, Thing[1].Name) == ("a", "b")


def test_names_of_attributes_that_python_hardly_allows(db):
    """Keywords and names of builtins are names like others."""
    body = {name: Optional(int) for name in ("class", "from", "None", "type", "id_", "self", "values", "mapping")}
    Thing = type(db.Entity)("Thing", (db.Entity,), {"key": PrimaryKey(int), **body})
    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(key=1, **{name: number for number, name in enumerate(body)})
    with db_session:
        values = {"class": 0, "self": 5}
        assert Thing.get(**values).to_dict() == {"key": 1, **{n: i for i, n in enumerate(body)}}
        values = {"self": 9, "values": 10}
        Thing[1].set(**values)
    with db_session:
        assert Thing.select(**values).count() == 1
