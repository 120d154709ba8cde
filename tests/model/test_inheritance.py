"""Hierarchies of entities: one table, a discriminator, and objects that are what their rows say."""

from __future__ import annotations

from enum import Enum

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    Discriminator,
    ERDiagramError,
    ObjectNotFound,
    Optional,
    PrimaryKey,
    Required,
    Set,
    db_session,
)
from tests.counting import counted


@pytest.fixture
def people(db):
    """People: some are students, some teachers; a tutor is a student who teaches. Badges refer to people."""

    class Person(db.Entity):
        name = Required(str)
        notes = Optional(str, lazy=True)
        badges = Set("Badge")

    class Student(Person):
        year = Required(int)
        essay = Optional(str, lazy=True)

    class Tutor(Student):
        hours = Required(int, default=4)

    class Teacher(Person):
        subject = Required(str)

    class Badge(db.Entity):
        owner = Required(Person)

    db.generate_mapping(create_tables=True)
    with db_session:
        for person in (
            Person(name="Pam", notes="n"),
            Student(name="Sam", year=1, essay="e"),
            Tutor(name="Tom", year=3),
            Teacher(name="Ted", subject="Art"),
        ):
            Badge(owner=person)
    return db


def entities(db, *names):
    """Return the classes called *names*, or all four of the hierarchy."""
    return [db.entities[name] for name in names or ("Person", "Student", "Tutor", "Teacher")]


def names(objects):
    """Return the names of *objects*, sorted."""
    return sorted(obj.name for obj in objects)


# --- the discriminator --------------------------------------------------------------------------------


def test_a_hierarchy_lies_in_one_table(people):
    """The root's table has the columns of every class; those of subclasses take NULL, and ``classtype`` tells."""
    table = people.backend.dialect.table_name("Person")
    with db_session:
        rows = people.select(f'SELECT classtype, name, year, hours, subject FROM "{table}" ORDER BY id')
    assert list(map(tuple, rows)) == [
        ("Person", "Pam", None, None, None),
        ("Student", "Sam", 1, None, None),
        ("Tutor", "Tom", 3, 4, None),
        ("Teacher", "Ted", None, None, "Art"),
    ]
    assert people.schema_sql().count("CREATE TABLE") == 2


def test_objects_are_what_their_rows_say(people):
    """24. A query for a class gives its objects and those of its subclasses, each as what it is."""
    Person, Student, Tutor, Teacher = entities(people)
    with db_session:
        assert [type(person) for person in Person.select().order_by(Person.id)] == [Person, Student, Tutor, Teacher]
        assert names(Student.select()) == ["Sam", "Tom"]
        assert names(Tutor.select()) == ["Tom"]
        assert (Student.select().count(), Teacher.select(name="Tom").count(), Tutor.exists(year=3)) == (2, 0, True)
        assert Student.select(Student.year > 1).first().hours == 4


def test_get_by_key(people):
    """24. A key is one space for the hierarchy: Base[id] is the subclass object, Other[id] is not there."""
    Person, Student, Tutor, Teacher = entities(people)
    for first in (Person, Student, Tutor):
        with db_session:
            tom = first[3]
            assert type(tom) is Tutor
            with counted(people) as sent:
                assert tom is Person[3] is Student[3] is Tutor.get(id=3) is Person.get(id=3)
                assert Teacher.get(id=3) is None
                with pytest.raises(ObjectNotFound, match=r"Teacher\[3\]"):
                    Teacher[3]
            assert sent.statements == 0
    with db_session:
        assert Teacher.get(id=3) is None
        assert type(Person[3]) is Tutor


def test_attributes_of_subclasses(people):
    """A subclass has its own attributes and those above; a base class has only its own."""
    Person, Tutor, Teacher = entities(people, "Person", "Tutor", "Teacher")
    with db_session:
        assert list(Tutor[3].to_dict()) == ["id", "name", "year", "hours"]
        with pytest.raises(TypeError, match="unexpected attribute 'year' of Person"):
            Person(name="x", year=1)
        with pytest.raises(AttributeError, match="Teacher has no attribute 'hours'"):
            Teacher[4].hours = 2
        with pytest.raises(ValueError, match=r"Tutor\.year is required"):
            Tutor(name="x")
        Tutor[3].set(name="Tim", hours=5)
    with db_session:
        assert (Person[3].name, Person[3].hours) == ("Tim", 5)
        Tutor[3].delete()
    with db_session:
        assert names(Person) == ["Pam", "Sam", "Ted"]


