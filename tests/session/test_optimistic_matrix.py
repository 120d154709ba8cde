"""What an UPDATE and a DELETE compare: attribute by attribute, and which objects are exempt, as long as they are."""

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    Json,
    OptimisticCheckError,
    Optional,
    Required,
    Set,
    UnrepeatableReadError,
    Version,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent
from tests.recording import recorded


@pytest.fixture
def entities(db):
    class Team(db.Entity):
        name = Required(str)
        members = Set("Person")

    class Person(db.Entity):
        name = Required(str)
        age = Optional(int)
        nick = Optional(str)
        score = Optional(float)
        checked_score = Optional(float, optimistic=True)
        data = Optional(Json)
        seen = Optional(int, volatile=True)
        clicks = Optional(int, optimistic=False)
        bio = Optional(str, lazy=True)
        team = Optional(Team)
        other = Required(int, default=0)

    class Worker(Person):
        wage = Optional(int)

    class Doc(db.Entity):
        title = Required(str)
        version = Version()
        tags = Set("Tag")
        pages = Set("Page")

    class Tag(db.Entity):
        text = Required(str)
        docs = Set(Doc)

    class Page(db.Entity):
        doc = Required(Doc)

    db.generate_mapping(create_tables=True)
    with db_session:
        team = Team(name="a")
        Team(name="b")
        common = {"score": 0.5, "checked_score": 0.5, "data": {"a": 1}, "seen": 1, "clicks": 1, "bio": "long"}
        Person(name="Ann", age=30, team=team, **common)
        Person(name="Bob", **common)
        Worker(name="Cid", wage=5, **common)
        Doc(title="doc", tags=[Tag(text="x")])
        Tag(text="y")
    return db.entities


def change(entity, key=1, **values):
    """Let somebody else change an object and commit."""
    elsewhere(db_session(lambda: entity[key].set(**values)))


def update(person):
    person.other += 1


def delete(person):
    person.delete()


WRITES = pytest.mark.parametrize("write", [update, delete])

# Attribute, value that was seen, value that somebody else writes.
CHECKED = [
    ("name", "Ann", "Anna"),
    ("age", 30, 31),
    ("age", 30, None),
    ("nick", None, "x"),
    ("nick", None, ""),
    ("checked_score", 0.5, 0.75),
    ("bio", "long", "short"),
]
EXEMPT = [("score", 0.5, 0.75), ("data", {"a": 1}, {"a": 2}), ("seen", 1, 2), ("clicks", 1, 2), ("score", 0.5, None)]


# --- attribute by attribute ---------------------------------------------------------------------------------------


@WRITES
@pytest.mark.parametrize("name, seen, found", CHECKED)
def test_an_attribute_that_was_read_is_compared(db, entities, write, name, seen, found):
    """89, 92. UPDATE and DELETE alike: changed since it was read is a conflict, NULL is a value, and nothing is saved."""
    Person = entities["Person"]
    with pytest.raises(OptimisticCheckError) as caught, db_session:
        person = Person[1]
        assert getattr(person, name) == seen
        change(Person, **{name: found})
        write(person)
    error = caught.value
    assert (error.obj, error.differences) == (person, [(name, seen, found)])
    assert f"Person[1] was changed by somebody else since it was read here ({name}: {seen!r} was seen" in str(error)
    with db_session:
        assert (getattr(Person[1], name), Person[1].other) == (found, 0)


@WRITES
@pytest.mark.parametrize("name, seen, found", CHECKED)
def test_an_attribute_that_was_not_read_is_not(db, entities, write, name, seen, found):
    """95. The same change of an attribute that nobody has looked at is no conflict, and stays."""
    Person = entities["Person"]
    with db_session:
        person = Person[1]
        change(Person, **{name: found})
        write(person)
    with db_session:
        left = Person.get(id=1)
        assert left is None if write is delete else getattr(left, name) == found


