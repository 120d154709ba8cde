"""What queries ask for, exactly: of one database, with each result once, of whole groups, in the order asked for."""

from __future__ import annotations

import pytest

from dbsession import Database, Optional, Required, Set, count, db_session, desc, exists, max, raw_sql, select, sum


@pytest.fixture
def shop(db):
    """Two companies, four users (Dan is of none), four orders (one of nobody)."""

    class Company(db.Entity):
        name = Required(str)
        users = Set("User")

    class User(db.Entity):
        name = Required(str)
        age = Required(int)
        company = Optional(Company)
        orders = Set("Order")

    class Order(db.Entity):
        user = Optional(User)
        total = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        a, b = Company(name="A"), Company(name="B")
        ann, bob = User(name="Ann", age=50, company=a), User(name="Bob", age=30, company=a)
        User(name="Cid", age=20, company=b)
        User(name="Dan", age=45)
        for user, total in ((ann, 10), (ann, 20), (bob, 30), (None, 5)):
            Order(user=user, total=total)
    return db


@pytest.fixture
def elsewhere(shop):
    """Another database, with a table of the same name."""
    other = Database("sqlite://")

    class Guest(other.Entity):
        _table_ = shop.entities["User"]._mapping_.quoted.strip('"')
        name = Required(str)

    other.generate_mapping(create_tables=True)
    with db_session:
        Guest(name="Bob")
    return other


def test_no_statement_asks_two_databases(shop, elsewhere):
    """A subquery over another database is an error, also where this one has a table of that name; nothing is deleted."""
    User, Guest = shop.entities["User"], elsewhere.entities["Guest"]
    with db_session:
        names = select(g.name for g in Guest)
        wrong = [
            lambda: User.select(lambda u: u.name in names).delete(bulk=True),
            lambda: User.select(lambda u: u.name in names).delete(),
            lambda: User.select(lambda u: u.name in names).update(age=1),
            lambda: User.select().update(age=lambda u: max(g.id for g in Guest if g.name == u.name)),
            lambda: select(u for u in User if exists(g for g in Guest if g.name == u.name)).fetch(),
            lambda: select((u.name, max(g.id for g in Guest if g.name == u.name)) for u in User).fetch(),
            lambda: select(u for u in User if u.name not in names).count(),
        ]
        for ask in wrong:
            with pytest.raises(TypeError, match="User and Guest are in different databases"):
                ask()
        assert User.select().count() == 4
        found = names.fetch()
        assert select(u.name for u in User if u.name in found).fetch() == ["Bob"]


def test_sql_of_ones_own_sees_unsaved_changes(shop):
    """raw_sql() may name any table, so everything unsaved is sent before."""
    Order, User = shop.entities["Order"], shop.entities["User"]
    table = shop.entities["User"]._mapping_.quoted
    with db_session:
        User.select(name="Bob").first().age = 98
        condition = f"exists(select 1 from {table} x where x.age = 98)"
        assert select(o for o in Order if raw_sql(condition)).count() == 4
        User.select(name="Bob").first().age = 97
        condition = f"exists(select 1 from {table} x where x.age = 97)"
        assert select(o for o in Order if raw_sql(condition)).delete(bulk=True) == 4


def test_nothing_is_reordered_or_merged_behind_a_limit(shop):
    """SQL limits last, so order_by(), distinct() and without_distinct() behind limit() are errors; first() is none."""
    User = shop.entities["User"]
    with db_session:
        youngest = User.select().order_by(User.age).limit(2)
        names = select(u.company.name for u in User).order_by(1).limit(2)
        for ask in (
            lambda: youngest.order_by(desc(User.age)),
            lambda: youngest.order_by(None),
            lambda: names.distinct(),
            lambda: names.without_distinct(),
            lambda: youngest.filter(User.age > 1),
            lambda: youngest.random(1),
        ):
            with pytest.raises(TypeError, match=r"\(\) behind limit\(\) would not choose from its results"):
                ask()
        assert youngest.first().name == "Cid"
        assert User.select().limit(3, 1).first().name == "Bob"
        assert (names.count(), youngest.sum(User.age)) == (2, 50)


def test_not_in_a_limited_or_grouped_query_leaves_none_out(shop):
    """A None among the values of a limited or grouped query does not make `not in` unknown for everything."""
    Order, User, Company = (shop.entities[name] for name in ("Order", "User", "Company"))
    with db_session:
        limited = select(o.user for o in Order).limit(10)
        assert {u.name for u in select(u for u in User if u not in limited)} == {"Cid", "Dan"}
        grouped = select(u.company for u in User if count(u) > 0)
        assert select(c for c in Company if c in grouped).count() == 2
        assert select(c for c in Company if c not in grouped).count() == 0
        oldest = select(max(u.age) for u in User if u.age > 100)
        assert select(u for u in User if u.age not in oldest).count() == 4
        by_order = select(o.user for o in Order).order_by(lambda: count(o))  # noqa: F821
        assert {u.name for u in select(u for u in User if u not in by_order)} == {"Cid", "Dan"}


