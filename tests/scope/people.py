"""People with orders, lines, notes and tags: keys of one part and of several, references in keys, a hierarchy."""

from __future__ import annotations

from types import SimpleNamespace

from dbsession import Database, Optional, PrimaryKey, Required, Set, db_session

__all__ = ["make_people"]


def make_people(db: Database) -> SimpleNamespace:
    """Declare the entities in *db*: Ann has two orders, the first with two lines; Bob has none; Sue is a student."""

    class Person(db.Entity):
        name = Required(str)
        login_count = Required(int, default=0)
        key = Optional(str)
        orders = Set("Order", reverse="user")

        @property
        def shouted(self):
            return self.name.upper()

        @shouted.setter
        def shouted(self, value):
            self.name = value.lower()

        def greet(self, word):
            return f"{word}, {self.name}"

    class Student(Person):
        school = Optional(str)
        essays = Set("Order", reverse="student")

    class Teacher(Person):
        pass

    class Order(db.Entity):
        number = PrimaryKey(str)
        user = Optional(Person)
        student = Optional(Student)
        lines = Set("Line")
        tags = Set("Tag")

    class Line(db.Entity):
        order = Required(Order)
        place = Required(int)
        text = Required(str, default="nothing")
        PrimaryKey(order, place)
        notes = Set("Note")

    class Note(db.Entity):
        line = PrimaryKey(Line)

    class Tag(db.Entity):
        name = PrimaryKey(str)
        orders = Set(Order)

    db.generate_mapping(create_tables=True)
    with db_session:
        ann = Person(name="Ann")
        Person(name="Bob")
        Student(name="Sue", school="MIT")
        first = Order(number="a", user=ann, tags=[Tag(name="x")])
        Order(number="b", user=ann)
        Line(order=first, place=1)
        Note(line=Line(order=first, place=2))
        Tag(name="y")
    return SimpleNamespace(**db.entities, db=db)