@WRITES
@pytest.mark.parametrize("name, seen, found", EXEMPT)
def test_an_attribute_that_is_left_out(db, entities, write, name, seen, found):
    """89. float, Json, volatile and optimistic=False attributes are not compared, though they were read."""
    Person = entities["Person"]
    with db_session:
        person = Person[1]
        assert getattr(person, name) == seen
        change(Person, **{name: found})
        write(person)
    with db_session:
        left = Person.get(id=1)
        assert left is None if write is delete else getattr(left, name) == found


@WRITES
def test_a_reference_is_compared(db, entities, write):
    """89, 92. What was referred to when it was read must be referred to still, by DELETE too."""
    Person, Team = entities["Person"], entities["Team"]
    with pytest.raises(OptimisticCheckError, match="team: 1 was seen, 2 is there now"), db_session:
        person = Person[1]
        assert person.team.name == "a"
        elsewhere(db_session(lambda: Person[1].set(team=Team[2])))
        write(person)


@WRITES
def test_an_object_of_a_subclass_is_compared(db, entities, write):
    """89. What was read of its own attributes and of those of its base class, in one statement."""
    Person, Worker = entities["Person"], entities["Worker"]
    with pytest.raises(OptimisticCheckError) as caught, db_session:
        worker = Person[3]
        assert (worker.wage, worker.name) == (5, "Cid")
        change(Worker, 3, wage=6, name="Cyd")
        write(worker)
    assert sorted(caught.value.differences) == [("name", "Cid", "Cyd"), ("wage", 5, 6)]
    assert "Worker[3]" in str(caught.value)


@pytest.mark.parametrize("look", [lambda p: p.to_dict(), lambda p: p.set(age=p.age), lambda p: p.age and p.load()])
def test_looks_that_count(entities, look):
    """89. to_dict() looks at everything, and assigning what was read does not take the look back."""
    Person = entities["Person"]
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 50 is there now"), db_session:
        person = Person[1]
        look(person)
        change(Person, age=50)
        person.other += 1


def _count_and_copy(person):
    type(person).select().count()
    person.nick = type(person).name


@pytest.mark.parametrize("look", [lambda p: p.get_pk(), repr, lambda p: p.load(), _count_and_copy])
def test_looks_that_do_not(entities, look):
    """95. The key, which stands for the row, loading it, and SQL about its column are no look at the value."""
    Person = entities["Person"]
    with db_session:
        person = Person[1]
        look(person)
        change(Person, age=50)
        person.other += 1
    with db_session:
        assert (Person[1].age, Person[1].other) == (50, 1)


# --- the object among others that failed --------------------------------------------------------------------------


@pytest.mark.parametrize("victim", range(6))
def test_the_one_of_different_statements_is_named(db, entities, victim):
    """91. Inserts, updates of different columns and deletions in one round trip: the error names the one that failed."""
    Person = entities["Person"]
    with db_session:
        for number in range(6):
            Person(name=f"p{number}", age=number)
    with pytest.raises(OptimisticCheckError) as caught, db_session:
        people = Person.select(Person.id > 3).order_by(Person.id).fetch()
        assert [person.age for person in people] == list(range(6))
        Person(name="new")
        people[0].name = "a"
        people[1].nick, people[1].name = "b", "b"
        people[2].delete()
        people[3].other = 5
        people[4].age += 1
        people[5].delete()
        change(Person, people[victim].id, age=99)
    assert caught.value.obj is people[victim]
    assert caught.value.differences == [("age", victim, 99)]
    assert sorted(rows(db, "SELECT age FROM person WHERE id > 3")) == sorted([*set(range(6)) - {victim}, 99])
    assert rows(db, "SELECT count(*) FROM person WHERE name = 'new'") == [0]


@WRITES
def test_one_of_several_that_is_gone(db, entities, write):
    """91, 92. A row of many that was deleted elsewhere: it is named, and the others are not written either."""
    Person = entities["Person"]
    with pytest.raises(OptimisticCheckError, match=r"Person\[2\] was deleted by somebody else") as caught, db_session:
        people = Person.select().order_by(Person.id).fetch()
        for person in people:
            assert person.name
            write(person)
        elsewhere(db_session(lambda: Person[2].delete()))
    assert caught.value.obj is people[1]
    assert rows(db, "SELECT id, other FROM person ORDER BY id") == [(1, 0), (3, 0)]


