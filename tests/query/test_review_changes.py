"""Changes of many rows, and what a left join gives: who is changed is who the query shows, and each once."""

from __future__ import annotations

import pytest

from dbsession import (
    ConstraintError,
    Optional,
    Required,
    Set,
    commit,
    count,
    db_session,
    flush,
    left_join,
    max,
    raw_sql,
    rollback,
    select,
    sum,
)


@pytest.fixture
def office(db):
    """Ann, the boss of Bob, has two orders and the friend Bob; Bob, the boss of Dan, has one order; Cid has nothing."""

    class User(db.Entity):
        name = Required(str)
        age = Required(int)
        boss = Optional("User", reverse="staff")
        staff = Set("User", reverse="boss")
        orders = Set("Order")
        friends = Set("User", reverse="friends")

    class Order(db.Entity):
        user = Optional(User)
        total = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        ann = User(name="Ann", age=50)
        bob = User(name="Bob", age=30, boss=ann)
        flush()  # so that the keys are in this order
        User(name="Cid", age=20)
        User(name="Dan", age=45, boss=bob)
        flush()
        for user, total in ((ann, 10), (ann, 20), (bob, 30), (None, 5)):
            flush()
            Order(user=user, total=total)
        ann.friends.add(bob)
    return User, Order


def ages(User):
    return select((u.name, u.age) for u in User).order_by(1).fetch()


# --- None in a left join ------------------------------------------------------------------------------------


def test_none_stands_in_the_results_of_a_left_join(office):
    """A left join for the variable of a collection gives None for each owner who has nothing, however it is read."""
    User, Order = office
    with db_session:
        query = left_join(o for u in User for o in u.orders if u.name != "Dan")
        found = query.order_by(lambda: (u.name, o.total)).fetch()  # noqa: F821
        assert found == [Order[1], Order[2], Order[3], None]
        assert sorted(map(repr, query.stream(batch=1))) == ["None", "Order[1]", "Order[2]", "Order[3]"]
        nobody = left_join(o for u in User for o in u.orders if o is None)
        assert nobody.fetch() == [None, None]
        assert nobody.first() is None
        assert nobody.count() == 2
        assert list(nobody.prefetch(Order.user)) == [None, None]
        assert left_join(f for u in User for f in u.friends if u.name == "Cid").fetch() == [None]


def test_none_is_shown_as_none(office, capsys):
    """The table that show() prints has a row for None."""
    User, _ = office
    with db_session:
        left_join(o for u in User for o in u.orders if u.name == "Cid").show()
    assert capsys.readouterr().out.splitlines()[-1].split() == ["None", "None", "None"]


def test_what_may_be_none_is_not_changed(office):
    """delete(), update() and for_update() of a left join that gives None are refused before anything is sent."""
    User, Order = office
    with db_session:
        query = left_join(o for u in User for o in u.orders)
        for change in (query.delete, lambda: query.delete(bulk=True), lambda: query.update(total=1), query.for_update):
            with pytest.raises(TypeError, match=r"gives None .* use select\(\.\.\.\) instead of left_join"):
                change()
        assert Order.select().count() == 4
        assert select(o for u in User for o in u.orders).update(total=1) == 3


# --- who is changed -----------------------------------------------------------------------------------------


def test_a_left_join_changes_those_it_shows(office):
    """update() and delete(bulk=True) of a left join reach those for whom the loop finds nothing, and nobody else."""
    User, _ = office
    with db_session:
        query = left_join(u for u in User for o in u.orders if o is None)
        assert query.order_by(User.name).fetch() == [User[3], User[4]]
        assert query.update(age=1) == 2
        assert query.update(age=lambda u: u.age + count(u.staff) + 1) == 2
        assert ages(User) == [("Ann", 50), ("Bob", 30), ("Cid", 2), ("Dan", 2)]
        assert left_join(u for u in User for o in u.orders).update(age=User.age + 1) == 4
        assert ages(User) == [("Ann", 51), ("Bob", 31), ("Cid", 3), ("Dan", 3)]
        assert query.delete(bulk=True) == 2
        assert [name for name, _ in ages(User)] == ["Ann", "Bob"]