def test_conditions_on_attributes_of_subclasses(people):
    """A query for the base class may ask for an attribute of a subclass; others do not match."""
    Person, Student, Tutor, Teacher = entities(people)
    with db_session:
        assert names(Person.select(Student.year >= 1)) == ["Sam", "Tom"]
        assert names(Person.select((Tutor.hours == 4) | (Teacher.subject == "Art"))) == ["Ted", "Tom"]
        assert names(Student.select(Person.name == "Sam")) == ["Sam"]
        assert [person.name for person in Person.select().order_by(Person.name.desc())] == ["Tom", "Ted", "Sam", "Pam"]
        with pytest.raises(TypeError, match="'hours'"):
            Person.select(hours=4)


def test_a_declared_discriminator(db):
    """``Discriminator`` chooses column and type, ``_discriminator_`` the value of each class."""

    class Animal(db.Entity):
        kind = Discriminator(int, column="k")
        _discriminator_ = 1
        name = Required(str)

    class Dog(Animal):
        _discriminator_ = 20

    class Puppy(Dog):
        _discriminator_ = 21

    db.generate_mapping(create_tables=True)
    with db_session:
        animals = [Animal(name="a"), Dog(name="d"), Puppy(name="p")]
        assert [animal.kind for animal in animals] == [1, 20, 21]
    with db_session:
        assert [(type(a), a.kind) for a in Animal.select().order_by(Animal.id)] == [(Animal, 1), (Dog, 20), (Puppy, 21)]
        assert names(Dog.select()) == ["d", "p"] == names(Animal.select(Animal.kind >= 20))


def test_the_discriminator_may_be_an_enum(db):
    """Values of an Enum travel as they do elsewhere."""

    class Kind(Enum):
        CAT = "c"
        DOG = "d"

    class Animal(db.Entity):
        kind = Discriminator(Kind)
        _discriminator_ = Kind.CAT

    class Dog(Animal):
        _discriminator_ = Kind.DOG

    db.generate_mapping(create_tables=True)
    with db_session:
        Animal(), Dog()
    with db_session:
        assert [(type(animal), animal.kind) for animal in Animal.select().order_by(Animal.id)] == [
            (Animal, Kind.CAT),
            (Dog, Kind.DOG),
        ]
        assert Dog.select().count() == 1


def test_a_row_does_not_change_what_it_is(db):
    """The discriminator is given by the class, and refuses every other value."""

    class Animal(db.Entity):
        kind = Discriminator(str)

    class Dog(Animal):
        pass

    db.generate_mapping(create_tables=True)
    with db_session:
        animal = Animal(kind="Animal")
        with pytest.raises(
            ValueError, match=r"Animal\.kind says which entity a row is, and is 'Animal' for every Animal"
        ):
            Animal(kind="Dog")
        with pytest.raises(ValueError, match=r"Animal\.kind says which entity a row is"):
            animal.kind = "Dog"
    with db_session:
        assert [type(animal) for animal in Animal] == [Animal]


def test_two_classes_cannot_have_the_same_value(db):
    """Discriminator values tell the classes of a hierarchy apart."""

    class Animal(db.Entity):
        kind = Discriminator(str)

    class Dog(Animal):
        _discriminator_ = "Animal"

    with pytest.raises(ERDiagramError, match="Dog and Animal have the same discriminator value 'Animal'"):
        db.generate_mapping()


def test_an_attribute_called_classtype(db):
    """The hidden discriminator gives way to an attribute that the user calls ``classtype``, or says that it cannot."""

    class Animal(db.Entity):
        classtype = Required(int)

    class Dog(Animal):
        pass

    with pytest.raises(ERDiagramError, match=r"Animal\.classtype.*Discriminator"):
        db.generate_mapping()


