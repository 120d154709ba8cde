"""Declarations that cannot be: wrong names, wrong options, classes that contradict themselves."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession import (
    Discriminator,
    Entity,
    ERDiagramError,
    Json,
    MappingError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    Version,
    composite_index,
    composite_key,
    db_session,
)

# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["get", "select", "set", "delete", "flush", "load", "to_dict", "get_pk", "exists", "mro"]
)
def test_reserved_names(db, name):
    """An attribute cannot have the name of something that every entity has; column= keeps the name in the table."""
    with pytest.raises(ERDiagramError, match=f"User.{name}: an attribute cannot have the name .* column={name!r}"):
        type(db.Entity)("User", (db.Entity,), {name: Required(str)})
    assert "User" not in db.entities

    class User(db.Entity):
        other = Required(str, column=name)

    db.generate_mapping(create_tables=True)
    with db_session:
        User(other="x")
    with db_session:
        assert User.get(other="x").to_dict() == {"id": 1, "other": "x"}


@pytest.mark.parametrize("name", ["_private", "__odd__"])
def test_names_with_an_underscore(db, name):
    """Names that begin with an underscore are ours."""
    with pytest.raises(ERDiagramError, match=f"User.{name}: an attribute cannot have the name"):
        type(db.Entity)("User", (db.Entity,), {name: Required(str)})


WRONG_AT_ONCE = [
    (lambda: Required(str, uniqe=True), r"Required\(str\) does not take uniqe; did you mean 'unique'"),
    (lambda: Set("User", unique=True), r"Set\(User\) does not take unique"),
    (lambda: Required(int, default=1, sql_default="1"), "default= .* or sql_default= .* not both"),
    (lambda: Required("User", column="a", columns=["b"]), "column= or columns=, not both"),
    (lambda: Required(str, 1, 2), r"takes 1 more positional argument.* \(max_len\), not 2"),
    (lambda: Required(datetime, 1, 2), "takes 0 more positional arguments"),
    (lambda: Required(str, 10, max_len=20), "max_len is given twice"),
    (lambda: Required(), "python"),
    (lambda: PrimaryKey(Required(int), Required(int), auto=True), "takes no options, but got auto"),
]


@pytest.mark.parametrize(("declare", "message"), WRONG_AT_ONCE)
def test_a_wrong_declaration_is_a_type_error_on_its_line(declare, message):
    """What can be seen from the declaration alone is a TypeError where it stands."""
    with pytest.raises(TypeError, match=message):
        declare()


class Mixed(Enum):
    A = 1
    B = "b"


WRONG_IN_CLASS = [
    (lambda: {"x": Required(object)}, r"User\.x: object is no type that can be stored; there are int, str"),
    (lambda: {"x": Required(Mixed)}, r"User\.x: the values of Mixed must be all str or all int"),
    (lambda: {"x": Set(str)}, r"User\.x: Set\(\) takes an entity or its name"),
    (lambda: {"x": Required(int, size=12)}, r"User\.x: size must be one of \(8, 16, 24, 32, 64\)"),
    (lambda: {"x": Required(Decimal, 2, 4)}, r"User\.x: scale \(4\) cannot be larger than precision"),
    (lambda: {"x": Required(int, default="many")}, r"the default of User\.x does not fit: .*must be an int"),
    (lambda: {"x": Required(str, default="")}, r"the default of User\.x does not fit: .*empty"),
    (lambda: {"x": Required(int, max_len=4)}, r"User\.x: int does not take max_len"),
    (lambda: {"x": Required(str, precision=4)}, r"User\.x: str does not take precision"),
    (lambda: {"x": Required(str, tz=True)}, r"User\.x: str does not take tz"),
    (lambda: {"x": Required(Json, min=1)}, r"User\.x: Json does not take min"),
    (lambda: {"x": Required(str, cascade_delete=True)}, r"User\.x: str does not take cascade_delete"),
    (lambda: {"x": Required(UUID, reverse="y")}, r"User\.x: UUID does not take reverse"),
    (lambda: {"x": Required("User", max_len=4)}, r"User\.x: a reference does not take max_len"),
    (lambda: {"x": Required(str, columns=["a", "b"])}, r"User\.x: .*one column"),
    (lambda: {"x": Required(int, auto=True)}, r"User\.x: auto=True is for .*key"),
    (lambda: {"x": Required(str, "40")}, r"User\.x: max_len must be a whole number above 0, not '40'"),
    (lambda: {"x": Required(str, 0)}, r"User\.x: max_len must be a whole number above 0, not 0"),
    (lambda: {"x": Required(Decimal, -1)}, r"User\.x: precision must be a whole number, not -1"),
    (lambda: {"x": Required(int, min="1")}, r"User\.x: min must be a number, not '1'"),
    (lambda: {"x": Required(int, py_check=5)}, r"User\.x: py_check must be a function, not 5"),
    (lambda: {"x": Required(int, sql_default=lambda: 5)}, r"User\.x: sql_default must be SQL text"),
    (lambda: {"x": Required(int, index=5)}, r"User\.x: index must be True, False or a name, not 5"),
    (lambda: {"x": PrimaryKey(str, auto=True)}, r"User\.x: auto=True is for int keys"),
    (lambda: {"x": PrimaryKey(int), "y": PrimaryKey(int)}, "User has 2 primary keys"),
    (lambda: {"id": Required(int)}, "User has an attribute 'id' that is no PrimaryKey"),
    (lambda: {"v": Version(), "w": Version()}, "User has several Version attributes, v and w"),
    (lambda: {"v": Discriminator(str), "w": Discriminator(str)}, "User has several Discriminator attributes, v and w"),
    (lambda: {"v": Discriminator(int)}, r"User\.v must be an int.*_discriminator_"),
]


@pytest.mark.parametrize(("body", "message"), WRONG_IN_CLASS)
def test_a_declaration_that_contradicts_itself_is_refused_with_its_class(db, body, message):
    """What is wrong with a class is an ERDiagramError when it is made, and the class is not registered."""
    with pytest.raises(ERDiagramError, match=message):
        type(db.Entity)("User", (db.Entity,), body())
    assert db.entities == {}


def test_wrong_composites(db):
    """Composite keys take two or more attributes of the same class, which are values or references."""
    with pytest.raises(ERDiagramError, match="two or more attributes"):
        composite_key(Required(str))
    with pytest.raises(ERDiagramError, match="attributes declared above it in the same class body, not 'name'"):
        composite_index("name", Required(str))
    with pytest.raises(ERDiagramError, match="same class body"):
        composite_key(Required(str), Set("Order"))
    with pytest.raises(ERDiagramError, match="part of the primary key, so it has to be Required"):

        class Seat(db.Entity):
            row = Required(int)
            letter = Optional(str)
            PrimaryKey(row, letter)

    with pytest.raises(ERDiagramError, match="auto=True is for a key of one attribute"):

        class Line(db.Entity):
            row = Required(int, auto=True)
            letter = Required(str)
            PrimaryKey(row, letter)


def test_composites_of_what_has_no_column(db):
    """The end of a one-to-one relation that has no column cannot be part of a key or an index."""

    class Person(db.Entity):
        name = Required(str)
        card = Optional("Card")
        composite_index(name, card)

    class Card(db.Entity):
        person = Required(Person)

    with pytest.raises(ERDiagramError, match=r"Person\.card has no column, since Card\.person has it"):
        db.generate_mapping()


def test_a_class_that_belongs_nowhere(db):
    """An entity belongs to a database, has a name of its own there, and comes before generate_mapping()."""
    with pytest.raises(ERDiagramError, match=r"User belongs to no database: write class User\(Entity, db=db\)"):

        class User(Entity):
            name = Required(str)

    def declare(name):
        return type(db.Entity)(name, (db.Entity,), {"name": Required(str)})

    declare("User")
    with pytest.raises(ERDiagramError, match="there is an entity User in this database already"):
        declare("User")
    with pytest.raises(MappingError, match=r"User has no mapping yet: call db\.generate_mapping\(\)"), db_session:
        db.entities["User"](name="x")
    db.generate_mapping(create_tables=True)
    with pytest.raises(MappingError, match=r"Late was declared after generate_mapping\(\)"):
        declare("Late")
    with pytest.raises(MappingError, match="was called already"):
        db.generate_mapping()
    with pytest.raises(ERDiagramError, match="__slots__"):
        type(db.Entity)("Slotted", (db.Entity,), {"__slots__": ("x",)})
