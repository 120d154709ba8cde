"""User code with sessions that one holds, as mypy and pyright see it; see `typing_cases`.

A line with an error says so: ``# error: mypy[code] pyright[rule]``. All other lines are right.
"""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any, assert_type

from dbsession import Database, Entity, Query, Required, Session, Set, sessionmaker
from dbsession.database import RawResult
from dbsession.model.entity import EntityBase

db = Database("sqlite://")


class User(Entity, db=db):
    name = Required(str, 40)
    email = Required(str, unique=True)
    balance = Required(Decimal, 12, 2)
    orders = Set("Order")


class Order(Entity, db=db):
    user = Required(User)


def hold_a_session(user: User, users: list[User]) -> User | None:
    session = Session(db)
    assert_type(session.get(User, 1), User | None)
    assert_type(session.get(User, (1, "a"), for_update=True), User | None)
    assert_type(session.get(User, name="Ann"), User | None)
    assert_type(session.query(User), Query[User])
    assert_type(session.query(User).filter_by(name="Ann").order_by(User.name), Query[User])
    assert_type(session.query(User).first(), User | None)
    assert_type(session.query(User).all(), list[User])
    assert_type(session.query(User).one(), User)
    assert_type(User.select().one(), User)
    assert_type(session.query(u.name for u in User if u.balance > 5), Query[str])
    assert_type(session.query((u.name, u.balance) for u in User).all(), list[tuple[str, Decimal]])
    assert_type(session.attach(user), User)
    assert_type(session.merge(User, {"id": 1, "name": "Ann"}), User)
    assert_type(session.merge(User, [{"id": 1}, {"id": 2}]), list[User])
    assert_type(session.merge(user), User)
    assert_type(session.merge(users), list[User])
    assert_type(copy.copy(user), User)
    assert_type(copy.deepcopy(users), list[User])
    assert_type(session.new | session.dirty | session.deleted, frozenset[EntityBase])
    assert_type(session.info, dict[Any, Any])
    assert_type(user in session, bool)
    session.add(user)
    session.add_all(users)
    session.delete(user)
    session.expire(user, User.name, "email")
    session.refresh(user, for_update=True, nowait=True)
    with session.begin_nested() as nested:
        nested.rollback()
    with session.no_autoflush():
        session.flush()
    assert_type(session.execute("SELECT %s", (1,)), RawResult)
    session.close()
    with Session(db) as s:
        assert_type(s, Session)
        return s.get(User, 1)


def hold_a_session_wrongly(user: User, session: Session) -> None:
    Session()  # error: mypy[call-arg] pyright[reportCallIssue]
    Session("sqlite://")  # error: mypy[arg-type] pyright[reportArgumentType]
    Session(db, expire_on_commit=False)  # error: mypy[call-arg] pyright[reportCallIssue]
    Session(db, retry=3)  # error: mypy[call-arg] pyright[reportCallIssue]
    Session(db, autoflush="no")  # error: mypy[arg-type] pyright[reportArgumentType]
    session.add(User)  # error: mypy[arg-type] pyright[reportArgumentType]
    session.add([user])  # error: mypy[arg-type] pyright[reportArgumentType]
    session.add_all(user)  # error: mypy[arg-type] pyright[reportArgumentType]
    session.get(user, 1)  # error: mypy[arg-type] pyright[reportArgumentType]
    session.scalars(user)  # error: mypy[attr-defined] pyright[reportAttributeAccessIssue]
    session.begin()  # error: mypy[attr-defined] pyright[reportAttributeAccessIssue]
    session.merge(7)  # error: mypy[call-overload] pyright[reportCallIssue] pyright[reportArgumentType]
    session.refresh(user, with_for_update=True)  # error: mypy[call-arg] pyright[reportCallIssue]
    session.query(User).one_or_none()  # error: mypy[attr-defined] pyright[reportAttributeAccessIssue]
    User.objects.all()  # error: mypy[attr-defined] pyright[reportAttributeAccessIssue]


make_session = sessionmaker(bind=db, isolation="serializable", info={"app": "shop"})


def make_sessions() -> User | None:
    assert_type(make_session(), Session)
    assert_type(make_session(read_only=True, autoflush=False), Session)
    make_session(1)  # error: mypy[call-arg] mypy[arg-type] pyright[reportCallIssue]
    make_session(read_onyl=True)  # error: mypy[call-arg] pyright[reportCallIssue]
    sessionmaker()  # error: mypy[call-arg] pyright[reportCallIssue]
    sessionmaker(db, retry=3)  # error: mypy[call-arg] pyright[reportCallIssue]
    sessionmaker(db, isolation="strong")  # error: mypy[arg-type] pyright[reportArgumentType]
    with make_session() as session:
        assert_type(session, Session)
        return session.query(User).first()
