"""Relations of every kind between objects in no session: both ends agree, and go on agreeing when they are attached."""

import copy
import pickle

import pytest

from dbsession import Database, MappingError, Optional, Required, Session, Set, db_session
from tests.observing import elsewhere


@pytest.fixture
def zoo(db):
    """People who are married and friends, with animals of two classes, and what their hooks have noted."""
    return make_zoo(db)


def make_zoo(db):
    """Declare the entities in *db*, under names that pickle finds, and save a few objects."""

    class Person(db.Entity):
        name = Required(str)
        spouse = Optional("Person", reverse="spouse")
        friends = Set("Person", reverse="friends")
        animals = Set("Animal")
        noted: list[str] = []

        def before_insert(self):
            self.noted.append(f"insert {self.name}")

        def before_update(self):
            self.noted.append(f"update {self.name}")

        def after_delete(self):
            self.noted.append(f"delete {self.name}")

    class Animal(db.Entity):
        name = Required(str)
        owner = Optional(Person)
        liked_by = Set("Dog")

    class Dog(Animal):
        breed = Optional(str)
        likes = Optional(Animal, reverse="liked_by")

    for entity in (Person, Animal, Dog):
        entity.__qualname__ = entity.__name__
        globals()[entity.__name__] = entity
    db.generate_mapping(create_tables=True)
    with db_session:
        ann, bob, cid = (Person(name=name) for name in ("ann", "bob", "cid"))
        ann.spouse = bob
        cid.friends = [ann, bob]
        Dog(name="rex", owner=ann, breed="beagle")
    Person.noted.clear()
    return Person, Animal, Dog


def people(Person):
    """Return all people, with what belongs to them loaded and read."""
    found = Person.select().order_by(Person.name).fetch()
    for person in found:
        person.to_dict(with_collections=True)
    return found


def shown(Person):
    """Return what the database has of the people."""
    with db_session:
        return {
            person.name: (person.spouse and person.spouse.name, sorted(friend.name for friend in person.friends))
            for person in Person.select()
        }


@pytest.mark.parametrize("again", [copy.deepcopy, lambda objects: pickle.loads(pickle.dumps(objects))])
def test_relations_that_are_their_own_reverse(zoo, again):
    """39. Of copies, too, both ends of such a relation agree at once; whoever is left behind comes along."""
    Person, *_ = zoo
    with db_session:
        ann, bob, cid = people(Person)
    ann, bob, cid = again((ann, bob, cid))
    assert ann.spouse is bob and bob.spouse is ann and ann in cid.friends
    ann.spouse = cid
    ann.friends.remove(cid)
    ann.friends.add(bob)
    assert bob.spouse is None and cid.spouse is ann and ann not in cid.friends and ann in bob.friends
    with db_session as session:
        session.attach(cid)
        assert ann in session and bob in session
    assert shown(Person) == {"ann": ("cid", ["bob"]), "bob": (None, ["ann", "cid"]), "cid": ("ann", ["bob"])}
    assert sorted(Person.noted) == ["update ann", "update bob", "update cid"]


def test_a_transient_spouse(zoo):
    """A transient end of such a relation is told of by `add`: only then whoever was there before gives way."""
    Person, *_ = zoo
    session = Session(Person._mapping_.gateway.database)
    ann, bob, cid = people_of(session, Person)
    new = Person(name="new", spouse=ann, friends=[cid])
    assert ann.spouse is bob and new not in cid.friends
    session.add(new)
    assert ann.spouse is new and bob.spouse is None and new in cid.friends
    session.commit()
    session.close()
    assert shown(Person) == {
        "ann": ("new", ["cid"]), "bob": (None, ["cid"]), "cid": (None, ["ann", "bob", "new"]), "new": ("ann", ["cid"]),
    }  # fmt: skip
    assert Person.noted[0] == "insert new"


def people_of(session, Person):
    """Return the people as objects of *session*."""
    return [session.get(Person, name=name) for name in ("ann", "bob", "cid")]


def test_a_reference_to_a_base_class(zoo):
    """24. A copy that is known by its key alone turns out to be of a subclass once it is attached and loaded."""
    Person, Animal, Dog = zoo
    with db_session:
        Dog[1].likes = Dog(name="tim", breed="collie")
    with db_session:
        rex = copy.copy(Dog[1])
    tim = rex.likes
    assert type(tim) is Animal
    with db_session as session:
        session.attach(rex)
        assert (tim.name, type(tim), tim.breed) == ("tim", Dog, "collie") and tim is Animal[2]
    with db_session:
        ann = Person.get(name="ann")
        ann.animals.load()
    (rex,) = copy.deepcopy(ann).animals
    assert type(rex) is Dog and rex.breed == "beagle"
    rex.breed = "poodle"
    with db_session as session:
        session.add(rex)
        assert Animal[1] is rex
    with db_session:
        assert Dog[1].breed == "poodle" and Dog[1].owner.name == "ann"


def test_a_deleted_copy_runs_its_hooks(zoo):
    """57. The hooks of a delete run when it is saved, and who referred to it refers to nothing."""
    Person, Animal, _ = zoo
    with db_session:
        ann, *_ = people(Person)
    ann = copy.deepcopy(ann)
    (rex,) = ann.animals
    ann.delete()
    assert rex.owner is None
    with db_session as session:
        session.attach(ann)
    assert "delete ann" in Person.noted
    with db_session:
        assert Animal[1].owner is None and Person.get(name="ann") is None


def test_objects_in_no_session_belong_to_no_thread(zoo):
    """114. Copies and transient objects may be changed in any thread, and attached in another."""
    Person, *_ = zoo
    with db_session:
        ann = copy.copy(Person.get(name="ann"))
    elsewhere(lambda: ann.set(name="anna"))

    def save():
        with db_session as session:
            session.attach(ann)

    elsewhere(save)
    assert "anna" in shown(Person)


def test_linking_many_one_by_one(zoo):
    """Objects that are linked one after the other make one graph, whichever side of the link is the larger one."""
    Person, *_ = zoo
    session = Session(Person._mapping_.gateway.database)
    crowd = [Person(name=f"p{number}") for number in range(300)]
    for place in range(299):
        one, other = (crowd[place], crowd[place + 1]) if place % 2 else (crowd[place + 1], crowd[place])
        one.friends.add(other)
    assert len({person._state_.unit for person in crowd}) == 1
    session.add(crowd[150])
    assert len(session.new) == 300
    session.rollback()
    session.close()


def test_a_pickle_before_the_mapping(zoo):
    """A pickle that is read before the mapping is generated says what has to be done first."""
    Person, *_ = zoo
    with db_session:
        data = pickle.dumps(Person.get(name="ann"))
    db = Database("sqlite://")
    unmapped = type(Person)("Person", (db.Entity,), {"name": Required(str), "__module__": __name__})
    globals()["Person"] = unmapped
    with pytest.raises(MappingError, match="generate_mapping"):
        pickle.loads(data)
    db.close()
