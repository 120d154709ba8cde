"""Many-to-many relations, and relations between hierarchies of entities."""

from __future__ import annotations

import pytest

from dbsession import (
    ConstraintError,
    Discriminator,
    ERDiagramError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    db_session,
)
from tests.counting import counted


@pytest.fixture
def school(db):
    """Students and courses."""

    class Student(db.Entity):
        name = Required(str)
        courses = Set("Course")

    class Course(db.Entity):
        title = Required(str)
        students = Set(Student)

    db.generate_mapping(create_tables=True)
    return db


def links(db, table):
    """Return the rows of a link table."""
    with db_session:
        return sorted(map(tuple, db.select(f'SELECT * FROM "{db.backend.dialect.table_name(table)}"')))


def test_links_from_both_sides(school):
    """54. A link is one row, whichever side made it, and both sides of it made it at once."""
    Student, Course = school.entities["Student"], school.entities["Course"]
    with db_session:
        ann, bob = Student(name="Ann"), Student(name="Bob")
        maths, art = Course(title="Maths", students=[ann, bob]), Course(title="Art")
        ann.courses.add(maths)
        ann.courses.add(art, [art])
        assert (set(ann.courses), set(art.students)) == ({maths, art}, {ann})
    assert links(school, "Course_Student") == [(1, 1), (1, 2), (2, 1)]
    with db_session:
        Student[1].courses.remove(Course[2])
        Course[2].students.add(Student[2])
        Student[2].courses.remove(Course[2])
        Student[2].courses.remove(Course[2])
        assert not Course[2].students
    assert links(school, "Course_Student") == [(1, 1), (1, 2)]
    with db_session:
        Course[1].delete()
    assert links(school, "Course_Student") == []
    with db_session:
        assert Student.select().count() == 2 and not Student[1].courses


def test_names_of_link_tables(db):
    """The table is ``<a>_<b>`` with the columns ``a`` and ``b``; table=, column= and reverse_column= choose others."""

    class Tag(db.Entity):
        posts = Set("Post", table="post_tags", column="tag_no", reverse_column="post_no")
        users = Set("User")

    class Post(db.Entity):
        tags = Set(Tag)

    class User(db.Entity):
        tags = Set(Tag)

    db.generate_mapping(create_tables=True)
    with db_session:
        Tag(posts=[Post()], users=[User()])
        assert tuple(db.get("SELECT tag_no, post_no FROM post_tags")) == (1, 1)
        table = db.backend.dialect.table_name("Tag_User")
        assert tuple(db.get(f'SELECT tag, "user" FROM "{table}"')) == (1, 1)


def test_column_names_from_the_other_side(db):
    """``columns`` are those of the side's own entity, from whichever side they are given."""

    class Point(db.Entity):
        x = Required(int)
        y = Required(int)
        PrimaryKey(x, y)
        lines = Set("Line")

    class Line(db.Entity):
        points = Set(Point, column="line_no", reverse_columns=["px", "py"], table="corners")

    db.generate_mapping(create_tables=True)
    with db_session:
        Line(points=[Point(x=1, y=2)])
        assert tuple(db.get("SELECT line_no, px, py FROM corners")) == (1, 1, 2)
    with db_session:
        assert list(Point[1, 2].lines) == [Line[1]]
        assert Point[1, 2] in Line[1].points
        assert Line[1].points.select(Point.x == 1).count() == 1


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ({"table": "a"}, {"table": "b"}, "name different tables for their links: a and b"),
        ({"columns": ["a", "b"]}, {}, "names 2 link columns, but the key has 1"),
    ],
)
def test_wrong_link_options(db, left, right, message):
    """What contradicts itself in a link table is refused."""

    class Tag(db.Entity):
        posts = Set("Post", **left)

    class Post(db.Entity):
        tags = Set(Tag, **right)

    with pytest.raises(ERDiagramError, match=message):
        db.generate_mapping()


def test_a_link_table_cannot_be_the_table_of_an_entity(db):
    """Two things that would lie in one table are refused when the mapping is made."""

    class Tag(db.Entity):
        posts = Set("Post")

    class Post(db.Entity):
        tags = Set(Tag)

    class Post_Tag(db.Entity):  # noqa: N801 - the name is what is tested
        value = Required(int)

    with pytest.raises(ERDiagramError, match="have the same table"):
        db.generate_mapping()