def test_each_object_is_deleted_once(office):
    """delete() counts different objects, and leaves out None, in bulk and one by one."""
    User, Order = office
    for bulk in (False, True):
        with db_session:
            assert select(o.user for o in Order).delete(bulk=bulk) == 2
            assert select(u.name for u in User).order_by(1).fetch() == ["Cid", "Dan"]
            rollback()
    with db_session:
        assert select(u for u in User for o in u.orders).without_distinct().delete() == 2
        assert User.select().count() == 2


def test_values_are_not_deleted(office):
    """delete() and update() of values are refused before anything is sent or deleted."""
    User, _ = office
    with db_session:
        for query in (select(u.name for u in User), select((u, u.name) for u in User)):
            for change in (query.delete, lambda: query.delete(bulk=True), lambda: query.update(age=1)):  # noqa: B023
                with pytest.raises(TypeError, match="only objects can be deleted or updated"):
                    change()
        assert User.select().count() == 4


def test_all_are_deleted_or_none(db):
    """If one of the objects cannot go, none does; those that go before it do not hold it."""

    class Firm(db.Entity):
        name = Required(str)
        head = Optional("Firm", reverse="parts")
        parts = Set("Firm", reverse="head")
        cars = Set("Car", cascade_delete=False)

    class Car(db.Entity):
        firm = Required(Firm)

    db.generate_mapping(create_tables=True)
    with db_session:
        one = Firm(name="A")
        two = Firm(name="B", head=one)
        flush()
        Car(firm=two)
    with db_session:
        with pytest.raises(ConstraintError, match="cannot be deleted"):
            Firm.select().order_by(Firm.name).delete()
        commit()
        assert select(f.name for f in Firm).order_by(1).fetch() == ["A", "B"]
        car = Car.select().first()
        car.delete()
        assert Firm.select().order_by(Firm.name).delete() == 2
        commit()
        assert (Firm.select().count(), Car.select().count()) == (0, 0)


# --- what new values are made of ----------------------------------------------------------------------------


def test_new_values_are_made_of_what_was_there_before(office):
    """A new value from other rows of the same table does not see those that the same UPDATE has changed."""
    User, _ = office
    with db_session:
        assert User.select().update(age=lambda u: sum(x.age for x in User if x.id == u.id - 1)) == 4
        assert ages(User) == [("Ann", 0), ("Bob", 50), ("Cid", 30), ("Dan", 20)]
        rollback()
        ann = User[1]
        assert (
            User.select(User.id > 1).update(age=lambda u: sum(u.staff.age) + count(x for x in User if x.age > u.age))
            == 3
        )
        assert ages(User) == [("Ann", 50), ("Bob", 45 + 2), ("Cid", 3), ("Dan", 1)]
        rollback()
        assert ann.age == 50
        assert User.select().update(age=lambda u: max(x.age for x in User) - u.age) == 4
        assert ages(User) == [("Ann", 0), ("Bob", 20), ("Cid", 30), ("Dan", 5)]


def test_new_values_of_the_users_own_sql_are_made_of_what_was_there_before(office):
    """A subquery in raw SQL does not see changed rows either."""
    User, _ = office
    with db_session:
        table = User._mapping_.quoted
        User.select().update(
            age=lambda u: u.id + raw_sql(f"(SELECT coalesce(sum(x.age), 0) FROM {table} x WHERE x.id = u.id - 1)", int)
        )
        assert ages(User) == [("Ann", 1), ("Bob", 52), ("Cid", 33), ("Dan", 24)]


def test_only_the_rows_that_are_changed_are_locked(office):
    """The rows of a many-to-many collection are changed by what they refer to, or locked before, whoever else is joined."""
    User, _ = office
    with db_session:
        friends = select(f for u in User for f in u.friends).without_distinct()
        assert friends.update(age=lambda u: u.age + 1 if u.boss is None else u.boss.age) == 2
        assert ages(User) == [("Ann", 51), ("Bob", 50), ("Cid", 20), ("Dan", 45)]
        assert friends.for_update().update(age=7) == 2
        assert ages(User) == [("Ann", 7), ("Bob", 7), ("Cid", 20), ("Dan", 45)]
