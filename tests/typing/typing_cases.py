"""User code as mypy and pyright see it. It is never run; `test_typing.py` says what they have to answer.

A line with an error says so: ``# error: mypy[code] pyright[rule]``. All other lines are right.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, assert_type

from dbsession import (
    Database,
    DBSession,
    Entity,
    EntityProxy,
    Json,
    Optional,
    PrimaryKey,
    Query,
    Required,
    RetryPolicy,
    Session,
    Set,
    TransactionError,
    Version,
    avg,
    between,
    coalesce,
    count,
    db_session,
    delete,
    desc,
    distinct,
    exists,
    get,
    group_concat,
    left_join,
    make_proxy,
    max,
    min,
    raw_sql,
    savepoint,
    select,
    sum,
    with_transaction,
)
from dbsession.model.expressions import Expression

db = Database("sqlite://")


class User(Entity, db=db):
    name = Required(str, 40)
    email = Required(str, unique=True)
    last_login = Optional(datetime)
    nickname = Optional(str)
    balance = Required(Decimal, 12, 2)
    settings = Required(Json)
    version = Version()
    orders = Set("Order")


class Order(Entity, db=db):
    id = PrimaryKey(int, auto=True)
    user = Required(User)
    coupon = Optional("Coupon")


class Coupon(Entity, db=db):
    code = PrimaryKey(str)
    orders = Set(Order)


# --- attributes of objects -----------------------------------------------------------------------------


def read(user: User, order: Order, coupon: Coupon) -> None:
    assert_type(user.name, str)
    assert_type(user.last_login, datetime | None)
    assert_type(user.nickname, str | None)
    assert_type(user.balance, Decimal)
    assert_type(user.version, int)
    assert_type(coupon.code, str)
    assert_type(order.user, User)
    assert_type(order.user.email, str)
    assert_type(len(coupon.orders), int)
    for each in coupon.orders:
        assert_type(each, Order)
    for any_order in user.orders:
        print(any_order.id)
    print(user.id, order.id)  # `id` is there whether it is declared or not
    print(user.settings["theme"])
    user.nmae  # error: mypy[attr-defined] pyright[reportAttributeAccessIssue]
    user.last_login.year  # error: mypy[union-attr] pyright[reportOptionalMemberAccess]


def change(user: User, order: Order) -> None:
    user.name = "Ann"
    user.last_login = None
    user.last_login = datetime(2026, 1, 1)
    user.settings = {"theme": "dark"}
    order.user = user
    user.balance = User.balance + 10
    user.nmae = 1  # error: mypy[attr-defined] pyright[reportAttributeAccessIssue]
    user.name = 1  # error: mypy[assignment] pyright[reportAttributeAccessIssue]
    user.name = None  # error: mypy[assignment] pyright[reportAttributeAccessIssue]
    user.last_login = "today"  # error: mypy[assignment] pyright[reportAttributeAccessIssue]
    order.user = order  # error: mypy[assignment] pyright[reportAttributeAccessIssue]


# --- verbs of classes ------------------------------------------------------------------------------------


def find() -> None:
    assert_type(User(name="Ann", email="ann@example.com"), User)
    assert_type(User[1], User)
    assert_type(User[1].name, str)
    assert_type(User.get(name="Ann"), User | None)
    assert_type(User.get_for_update(name="Ann"), User | None)
    assert_type(User.exists(name="Ann"), bool)
    User.get(name="Ann").name  # error: mypy[union-attr] pyright[reportOptionalMemberAccess]
    User.gte(name="Ann")  # error: mypy[attr-defined] pyright[reportAttributeAccessIssue]


def keep(key: int) -> None:
    user: User = User[key]
    assert_type(user.name, str)
    User[key].name = "Ann"
    # Without the annotation mypy takes the line for the definition of a type alias, as with every class that
    # is no Enum. pyright does not.
    alias = User[1]  # error: mypy[type-arg] mypy[valid-type]
    print(alias)


def choose() -> None:
    for user in User.select():
        assert_type(user, User)
    for user in User.select(User.last_login > datetime(2026, 1, 1), User.name.startswith("A")):
        assert_type(user, User)
    query = User.select().filter(name="Ann").order_by(User.name, desc(User.last_login))
    assert_type(query.first(), User | None)
    assert_type(query.count(), int)
    assert_type(query.exists(), bool)
    assert_type(list(query[0:10]), list[User])
    assert_type([user.email for user in query], list[str])
    assert_type(list(Coupon["x"].orders.select()), list[Order])
    assert_type(query.update(name="x", balance=User.balance + 1), int)
    assert_type(query.update(bump_version=True, last_login=None), int)
    assert_type(query.delete(bulk=True), int)
    assert_type(User.select_by_sql("SELECT id FROM user WHERE name = %s", ["Ann"]), list[User])
    assert_type(User.get_by_sql("SELECT id FROM user WHERE name = %(name)s", {"name": "Ann"}), User | None)
    User.select_by_sql(1)  # error: mypy[arg-type] pyright[reportArgumentType]


def ask() -> None:
    assert_type(Order.user.name, Expression[Any])
    Order.select((Order.user.name == "Ann") & (Order.user.balance > 5), count(User.orders) > 1)
    Order.select().order_by(desc(Order.user.name), Order.user.email)
    query = User.select().where(name="Ann").prefetch(Order, User.orders, User.settings)
    assert_type(query.first(), User | None)
    assert_type(query.page(2, pagesize=20).fetch(), list[User])
    assert_type(query.random(3), list[User])
    assert_type(query.distinct().without_distinct().order_by(-1).count(), int)
    assert_type(query.sum(User.balance), Decimal)
    assert_type(query.min(User.balance), Decimal | None)
    assert_type(query.max(User.last_login), datetime | None)
    assert_type(query.avg(User.version), float | None)
    assert_type(query.group_concat(", ", expression=User.name), str | None)
    assert_type(query.max(), User | None)
    assert_type(query.max(lambda user: user.last_login), datetime | None)
    assert_type(query.sum(lambda user: user.balance), Decimal)
    assert_type(query.get_sql(), str)
    query.show(80)
    print(query.sum("balance") + 1)
    query.page("2")  # error: mypy[arg-type] pyright[reportArgumentType]
    query.prefetch("orders")  # error: mypy[arg-type] pyright[reportArgumentType]
    query.random()  # error: mypy[call-arg] pyright[reportCallIssue]
    query.max(3)  # error: mypy[call-overload] pyright[reportCallIssue] pyright[reportArgumentType]


def ask_of(ages: Query[int], pairs: Query[tuple[str, int]]) -> None:
    assert_type(ages.max(), int | None)
    assert_type(ages.distinct().fetch(), list[int])
    assert_type(pairs.order_by(-2).first(), tuple[str, int] | None)
    assert_type(pairs.page(1).random(2), list[tuple[str, int]])
    for name, age in pairs.where(lambda: True):
        assert_type(name, str)
        assert_type(age, int)
    assert_type(User.select().stream(), Iterator[User])
    assert_type(pairs.stream(batch=100), Iterator[tuple[str, int]])
    pairs.stream("100")  # error: mypy[arg-type] pyright[reportArgumentType]


def generators(limit: Decimal) -> None:
    assert_type(select(u for u in User), Query[User])
    assert_type(select(u for u in User if u.balance > limit and u.name.startswith("A")).first(), User | None)
    assert_type(select(o for c in Coupon for o in c.orders), Query[Order])
    assert_type(select(u.name for u in User), Query[str])
    assert_type(select((u.name, u.last_login) for u in User), Query[tuple[str, datetime | None]])
    assert_type(select((u.name, count(u.orders)) for u in User), Query[tuple[str, int]])
    assert_type(select((c.code, sum(o.user.balance for o in c.orders)) for c in Coupon), Query[tuple[str, Decimal]])
    assert_type(left_join((c, o) for c in Coupon for o in c.orders), Query[tuple[Coupon, Order]])
    assert_type(select(User), Query[User])
    assert_type(get(u for u in User if u.name == "Ann"), User | None)
    assert_type(exists(u for u in User), bool)
    assert_type(count(u for u in User), int)
    assert_type(delete(u for u in User if raw_sql("u.balance < $limit")), int)
    assert_type(sum(u.balance for u in User), Decimal)
    assert_type(max(u.balance for u in User), Decimal)
    assert_type(min(u.last_login for u in User), datetime | None)
    assert_type(avg(u.balance for u in User), float | None)
    assert_type(group_concat(u.name for u in User), str | None)
    for name in distinct(u.name for u in User):
        assert_type(name, str)
    print(select(u for u in User if between(u.balance, 1, limit) and coalesce(u.nickname, u.name) == "A"))
    for user in select(u for u in User).filter(lambda u: u.balance > limit).order_by(lambda u: (u.name, desc(u.id))):
        assert_type(user, User)
    select(1)  # error: mypy[arg-type] pyright[reportArgumentType]
    select(u.nmae for u in User)  # error: mypy[attr-defined] pyright[reportAttributeAccessIssue]


def builtins_of_the_same_name(numbers: list[int], names: list[str], maybe: list[int | None]) -> None:
    assert_type(sum(numbers), int)
    assert_type(sum(n * 2 for n in numbers), int)
    assert_type(max(numbers), int)
    assert_type(max(3, 4), int)
    assert_type(min(names, key=len), str)
    assert_type(min(numbers, default=None), int | None)
    assert_type(count(names), int)
    sum(names, "")  # error: mypy[call-overload] pyright[reportArgumentType]
    max(3)  # error: mypy[call-overload] pyright[reportCallIssue] pyright[reportArgumentType]


# --- scopes ----------------------------------------------------------------------------------------------


@db_session
def rename(user_id: int, name: str = "") -> User:
    """A decorated function keeps its signature."""
    user: User = User[user_id]
    user.name = name
    return user


@db_session(retry=3)
def balance(user_id: int) -> Decimal:
    """With options, too."""
    return User[user_id].balance


class Service:
    @db_session
    def last_login(self, user_id: int) -> datetime | None:
        """A method is a method."""
        return User[user_id].last_login

    @db_session(retry=RetryPolicy(3, deadline=1.5))
    @classmethod
    def of_class(cls, name: str) -> list[str]:
        """Above @classmethod,"""
        return [cls.__name__, name]

    @classmethod
    @db_session
    def of_class_below(cls, name: str) -> list[str]:
        """and under it;"""
        return [cls.__name__, name]

    @db_session
    @staticmethod
    def static(name: str) -> str:
        """above @staticmethod,"""
        return name

    @staticmethod
    @db_session(retry=1)
    def static_below(name: str) -> str:
        """and under it."""
        return name


@db_session
def names(limit: int) -> Iterator[str]:
    """A generator is one still."""
    for user in User.select()[:limit]:
        yield user.name


@db_session(serializable=True)
def total() -> Generator[int, str, Decimal]:
    """What it is sent, and what it returns, has a type, too."""
    name = yield 1
    assert_type(name, str)
    return Decimal(1)


class Greeter:
    def __call__(self, name: str) -> int:
        return len(name)


@with_transaction
def old(user_id: int) -> User:
    """The old name has the same types."""
    return rename(user_id)


@with_transaction(retry=3)
def older(user_id: int) -> User:
    """With options, too."""
    return rename(user_id)


def call_others() -> None:
    assert_type(Service.of_class("a"), list[str])
    assert_type(Service().of_class_below("a"), list[str])
    assert_type(Service.static("a"), str)
    assert_type(Service.static_below("a"), str)
    Service.of_class(1)  # error: mypy[arg-type] pyright[reportArgumentType]
    Service.static(1)  # error: mypy[arg-type] pyright[reportArgumentType]
    for name in names(3):
        assert_type(name, str)
    names("3")  # error: mypy[arg-type] pyright[reportArgumentType]
    assert_type(total(), Generator[int, str, Decimal])
    assert_type(db_session(Greeter())("Ann"), int)
    assert_type(db_session(partial(rename, 1))(), User)
    assert_type(old(1), User)
    assert_type(older(1), User)
    old("1")  # error: mypy[arg-type] pyright[reportArgumentType]
    plain: Callable[[int], User] = older
    print(plain)
    db_session(1)  # error: mypy[call-overload] pyright[reportCallIssue] pyright[reportArgumentType]


def choose_options(level: str) -> None:
    assert_type(db_session(nested="independent", lock_timeout=0.5, isolation="repeatable read"), DBSession)
    assert_type(db_session(retry=RetryPolicy(3), retry_exceptions=(TransactionError,)), DBSession)
    db_session(allowed_exceptions=lambda error: isinstance(error, ValueError))
    db_session(reads_only=True)  # error: mypy[call-overload] pyright[reportCallIssue]
    db_session(read_only="yes")  # error: mypy[call-overload] pyright[reportArgumentType]
    db_session(nested="inner")  # error: mypy[call-overload] pyright[reportArgumentType]
    db_session(isolation=level)  # error: mypy[call-overload] pyright[reportArgumentType]
    db_session.attempts(RetryPolicy(3), immediate=True)
    db_session.attempts("3")  # error: mypy[arg-type] pyright[reportArgumentType]
    db_session.attempts(3, imediate=True)  # error: mypy[call-arg] pyright[reportCallIssue]


@savepoint
def in_a_savepoint(user_id: int) -> User:
    """A decorator as db_session is."""
    with savepoint:
        pass
    with savepoint() as session:
        assert_type(session, Session)
    return User[user_id]


def run_again(user_id: int) -> User | None:
    user: User | None = None
    for attempt in db_session.attempts(retry=3, serializable=True):
        assert_type(attempt.number, int)
        assert_type(attempt.last_error, Exception | None)
        with attempt as session:
            assert_type(session, Session)
            user = User.get(id=user_id)
    return user


def may_end_without_a_return() -> User:  # error: mypy[return] pyright[reportReturnType]
    for attempt in db_session.attempts(retry=3, retry_exceptions=TransactionError):
        with attempt:
            return User[1]


def call() -> None:
    assert_type(rename(1), User)
    assert_type(in_a_savepoint(1), User)
    in_a_savepoint("1")  # error: mypy[arg-type] pyright[reportArgumentType]
    assert_type(rename(user_id=1, name="Ann"), User)
    assert_type(balance(1), Decimal)
    assert_type(Service().last_login(1), datetime | None)
    rename("Ann", 1)  # error: mypy[arg-type] mypy[arg-type] pyright[reportArgumentType] pyright[reportArgumentType]
    rename()  # error: mypy[call-arg] pyright[reportCallIssue]
    balance(1, 2)  # error: mypy[call-arg] pyright[reportCallIssue]
    Service().last_login("Ann")  # error: mypy[arg-type] pyright[reportArgumentType]


def block() -> User:
    with db_session:
        pass
    with db_session as session:
        assert_type(session, Session)
        session.flush()
    with db_session(optimistic=False, immediate=True) as session:
        assert_type(session, Session)
    with db_session:  # a scope swallows no exception, so that this returns in any case
        return User[1]


# --- proxies and export ----------------------------------------------------------------------------------


def proxies(user: User, order: Order) -> None:
    assert_type(make_proxy(user), EntityProxy[User])
    proxy: EntityProxy[User] = EntityProxy(User, 7)
    assert_type(make_proxy(proxy), EntityProxy[User])
    assert_type(EntityProxy(User, (1, "a")), EntityProxy[User])
    assert_type(EntityProxy.from_key(User, proxy.key()), EntityProxy[User])
    assert_type(proxy.get(), User)
    assert_type(proxy.exists(), bool)
    proxy.name  # what a proxy forwards is Any
    proxy.login_count += 1
    order.user = proxy  # error: mypy[assignment] pyright[reportAttributeAccessIssue]
    make_proxy(7)  # error: mypy[call-overload] pyright[reportCallIssue] pyright[reportArgumentType]
    assert_type(user.to_json(indent=2), str)
    assert_type(user.to_dict(only="name", related_objects=True), dict[str, Any])


def merging(session: Session, user: User) -> None:
    assert_type(session.merge(User, {"id": 7, "name": "x"}), User)
    assert_type(session.merge(User, [{"id": 7}, {"name": "x"}]), list[User])
    assert_type(session.merge(user), User)
    assert_type(session.merge([user]), list[User])
    assert_type(make_proxy(user).get(session), User)