def test_many_to_many_to_oneself(db):
    """A directed relation of an entity to itself has two ends: whom I follow, and who follows me."""

    class User(db.Entity):
        name = Required(str)
        follows = Set("User", reverse="followers")
        followers = Set("User", reverse="follows")

    db.generate_mapping(create_tables=True)
    with db_session:
        ann, bob = User(name="Ann"), User(name="Bob")
        ann.follows.add(bob)
        bob.follows.add(bob)
        assert (set(bob.followers), set(ann.followers)) == ({ann, bob}, set())
    with db_session:
        ann, bob = User[1], User[2]
        assert (list(ann.follows), list(ann.followers)) == ([bob], [])
        assert set(bob.followers) == {ann, bob}
        ann.followers.add(bob)
        bob.followers.remove(bob)
    with db_session:
        ann, bob = User[1], User[2]
        assert (list(ann.follows), list(ann.followers), list(bob.follows)) == ([bob], [bob], [ann])
        bob.delete()
    with db_session:
        assert not User[1].follows and not User[1].followers


def test_symmetric_many_to_many(db):
    """A relation that is its own reverse holds both ways, from whichever end it is made or ended."""

    class User(db.Entity):
        name = Required(str)
        friends = Set("User", reverse="friends")

    db.generate_mapping(create_tables=True)
    with db_session:
        ann, bob, cid = (User(name=name) for name in ("Ann", "Bob", "Cid"))
        ann.friends = [bob, cid]
        cid.friends.add(cid)
        assert (set(bob.friends), set(cid.friends)) == ({ann}, {ann, cid})
    with db_session:
        ann, bob, cid = User.select().order_by(User.id)
        assert (set(ann.friends), set(bob.friends), set(cid.friends)) == ({bob, cid}, {ann}, {ann, cid})
        bob.friends.remove(ann)
        cid.friends.remove(cid)
        assert set(ann.friends) == {cid}
    with db_session:
        ann, bob, cid = User.select().order_by(User.id)
        assert (set(ann.friends), set(bob.friends), set(cid.friends)) == ({cid}, set(), {ann})
        bob.friends.add(ann)
        ann.friends.remove(bob)  # taken back before it was ever sent
        assert ann not in bob.friends
    with db_session:
        assert not User[2].friends


def test_several_many_to_many_relations_have_tables_of_their_own(db):
    """Two relations between the same entities do not share their links."""

    class User(db.Entity):
        likes = Set("Post", reverse="liked_by")
        reads = Set("Post", reverse="read_by")

    class Post(db.Entity):
        liked_by = Set(User, reverse="likes")
        read_by = Set(User, reverse="reads")

    db.generate_mapping(create_tables=True)
    with db_session:
        user, post = User(), Post()
        user.likes.add(post)
    with db_session:
        assert (len(User[1].likes), len(User[1].reads)) == (1, 0)
        assert (len(Post[1].liked_by), len(Post[1].read_by)) == (1, 0)


# --- missing and ambiguous reverses --------------------------------------------------------------------


def declare(db, **entities):
    """Declare entities from dicts of attributes."""
    for name, body in entities.items():
        type(db.Entity)(name, (db.Entity,), body)


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        (
            {"A": {"bs": Set("B")}, "B": {}},
            r"the reverse of A\.bs is missing: declare it in B, for instance  a = Optional\(\"A\"\)",
        ),
        (
            {"A": {"b": Required("B")}, "B": {}},
            r"the reverse of A\.b is missing: declare it in B, for instance  as_ = Set\(\"A\"\)",
        ),
        (
            {"A": {"b": Optional("B")}, "B": {"xs": Set("A"), "ys": Set("A")}},
            r"A\.b has several candidates for its reverse, B\.xs and B\.ys: choose with reverse=",
        ),
        (
            {"A": {"b": Required("B")}, "B": {"a": Required("A")}},
            "cannot both be Required: neither could be saved first",
        ),
        ({"A": {"b": Required("Bee")}, "Bees": {"aa": Set("A")}}, r"A\.b refers to Bee, .* did you mean 'Bees'"),
        ({"A": {"b": Required("B", reverse="nope")}, "B": {"aa": Set("A")}}, r"names B\.nope as its reverse"),
        (
            {"A": {"b": Required("B", reverse="xs"), "c": Required("B", reverse="xs")}, "B": {"xs": Set("A")}},
            "have the same reverse",
        ),
        ({"A": {"b": Required("B", reverse="c")}, "B": {"c": Optional("C")}, "C": {"bs": Set("B")}}, r"refers to C"),
        ({"A": {"me": Required("A", reverse="me")}}, "a required reference cannot be its own reverse"),
        (
            {"A": {"b": Required("B", columns=["x", "y"])}, "B": {"aa": Set("A")}},
            r"names 2 columns, but the key of B has 1",
        ),
    ],
)
def test_relations_that_are_not_clear_are_refused(db, entities, message):
    """A relation whose two ends do not fit together is an ERDiagramError that names both and the way out."""
    declare(db, **entities)
    with pytest.raises(ERDiagramError, match=message):
        db.generate_mapping()