def test_a_row_of_no_known_class(people):
    """A row whose discriminator no class has is an object of the class that was asked for."""
    Person, Student, *_ = entities(people)
    table = people.backend.dialect.table_name("Person")
    with db_session:
        people.execute(f"UPDATE \"{table}\" SET classtype = 'Gone' WHERE id = 2")
    with db_session:
        assert type(Person[2]) is Person
        assert names(Student.select()) == ["Tom"]


# --- references ---------------------------------------------------------------------------------------


def test_a_reference_turns_out_to_be_of_a_subclass(people):
    """24. Of what a reference refers to only the key is known; it becomes what it is when it is loaded."""
    Person, Tutor = entities(people, "Person", "Tutor")
    Badge = people.entities["Badge"]
    with db_session:
        owner = Badge[3].owner
        assert owner == Badge[3].owner and repr(owner) == "Person[3]"
        assert owner.name == "Tom"
        assert type(owner) is Tutor and repr(owner) == "Tutor[3]"
        assert (owner.hours, owner.year) == (4, 3)
        assert Person[3] is owner is Tutor[3]


@pytest.mark.parametrize("way", ["get", "index", "subclass", "query", "load", "assign", "to_dict", "lazy"])
def test_every_way_to_load_makes_it_what_it_is(people, way):
    """24. However the object of a hollow reference is loaded, it is the same object, of its own class."""
    Person, Student, Tutor, Teacher = entities(people)
    Badge = people.entities["Badge"]
    with db_session:
        owner = Badge[3].owner
        assert type(owner) is Person
        if way == "get":
            assert Student.get(id=3) is owner
        elif way == "index":
            assert Person[3] is owner
        elif way == "subclass":
            assert Teacher.get(id=3) is None
            assert Tutor[3] is owner
        elif way == "query":
            assert list(Tutor.select()) == [owner]
        elif way == "load":
            owner.load()
        elif way == "assign":
            owner.name = "Tim"
            assert Tutor.get(name="Tim") is owner
        elif way == "to_dict":
            assert owner.to_dict()["name"] == "Tom"
        elif way == "lazy":
            assert owner.notes is None
        assert type(owner) is Tutor
        assert (owner.hours, owner.year) == (4, 3)


def test_a_blind_change_of_a_hollow_reference_is_saved(people):
    """36. An object of which only the key is known can be changed without being loaded, whatever it is."""
    Badge, Tutor = entities(people, "Badge", "Tutor")
    with counted(people) as sent:
        with db_session:
            Badge[3].owner.name = "Tim"
    assert sent.round_trips == 2
    with db_session:
        assert (Tutor[3].name, Tutor[3].hours) == ("Tim", 4)


def test_references_are_loaded_together(people):
    """The rule against N+1: one touch loads what all the others refer to, each as what it is."""
    Person, Student, Tutor, Teacher = entities(people)
    Badge = people.entities["Badge"]
    with db_session:
        badges = list(Badge.select().order_by(Badge.id))
        with counted(people) as sent:
            assert [badge.owner.name for badge in badges] == ["Pam", "Sam", "Tom", "Ted"]
            assert [type(badge.owner) for badge in badges] == [Person, Student, Tutor, Teacher]
        assert sent.round_trips == 1


# --- lazy attributes, detached objects ------------------------------------------------------------------


def test_lazy_attributes_in_a_hierarchy(people):
    """Lazy attributes of every class are left out until they are read, or load() asks for all."""
    Person, Student = entities(people, "Person", "Student")
    with db_session:
        with counted(people) as sent:
            everybody = list(Person.select().order_by(Person.id))
        assert sent.statements == 1
        with counted(people) as sent:
            assert (everybody[0].notes, everybody[1].essay) == ("n", "e")
        assert sent.statements == 2
    with db_session:
        sam = Person[2]
        sam.load()
    assert (sam.essay, sam.notes) == ("e", None)
    with db_session:
        owner = people.entities["Badge"][2].owner
        owner.load()
    assert owner.essay == "e"
    with db_session:
        sam = Student[2]
    with pytest.raises(DatabaseSessionIsOver, match=r"Student\[2\]\.essay"):
        sam.essay