def test_exists_skips_what_the_offset_does(shop):
    """exists() of distinct results leaves out as many results as the query does, and not the only row of a probe."""
    Company, User = shop.entities["Company"], shop.entities["User"]
    with db_session:
        for offset, is_there in ((0, True), (1, True), (3, True), (4, False)):
            query = select(u.name for u in User).distinct().limit(10, offset)
            assert query.exists() is is_there
            assert bool(query.fetch()) is is_there
            assert select(c for c in Company if exists(query)).count() == (2 if is_there else 0)
        ordered = select(u.name for u in User).distinct().order_by(1)
        assert ordered.exists()
        assert select(c for c in Company if exists(ordered)).count() == 2
        assert "DISTINCT" not in select(c for c in Company if exists(ordered)).get_sql()
        groups = select(u.company for u in User).order_by(lambda: count(u)).limit(10, 3)  # noqa: F821
        assert (groups.count(), groups.exists(), len(groups.fetch())) == (0, False, 0)
        assert select(u.company for u in User).order_by(lambda: count(u)).count() == 3  # noqa: F821


def test_aliases_differ_in_what_postgresql_keeps_of_them(shop):
    """PostgreSQL cuts names behind 63 bytes; loop variables that begin alike are told apart."""
    User = shop.entities["User"]
    with db_session:
        pairs = select(
            (
                a_loop_variable_whose_name_is_longer_than_sixty_three_characters_x.name,
                a_loop_variable_whose_name_is_longer_than_sixty_three_characters_y.name,
            )
            for a_loop_variable_whose_name_is_longer_than_sixty_three_characters_x in User
            for a_loop_variable_whose_name_is_longer_than_sixty_three_characters_y in User
            if a_loop_variable_whose_name_is_longer_than_sixty_three_characters_x.age
            > a_loop_variable_whose_name_is_longer_than_sixty_three_characters_y.age
        ).fetch()
        assert len(pairs) == 6
        assert ("Ann", "Cid") in pairs


def test_an_order_by_another_loop_multiplies_nothing(shop):
    """What a result, which comes once, may have several of orders it by an aggregate, or without_distinct()."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        buyers = select(u for u in User for o in u.orders)
        with pytest.raises(
            TypeError, match=r"cannot be ordered by o\.total, of which each may have several; order by an"
        ):
            buyers.order_by(lambda: desc(o.total)).fetch()  # noqa: F821 - the loop variable
        by_most = buyers.order_by(lambda: desc(max(o.total)))  # noqa: F821
        assert [u.name for u in by_most] == ["Bob", "Ann"]
        each = buyers.without_distinct().order_by(lambda: desc(o.total))  # noqa: F821
        assert [u.name for u in each] == ["Bob", "Ann", "Ann"]
        owned = select(o.total for u in User for o in u.orders).order_by(lambda: (desc(u.name), o.total))  # noqa: F821
        assert owned.fetch() == [30, 10, 20]
        left = select(o.total for o in Order if o.user.name != "Bob").order_by(lambda: desc(o.total))  # noqa: F821
        assert left.fetch() == [20, 10]


def test_a_group_has_one_value_of_what_stands_beside_its_aggregates(shop):
    """Subqueries and collections beside an aggregate are grouped by the objects whose they are, or refused."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        each = select((u.company.name, count(u) + count(u.orders)) for u in User if u.company is not None)
        assert sorted(each) == [("A", 2), ("A", 3), ("B", 1)]
        each = select((u.name, count(u) + sum(o.total for o in Order if o.user == u and o.total < u.age)) for u in User)
        assert sorted(each) == [("Ann", 31), ("Bob", 1), ("Cid", 1), ("Dan", 1)]
        with pytest.raises(TypeError, match="has many values in a group of"):
            select((u.company, count(u)) for u in User if count(u) > count(u.orders)).fetch()
        with pytest.raises(TypeError, match="has many values in a group of"):
            select((u.company, count(u)) for u in User).order_by(lambda: max(o.id for o in u.orders)).fetch()  # noqa: F821
        smaller = select(
            (u.company, count(u))
            for u in User
            if count(u) < max(x.id for x in User) and count(u) >= count(x for x in User if x.company == u.company)
        )
        assert {company.name: number for company, number in smaller if company is not None} == {"A": 2, "B": 1}


def test_sql_of_ones_own_beside_an_aggregate_is_refused(shop):
    """Nobody knows what raw_sql() looks at, so that SQLite would take any row's; within an aggregate it can stand."""
    User = shop.entities["User"]
    with db_session:
        for ask in (
            lambda: select((count(u), raw_sql("u.name")) for u in User).fetch(),
            lambda: select(u.company for u in User if count(u) > raw_sql("u.age", int)).fetch(),
        ):
            with pytest.raises(TypeError, match=r"raw_sql\('u\.\w+'\) stands beside aggregates"):
                ask()
        assert select((count(u), max(raw_sql("u.age", int))) for u in User).fetch() == [(4, 50)]


def test_objects_of_a_path_come_in_their_order(shop):
    """distinct() and groups of what a path leads to are ordered by its key, as first() does it."""
    Order, User = shop.entities["Order"], shop.entities["User"]
    with db_session:
        buyers = select(o.user for o in Order if o.user is not None)
        assert buyers.distinct().first().name == "Ann"
        assert [u.name for u in buyers.distinct().order_by(-1)] == ["Bob", "Ann"]
        company, number = select((u.company, count(u)) for u in User if u.company is not None).first()
        assert (company.name, number) == ("A", 2)
        groups = select((u.company, count(u)) for u in User if u.company is not None).order_by(lambda c, _: desc(c))
        assert [(c.name, n) for c, n in groups] == [("B", 1), ("A", 2)]
        assert "JOIN" not in select(u.company.id for u in User).order_by(1).get_sql()