# --- relations and inheritance ---------------------------------------------------------------------------


@pytest.fixture
def zoo(db):
    """Keepers look after animals; a vet, who is a keeper, treats dogs, which are animals."""

    class Keeper(db.Entity):
        kind = Discriminator(str)
        name = Required(str)
        animals = Set("Animal")
        cage = Optional("Cage")

    class Vet(Keeper):
        treats = Set("Dog")
        knows = Set("Dog", reverse="known_by")

    class Animal(db.Entity):
        name = Required(str)
        keeper = Optional(Keeper)

    class Dog(Animal):
        vet = Optional(Vet, reverse="treats")
        known_by = Set(Vet)

    class Cage(db.Entity):
        keeper = Required(Keeper)

    db.generate_mapping(create_tables=True)
    with db_session:
        vet, keeper = Vet(name="Vera"), Keeper(name="Karl")
        Dog(name="Rex", keeper=keeper, vet=vet, known_by=[vet])
        Dog(name="Bo", keeper=vet)
        Animal(name="Leo", keeper=vet)
        Cage(keeper=vet)
    return db


def test_relations_of_a_hierarchy(zoo):
    """24. A relation to a base class may have objects of a subclass at either end."""
    Keeper, Vet, Animal, Dog, Cage = (zoo.entities[name] for name in ("Keeper", "Vet", "Animal", "Dog", "Cage"))
    with db_session:
        vet = Vet.get(name="Vera")
        assert {type(animal) for animal in vet.animals} == {Dog, Animal}
        assert [dog.name for dog in vet.treats] == ["Rex"] == [dog.name for dog in vet.knows]
        assert {keeper.name: len(keeper.animals) for keeper in Keeper} == {"Vera": 2, "Karl": 1}
        assert vet.cage.keeper is vet
    with db_session:
        assert type(Cage[1].keeper) is Keeper  # only its key is known
        cage_keeper = Cage[1].keeper
        assert cage_keeper.name == "Vera" and type(cage_keeper) is Vet
        assert Dog.get(name="Rex").vet is cage_keeper
        assert {keeper.name for keeper in (Dog.get(name="Rex").keeper, Animal.get(name="Leo").keeper)} == {
            "Karl",
            "Vera",
        }


def test_relations_of_a_hierarchy_are_checked(zoo):
    """An object of the base class does not fit where the subclass is asked for."""
    Keeper, Vet, Animal, Dog = (zoo.entities[name] for name in ("Keeper", "Vet", "Animal", "Dog"))
    with db_session:
        karl, rex, leo = Keeper.get(name="Karl"), Dog.get(name="Rex"), Animal.get(name="Leo")
        with pytest.raises(TypeError, match=r"Dog\.vet refers to Vet, not to Keeper"):
            rex.vet = karl
        with pytest.raises(TypeError, match=r"holds Dog, not Animal\[3\]"):
            Vet.get(name="Vera").treats.add(leo)
        with pytest.raises((TypeError, ConstraintError), match="Vet"):
            rex.vet = karl.id  # by its key, and it is known to be no Vet


def test_a_collection_of_a_subclass_is_loaded_at_once(zoo):
    """The rule against N+1 holds for collections and references of subclasses."""
    Keeper, Animal = zoo.entities["Keeper"], zoo.entities["Animal"]
    with db_session:
        for number in range(5):
            Keeper(name=f"K{number}").animals.create(name=f"A{number}")
    with db_session:
        keepers = list(Keeper.select())
        with counted(zoo) as sent:
            assert sum(len(keeper.animals) for keeper in keepers) == 8
        assert sent.round_trips == 2
    with db_session:
        animals = list(Animal.select())
        with counted(zoo) as sent:
            assert len({animal.keeper.name for animal in animals}) == 7
        assert sent.round_trips == 1