# --- exempt objects ------------------------------------------------------------------------------------------------


def wheres(statements):
    """Return what the UPDATEs and DELETEs compare, by their text."""
    return [
        statement.sql.partition(" WHERE ")[2].split(" RETURNING")[0]
        for statement in statements
        if statement.sql.startswith(("UPDATE", "DELETE"))
    ]


EXEMPTIONS = {
    "locked": ({}, lambda Person: Person.get_for_update(id=1)),
    "locked by a query": ({}, lambda Person: Person.select(id=1).for_update().first()),
    "new": ({}, lambda Person: _flushed(Person(name="new", age=30))),
    "serializable": ({"serializable": True}, lambda Person: Person[1]),
    "not optimistic": ({"optimistic": False}, lambda Person: Person[1]),
}


def _flushed(person):
    flush()
    return person


@WRITES
@pytest.mark.parametrize("kind", EXEMPTIONS)
def test_exempt_objects_are_written_by_their_key_alone(db, entities, kind, write):
    """93. Locked, new, or read in a serializable transaction: nobody else can have changed it, so nothing is compared."""
    options, find = EXEMPTIONS[kind]
    Person = entities["Person"]
    with db_session(**options):
        person = find(Person)
        assert (person.name, person.age) in (("Ann", 30), ("new", 30))
        with recorded() as statements:
            write(person)
            flush()
        (where,) = wheres(statements)
        assert "age" not in where and "name" not in where and "id" in where
        rollback()


@pytest.mark.parametrize("end", [commit, rollback])
@pytest.mark.parametrize("kind", [kind for kind in EXEMPTIONS if kind not in ("new", "not optimistic")])
def test_an_exemption_ends_with_its_transaction(db, entities, kind, end):
    """93, 65. In the next transaction of the scope what was read before is compared, whatever exempted it."""
    options, find = EXEMPTIONS[kind]
    Person = entities["Person"]
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 50 is there now"), db_session(**options):
        person = find(Person)
        assert person.age == 30
        end()
        assert person.age == 30
        change(Person, age=50)
        person.other = 7


@WRITES
def test_what_this_transaction_has_written_is_not_compared_again(db, entities, write):
    """93. What an UPDATE has set or compared nobody else can change before the commit; what is read later is compared."""
    Person = entities["Person"]
    with db_session:
        person = Person[1]
        assert person.nick is None
        person.age = 31
        flush()
        assert (person.nick, person.age, person.name) == (None, 31, "Ann")
        with recorded() as statements:
            write(person)
            flush()
        (where,) = wheres(statements)
        assert "nick" not in where and "age" not in where
        assert '"name"' in where  # as loaded before the UPDATE, which did not look at it
        rollback()


def test_an_optimistic_scope_compares_by_the_text(db, entities):
    """89. The text of the UPDATE has the attributes that were read beside the key, in a form that takes NULL for a value, and no others."""
    Person = entities["Person"]
    with recorded() as statements, db_session:
        person = Person[1]
        assert (person.age, person.nick, person.score, person.clicks) == (30, None, 0.5, 1)
        person.other = 7
    (where,) = wheres(statements)
    assert '"age" IS ' in where and '"nick" IS ' in where
    assert not any(name in where for name in ("name", "score", "clicks", "other", "data", "seen"))


# --- versions ------------------------------------------------------------------------------------------------------


def test_collections_do_not_bump_the_version(db, entities):
    """90. Links and children that come and go are no change of the row: its version stays."""
    Doc, Tag, Page = entities["Doc"], entities["Tag"], entities["Page"]
    with db_session:
        doc = Doc[1]
        doc.tags.add(Tag[2])
        flush()
        doc.tags.remove(Tag[1])
        page = Page(doc=doc)
        flush()
        page.delete()
        flush()
        assert doc.version == 1
    assert rows(db, "SELECT version FROM doc") == [1]


