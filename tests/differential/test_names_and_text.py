"""Whatever texts hold and things are called, queries give what Python gives, and no value is part of the SQL."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbsession import (
    Database,
    Discriminator,
    Json,
    Optional,
    PrimaryKey,
    Required,
    Set,
    concat,
    count,
    db_session,
    delete,
    desc,
    exists,
    flush,
    group_concat,
    max,
    select,
    sum,
)

PIECES = [
    "'", '"', "''", "%", "%%", "_", "\\", "\\'", ";", "?", "??", "$1", ":name", "%s", "%(a)s", "{0}", "{}", "--", "/*", "*/",
    "NULL", "null", "select", "0", "1", "-1", "true", ".", "[0]", "$", "$.a", "#", "a", "b", "A", " ", "\t", "\n", "\r",
    "ß", "é", "e\u0301", "漢", "\U0001f600", "\x7f", "\u200b", "`", "||", "(", ")", ",", "E'", "\x01", "]", "[", "~", "*", "^",
]  # fmt: skip
ANYTHING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), ANYTHING)
FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
MARK = "Zq7"  # stands in no name and no keyword

# --- values ---------------------------------------------------------------------------------------------


@pytest.fixture
def Note(db):
    """An entity with a text and a document, and others that refer to it."""

    class Note(db.Entity):
        text = Optional(str, autostrip=False)
        data = Optional(Json)
        above = Optional("Note", reverse="below")
        below = Set("Note", reverse="above")

    db.generate_mapping(create_tables=True)
    return Note


def fill(Note, texts):
    """Replace all notes by ones with *texts*, each below the one before; return them as plain pairs of key and text."""
    Note.select().delete(bulk=True)
    made = []
    for text in texts:
        made.append(Note(text=text, data={"t": text, text or "": 1}, above=made[-1] if made else None))
    flush()
    return made


def by_text(Note, made, probe):
    """Yield queries that compare texts with *probe*, and what they should give."""
    texts = [(note.id, note.text) for note in made]
    known = [(key, text) for key, text in texts if text is not None]
    yield select(n.id for n in Note if n.text == probe), [key for key, text in known if text == probe]
    yield select(n.id for n in Note if n.text != probe), [key for key, text in known if text != probe]
    yield select(n.id for n in Note if n.text < probe), [key for key, text in known if text < probe]
    yield select(n.id for n in Note if n.text in (probe, "x")), [key for key, text in known if text in {probe, "x"}]
    listed = [probe, None]
    yield select(n.id for n in Note if n.text in listed), [key for key, text in texts if text in listed]
    yield select(n.id for n in Note if probe in n.text), [key for key, text in known if probe in text]
    yield select(n.id for n in Note if probe not in n.text), [key for key, text in known if probe not in text]
    yield select(n.id for n in Note if n.text in probe), [key for key, text in known if text in probe]
    yield select(n.id for n in Note if n.text.startswith(probe)), [key for key, text in known if text.startswith(probe)]
    yield select(n.id for n in Note if n.text.endswith(probe)), [key for key, text in known if text.endswith(probe)]
    yield select(n.id for n in Note if probe.startswith(n.text)), [key for key, text in known if probe.startswith(text)]
    yield (
        select(n.text + probe for n in Note),
        [text and text + probe if text is None else text + probe for _, text in texts],
    )
    yield select(f"{n.text}{probe}" for n in Note if n.text != None), [text + probe for _, text in known]  # noqa: E711
    yield (
        select(concat(probe, n.text, "%s?") for n in Note if n.text),
        [f"{probe}{text}%s?" for _, text in known if text],
    )
    yield select((n.text, len(n.text)) for n in Note if n.text is not None), [(text, len(text)) for _, text in known]
    yield select(n.text[1:3] for n in Note if n.text is not None), [text[1:3] for _, text in known]
    yield select(n.text[-2:] for n in Note if n.text is not None), [text[-2:] for _, text in known]
    yield (
        select(n.text if n.text != probe else "'; --" for n in Note if n.text is not None),
        [text if text != probe else "'; --" for _, text in known],
    )
    yield (
        select(n.id for n in Note if n.above.text == probe),
        [key for (key, _), (_, above) in zip(texts[1:], texts, strict=False) if above == probe],
    )
    yield (
        select(n.id for n in Note if exists(b for b in n.below if b.text == probe)),
        [key for (key, _), (_, below) in pairwise(texts) if below == probe],
    )
    yield select((n.text, count(n)) for n in Note), list(Counter(text for _, text in texts).items())
    yield (
        select((n.text == probe, count(n)) for n in Note),
        list(Counter(text if text is None else text == probe for _, text in texts).items()),
    )
    yield Note.select(lambda n: n.text == probe), [note for note in made if note.text == probe]
    yield Note.select(Note.text == probe), [note for note in made if note.text == probe]
    yield Note.select(text=probe), [note for note in made if note.text == probe]
    yield (
        select(n for n in Note).filter(lambda n: probe in n.text),
        [note for note in made if probe in (note.text or "") and note.text is not None],
    )


def by_key(Note, made, probe):
    """Yield queries with *probe* as a key and a value of documents, and what they should give."""
    found = [(note.id, note.text, {"t": note.text, note.text or "": 1}) for note in made]
    yield select(n.id for n in Note if n.data[probe] == 1), [key for key, _, data in found if data.get(probe) == 1]
    yield select(n.data[probe] for n in Note), [data.get(probe) for _, _, data in found]
    yield select(n.id for n in Note if probe in n.data), [key for key, _, data in found if probe in data]
    yield select(n.id for n in Note if probe not in n.data), [key for key, _, data in found if probe not in data]
    yield select(n.id for n in Note if n.data["t"] == probe), [key for key, text, data in found if data["t"] == probe]


def comparable(results):
    """Return *results* in an order of their own."""
    return sorted(map(repr, results))


@pytest.mark.parametrize("queries", [by_text, by_key])
def test_any_text_is_a_value(Note, queries):
    """Quotes, percent signs, backslashes, placeholders, keywords: in a value all of them are characters."""

    @settings(max_examples=80, deadline=None, database=None, derandomize=True, suppress_health_check=FIXTURE)
    @given(st.lists(st.one_of(TEXTS, st.none()), min_size=1, max_size=6), TEXTS, st.integers(0, 9))
    def run(texts, other, which):
        with db_session:
            probe = texts[which] if which < len(texts) and texts[which] is not None else other
            made = fill(Note, texts)
            for query, expected in queries(Note, made, probe):
                assert comparable(query) == comparable(expected), (probe, query.get_sql())

    run()


def test_texts_are_ordered_by_their_characters(Note):
    """order_by() orders texts as Python does, and NULL as the database does."""

    @settings(max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=FIXTURE)
    @given(st.lists(TEXTS, min_size=1, max_size=6))
    def run(texts):
        with db_session:
            fill(Note, texts)
            *_, last = in_order = sorted(texts)
            assert select(n.text for n in Note).order_by(1).fetch() == in_order
            assert select(n.text for n in Note).order_by(lambda text: desc(text)).first() == last
            assert max(n.text for n in Note) == last
            assert sorted(group_concat((n.text for n in Note), texts[0])) == sorted(texts[0].join(texts))

    run()


def test_no_value_is_part_of_the_sql(Note):
    """The SQL of a query is the same whatever texts it is given, constants in its source included."""
    with db_session:
        fill(Note, ["a"])
        made = Note.select().fetch()
        for queries in (by_text, by_key):
            with_mark = [query.get_sql() for query, _ in queries(Note, made, MARK + "'%s?\\;$1:name--")]
            assert with_mark == [query.get_sql() for query, _ in queries(Note, made, "b")]
            assert not [sql for sql in with_mark if MARK in sql]
        constants = select(
            (n.text + "Zq7'", f"{n.text}Zq7%s", 4711, n.text.strip("Zq7"))
            for n in Note
            if n.text not in ("Zq7?", "Zq7;")
            and not n.text.startswith("Zq7\\")
            and n.id != 4711
            and "Zq7" not in n.data
        )
        assert constants.fetch() == [("aZq7'", "aZq7%s", 4711, "a")]
        assert "Zq7" not in constants.get_sql()
        assert "4711" not in constants.get_sql()


def test_deleting_by_a_text_deletes_no_more(Note):
    """delete(... for ...) with any text deletes what equals it."""

    @settings(max_examples=30, deadline=None, database=None, derandomize=True, suppress_health_check=FIXTURE)
    @given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS, st.booleans())
    def run(texts, other, known):
        probe = texts[0] if known else other
        with db_session:
            Note.select().delete(bulk=True)
            for text in texts:
                Note(text=text)
            assert delete(n for n in Note if n.text == probe) == texts.count(probe)
            assert comparable(select(n.text for n in Note)) == comparable([text for text in texts if text != probe])

    run()


@pytest.mark.parametrize("text", ["\0", "a\0b"])
def test_nul_is_refused(Note, text):
    """PostgreSQL has no NUL in texts, so it is refused everywhere, with an error that says so."""
    with db_session:
        with pytest.raises(ValueError, match="NUL"):
            Note(text=text)
        for make in (
            lambda: select(n for n in Note if n.text == text),
            lambda: select(n for n in Note if text in n.text),
            lambda: select(n.text + text for n in Note),
            lambda: select(f"{n.text}{text}" for n in Note),
            lambda: select(n for n in Note if n.text.startswith(text)),
            lambda: select(n for n in Note if n.text.upper() == text),
            lambda: select(n for n in Note if n.data[text] == 1),
            lambda: select(n for n in Note if text in n.data),
            lambda: select(text for n in Note),
            lambda: select(n for n in Note if n.text in [text, "a"]),
            lambda: select(n for n in Note if n.data["t"] == text),
        ):
            with pytest.raises(ValueError, match="NUL"):
                make().fetch()


# --- names ----------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6),
    st.sampled_from(["select", "from", "order", "group", "user", "table", "case", "a", "b", "x", "t", "count", "n-1"]),
)


def declare(db, table, column):
    """Declare entities whose tables and columns have strange names."""

    class Owner(db.Entity):
        _table_ = "o" + table
        kind = Discriminator(str, column="k" + column)
        name = Required(str, column="n" + column)
        items = Set("Item")

    class Boss(Owner):
        rank = Optional(int, column="r" + column)

    class Item(db.Entity):
        _table_ = "i" + table
        one = Required(int, column="1" + column)
        two = Required(str, column="2" + column)
        PrimaryKey(one, two)
        owner = Optional(Owner, column="w" + column)
        price = Required(int, column="p" + column)
        likes = Set("Item", reverse="liked", table="l" + table)
        liked = Set("Item", reverse="likes")

    db.generate_mapping(create_tables=True)
    return SimpleNamespace(Owner=Owner, Boss=Boss, Item=Item)


def ask(entities):
    """Ask for what joins, groups, orders, filters and counts over all the names."""
    Owner, Boss, Item = entities.Owner, entities.Boss, entities.Item
    with db_session:
        ann, bob = Owner(name="Ann"), Boss(name="Bob", rank=3)
        first, second = Item(one=1, two="x", owner=ann, price=5), Item(one=1, two="y", owner=bob, price=7)
        third = Item(one=2, two="x", price=9)
        first.likes.add([second, third])
    with db_session:
        assert comparable(select((i.owner.name, i.price) for i in Item)) == comparable(
            [("Ann", 5), ("Bob", 7), (None, 9)]
        )
        assert comparable(select((o.name, sum(o.items.price), count(o.items)) for o in Owner)) == comparable(
            [("Ann", 5, 1), ("Bob", 7, 1)]
        )
        assert comparable(select((o.name, sum(i.price)) for o in Owner for i in o.items)) == comparable(
            [("Ann", 5), ("Bob", 7)]
        )
        assert select(i.two for i in Item for j in i.likes if j.price > 6).fetch() == ["x"]
        assert select(j.price for i in Item for j in i.likes).order_by(-1).fetch() == [9, 7]
        assert select(o.name for o in Owner if isinstance(o, Boss) and o.rank == 3).fetch() == ["Bob"]
        assert select(i.price for i in Item if i in (j for j in Item if j.liked)).order_by(1).fetch() == [7, 9]
        assert select(i for i in Item).order_by(lambda i: (desc(i.owner.name), i.one)).count() == 3
        assert exists(o for o in Owner if not o.items) is False
        assert Item.select(lambda i: i.owner.name == "Bob").update(price=lambda i: i.price + 1) == 1
        assert select(i.price for i in Item if i.owner is not None).order_by(1).fetch() == [5, 8]
        assert delete(i for i in Item if i.price > 8) == 1


@settings(max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=FIXTURE)
@given(table=NAMES, column=NAMES)
def test_any_name_in_a_query(db_url, table, column):
    """Whatever tables and columns are called, queries join, group, order and filter by them."""
    db = Database(db_url)
    try:
        entities = declare(db, table, column)
        ask(entities)
        db.drop_all_tables(with_all_data=True)
    finally:
        db.close()


def test_names_that_are_keywords(db):
    """Entities and attributes may have the names of SQL's keywords, and letters of any alphabet."""

    class Order(db.Entity):
        group = Required(str)
        limit = Optional(int)
        offset = Optional("Select")

    class Select(db.Entity):
        where = Required(str)
        größe = Optional(int)  # noqa: PLC2401
        orders = Set(Order)

    db.generate_mapping(create_tables=True)
    with db_session:
        one = Select(where="here", größe=3)
        Order(group="a", limit=1, offset=one)
        Order(group="a", limit=5)
        Order(group="b")
    with db_session:
        assert comparable(select((o.group, sum(o.limit), count(o.offset)) for o in Order)) == comparable(
            [("a", 6, 1), ("b", 0, 0)]
        )
        assert select(o.offset.where for o in Order if o.offset.größe == 3).fetch() == ["here"]
        assert select((s.größe, max(s.orders.limit)) for s in Select).fetch() == [(3, 1)]
        assert [o.group for o in Order.select().order_by(desc(Order.group), Order.limit)] == ["b", "a", "a"]