def test_methods_and_hooks_of_subclasses(db):
    """A hierarchy is one of classes: methods are inherited and overridden, hooks too."""
    seen = []

    class Animal(db.Entity):
        name = Required(str)

        def sound(self):
            return "..."

        def before_insert(self):
            seen.append(f"animal {self.name}")

    class Dog(Animal):
        def sound(self):
            return f"{super().sound()} Woof"

        def before_insert(self):
            super().before_insert()
            seen.append(f"dog {self.name}")

    db.generate_mapping(create_tables=True)
    with db_session:
        Animal(name="a"), Dog(name="d")
    assert seen == ["animal a", "animal d", "dog d"]
    with db_session:
        assert [animal.sound() for animal in Animal.select().order_by(Animal.id)] == ["...", "... Woof"]


# --- what a hierarchy may look like ---------------------------------------------------------------------


def test_siblings_may_share_a_column(db):
    """Two subclasses with a like attribute share its column; with another type they cannot."""

    class Shape(db.Entity):
        pass

    class Square(Shape):
        size = Required(int)

    class Circle(Shape):
        size = Required(int)
        place = Optional(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Square(size=1), Circle(size=2, place="x")
    with db_session:
        assert [(type(shape), shape.size) for shape in Shape.select().order_by(Shape.id)] == [(Square, 1), (Circle, 2)]
        assert Circle.get(size=2).place == "x" and Circle.get(size=1) is None


def test_siblings_with_unlike_columns_are_refused(db):
    """One column cannot have two types; column= makes it two."""

    class Shape(db.Entity):
        pass

    class Square(Shape):
        size = Required(int)

    class Label(Shape):
        size = Required(str)

    with pytest.raises(ERDiagramError, match=r"Square\.size and Label\.size share the column 'size' with other types"):
        db.generate_mapping()


@pytest.mark.parametrize("case", ["twice", "key", "two tables", "diamond", "mixin"])
def test_what_a_hierarchy_cannot_have(db, case):
    """An attribute twice, a key of its own, parents in two tables, two parents in one: refused with the class."""

    class Animal(db.Entity):
        name = Required(str)

    class Dog(Animal):
        pass

    class Cat(Animal):
        pass

    class Plant(db.Entity):
        pass

    bodies = {
        "twice": ((Animal,), {"name": Required(str)}, r"Bad\.name is declared twice, in Bad and in a base of it"),
        "key": ((Animal,), {"code": PrimaryKey(str)}, r"Bad\.code: .* the key of Animal"),
        "two tables": ((Animal, Plant), {}, "Bad inherits from Animal and Plant, which lie in different tables"),
        "diamond": ((Dog, Cat), {}, "Bad inherits from Dog and Cat"),
        "mixin": ((Dog, Animal), {}, None),
    }
    bases, body, message = bodies[case]
    if message is None:
        type(Animal)("Good", bases, body)
        db.generate_mapping(create_tables=True)
        return
    with pytest.raises(ERDiagramError, match=message):
        type(Animal)("Bad", bases, body)
    assert "Bad" not in db.entities


def test_a_deep_hierarchy_keeps_its_layout(db):
    """Attributes of every level hold in each class, with their options, and rows of one class do not disturb others."""

    class A(db.Entity):
        a = Required(int, unique=True)

    class D(A):
        d = Optional("C", reverse="ds")

    class B(A):
        b = Optional("B", reverse="bs")
        bs = Set("B", reverse="b")

    class C(B):
        c = Required(int)
        ds = Set(D)

    db.generate_mapping(create_tables=True)
    with db_session:
        bee = B(a=1)
        sea = C(a=2, b=bee, c=20)
        D(a=3, d=sea)
    with db_session:
        assert [type(obj) for obj in A.select().order_by(A.a)] == [B, C, D]
        assert list(B.get(a=1).bs) == [C.get(a=2)]
        assert D.get(a=3).d.b is A.get(a=1)
        assert [d.a for d in C.get(c=20).ds] == [3]
        C.get(a=2).set(a=5, b=C.get(a=2))
    with db_session:
        assert [(obj.a, obj.b.a) for obj in C] == [(5, 5)]