def test_bulk_deletion_elsewhere_is_a_conflict_of_the_version(db, entities):
    """90, 92. A row with a version that is gone is said to be gone."""
    Doc = entities["Doc"]
    with pytest.raises(OptimisticCheckError, match=r"Doc\[1\] was deleted by somebody else"), db_session:
        doc = Doc[1]
        elsewhere(db_session(lambda: Doc.select().delete(bulk=True)))
        doc.title = "changed"


@WRITES
def test_a_version_is_compared_whatever_was_read(db, entities, write):
    """90. The version stands for the whole row, also where nothing of it was looked at, and for an exempt attribute."""
    Doc = entities["Doc"]
    with pytest.raises(OptimisticCheckError, match="version: 1 was seen, 2 is there now"), db_session:
        doc = Doc[1]
        change(Doc, title="changed")
        doc.set(title="here") if write is update else doc.delete()
    assert rows(db, "SELECT title, version FROM doc") == [("changed", 2)]


def test_versions_of_many(db, entities):
    """90, 91. 50 versions are compared and counted up in one round trip; one conflict among them saves nothing."""
    Doc = entities["Doc"]
    with db_session:
        for number in range(49):
            Doc(title=f"{number}")
    with sent(db) as spent, db_session:
        for doc in Doc.select():
            doc.title += "!"
    assert spent.round_trips == 2
    assert rows(db, "SELECT DISTINCT version FROM doc") == [2]
    with pytest.raises(OptimisticCheckError, match=r"Doc\[7\].*version: 2 was seen, 3 is there now"), db_session:
        for doc in Doc.select():
            doc.title += "?"
        change(Doc, 7, title="changed")
    assert sorted(rows(db, "SELECT DISTINCT version FROM doc")) == [2, 3]
    assert rows(db, "SELECT count(*) FROM doc WHERE title LIKE '%?'") == [0]


# --- after the conflict --------------------------------------------------------------------------------------------


def test_the_work_again_in_a_new_scope(db, entities):
    """96, 85. After a conflict the session is over with its objects; the same work in a new scope is saved."""
    Person = entities["Person"]
    kept = []

    def work(meanwhile=lambda: None):
        with db_session:
            person = Person[1]
            kept.append(person)
            age = person.age
            meanwhile()
            person.age = age + 1

    with pytest.raises(OptimisticCheckError):
        work(lambda: change(Person, age=40))
    with pytest.raises(DatabaseSessionIsOver, match="OptimisticCheckError"):
        kept[0].age = 5
    work()
    assert kept[0] is not kept[1]
    assert rows(db, "SELECT age FROM person WHERE id = 1") == [41]


def test_the_work_again_after_rollback(db, entities):
    """96, 84, 68. After rollback() in the same scope the object shows what is there, and the work is saved."""
    Person = entities["Person"]
    with db_session:
        person = Person[1]
        assert person.age == 30
        change(Person, age=40)
        person.age = 31
        with pytest.raises(OptimisticCheckError):
            commit()
        rollback()
        assert person.age == 40
        assert Person.select(id=1).first() is person
        person.age += 1
    assert rows(db, "SELECT age FROM person WHERE id = 1") == [41]


def test_a_reread_in_the_middle(db, entities):
    """An attribute that was read, and that a query brings with another value, is an UnrepeatableReadError that names both."""
    Person, Team = entities["Person"], entities["Team"]
    with db_session:
        person = Person[1]
        assert (person.nick, person.team.name) == (None, "a")
        elsewhere(db_session(lambda: Person[1].set(nick="x", team=Team[2])))
        with pytest.raises(UnrepeatableReadError, match=r"Person\[1\]\.(nick|team) was read as ") as caught:
            Person.select().fetch()
        assert caught.value.obj is person
        assert person.nick is None
        with pytest.raises(UnrepeatableReadError):  # it does not go away by being asked again
            Person.select().fetch()
        rollback()
        Person.select().fetch()
        assert (person.nick, person.team.name) == ("x", "b")
