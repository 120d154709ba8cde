"""The forms whose SQL is kept: each lambda makes a query, and names what it shows."""

# ruff: noqa: E741, F821, RUF021 (a query is written as a user would)

from datetime import date, timedelta

from dbsession import (
    avg,
    between,
    coalesce,
    concat,
    count,
    desc,
    distinct,
    exists,
    group_concat,
    left_join,
    max,
    min,
    random,
    raw_sql,
    select,
    sum,
)
from tests.query.golden.model import Kind

User = Order = Product = Line = Tag = Card = Animal = Dog = None  # put here by whoever evaluates a form
minimum, nothing, names, words = 18, None, ["Ann", "Bob"], ()
today = date(2026, 11, 20)
some_user = some_order = None


def is_old(user):
    return user.age > 65


# A statement for each title: looking for the source of a form compiles the statement that it stands in.
FORMS = {}
FORMS["entities"] = [
    lambda: select(u for u in User),
    lambda: User.select(),
    lambda: select(u for u in User if u.age > 18),
    lambda: User.select(lambda u: u.age > 18),
    lambda: User.select(User.age > 18),
    lambda: User.select(name="Ann", age=None),
    lambda: select(d for d in Dog if d.tricks > 3),
    lambda: select(a for a in Animal if isinstance(a, Dog)),
    lambda: select(a for a in Animal if isinstance(a, Dog) and a.tricks > 3),
]
FORMS["comparisons"] = [
    lambda: select(u for u in User if u.age == minimum),
    lambda: select(u for u in User if u.age != minimum),
    lambda: select(u for u in User if u.age == nothing),
    lambda: select(u for u in User if u.age is not None),
    lambda: select(u for u in User if 18 <= u.age < 65),
    lambda: select(u for u in User if between(u.age, 18, 65)),
    lambda: select(u for u in User if u.age > 18 and u.active or u.name == "Ann"),
    lambda: select(u for u in User if u.age > 18 and (u.active or u.name == "Ann")),
    lambda: select(u for u in User if not (u.age > 18 or u.active)),
    lambda: select(u for u in User if not u.age > 18),
    lambda: select(u for u in User if u.balance > 10.5),
    lambda: select(p for p in Product if p.kind == Kind.BOOK),
]
FORMS["truth"] = [
    lambda: select(u for u in User if u.active),
    lambda: select(u for u in User if not u.active),
    lambda: select(u for u in User if u.email),
    lambda: select(u for u in User if not u.email),
    lambda: select(u for u in User if u.age),
    lambda: select(u for u in User if not u.age),
    lambda: select(u for u in User if u.boss),
    lambda: select(u for u in User if not u.boss),
    lambda: select(u for u in User if u.orders),
    lambda: select(u for u in User if not u.orders),
    lambda: select(u for u in User if nothing is None or u.age > nothing),
]
FORMS["among values"] = [
    lambda: select(u for u in User if u.name in ("Ann", "Bob")),
    lambda: select(u for u in User if u.name in names),
    lambda: select(u for u in User if u.name not in names),
    lambda: select(u for u in User if u.age in (1, None)),
    lambda: select(u for u in User if u.name in words),
    lambda: select(u for u in User if (u.name, u.age) in [("Ann", 1), ("Bob", 2)]),
]
FORMS["numbers"] = [
    lambda: select(u.age + 1 for u in User),
    lambda: select((u.age + 1) * 2 for u in User),
    lambda: select(u.age - (1 - u.age) for u in User),
    lambda: select(u.age / 2 for u in User),
    lambda: select(u.age // 2 for u in User),
    lambda: select(u.age % 2 for u in User),
    lambda: select(-u.age for u in User),
    lambda: select(u.age**2 for u in User),
    lambda: select(abs(u.age) for u in User),
    lambda: select(round(p.price, 1) for p in Product),
    lambda: select(min(u.age, 10) for u in User),
    lambda: select(u.balance + 1 for u in User),
    lambda: select(u for u in User if u.balance * 2 > 10),
    lambda: select(float(u.age) for u in User),
]
FORMS["texts"] = [
    lambda: select(u.name + "!" for u in User),
    lambda: select(concat(u.name, " ", u.age) for u in User),
    lambda: select(f"{u.name}: {u.age}" for u in User),
    lambda: select(u.name.upper() for u in User),
    lambda: select(u.name.strip() for u in User),
    lambda: select(len(u.name) for u in User),
    lambda: select(u.name[0] for u in User),
    lambda: select(u.name[-1] for u in User),
    lambda: select(u.name[1:3] for u in User),
    lambda: select(u.name[:-1] for u in User),
    lambda: select(u for u in User if u.name.startswith("A")),
    lambda: select(u for u in User if u.name.endswith("n")),
    lambda: select(u for u in User if "nn" in u.name),
    lambda: select(u for u in User if u.name in "Ann and Bob"),
    lambda: select(str(u.age) for u in User),
]
FORMS["dates"] = [
    lambda: select(u for u in User if u.born < today),
    lambda: select(u.born.year for u in User),
    lambda: select(u for u in User if u.seen.date() == today),
    lambda: select(o.day + timedelta(days=7) for o in Order),
    lambda: select(today - o.day for o in Order),
]
FORMS["JSON"] = [
    lambda: select(u.data["a"] for u in User),
    lambda: select(u for u in User if u.data["a"]["b"] == 5),
    lambda: select(u for u in User if u.data["list"][0] == "x"),
    lambda: select(u for u in User if "a" in u.data),
]
FORMS["alternatives"] = [
    lambda: select("old" if u.age > 65 else "young" for u in User),
    lambda: select(coalesce(u.email, u.name) for u in User),
    lambda: select(u.email or u.name for u in User),
]
FORMS["references"] = [
    lambda: select(o for o in Order if o.user == some_user),
    lambda: select(o for o in Order if o.user.id == 5),
    lambda: select(o for o in Order if o.user.name == "Ann"),
    lambda: select(o for o in Order if o.user.name == "Ann" and o.user.age > 18),
    lambda: select(u for u in User if u.boss.name == "Ann"),
    lambda: select(u for u in User if u.boss.boss.name == "Ann"),
    lambda: select(u for u in User if u.card.number == "77"),
    lambda: select(o.user for o in Order),
    lambda: select(o.user.name for o in Order if o.total > 5),
    lambda: select((o, o.user) for o in Order),
    lambda: select(l for l in Line if l.order.user.name == "Ann"),
    lambda: select(l for l in Line if l.order == some_order),
]
FORMS["collections"] = [
    lambda: select(u for u in User if count(u.orders) > 1),
    lambda: select(u for u in User if len(u.orders) > 1),
    lambda: select(u for u in User if u.orders.count() > 1),
    lambda: select(u for u in User if u.orders.is_empty()),
    lambda: select((u.name, sum(u.orders.total)) for u in User),
    lambda: select((u.name, max(u.orders.total)) for u in User),
    lambda: select(u for u in User if sum(o.total for o in u.orders if not o.paid) > 100),
    lambda: select(u for u in User if exists(o for o in u.orders if o.total > 5)),
    lambda: select(u for u in User if not exists(o for o in u.orders if o.total > 5)),
    lambda: select(u for u in User if any(o.total > 5 for o in u.orders)),
    lambda: select(u for u in User if all(o.total > 5 for o in u.orders)),
    lambda: select(u for u in User if some_order in u.orders),
    lambda: select(u for u in User if 5 in u.orders.total),
    lambda: select(u for u in User if "x" in u.tags.word),
    lambda: select(u for u in User if count(u.tags) > 1),
    lambda: select(t for t in Tag if some_user in t.users),
    lambda: select(u for u in User if sum(u.orders.lines.amount) > 5),
    lambda: select(u for u in User if u in some_user.staff),
    lambda: select(u for u in User if u.orders.select(lambda o: o.total > 5)),
    lambda: User.select(count(User.orders) > 1),
]
FORMS["several loops"] = [
    lambda: select(u for u in User for o in u.orders if o.total > 5),
    lambda: select(u for u in User for o in u.orders if o.total > 5).without_distinct(),
    lambda: select(o for u in User for o in u.orders if u.name == "Ann"),
    lambda: select((u.name, o.total) for u in User for o in u.orders),
    lambda: select((u, o) for u in User for o in u.orders if o.total > u.age),
    lambda: select(u.orders.total for u in User if u.age > 18),
    lambda: select(u for u in User for o in u.orders for l in o.lines if l.amount > 5),
    lambda: select(p for o in Order for p in o.lines.product if o.user.name == "Ann"),
    lambda: select((u.name, t.word) for u in User for t in u.tags),
    lambda: select(t for u in User for t in u.tags if u.age > 18),
    lambda: select((a.name, b.name) for a in User for b in User if a.age > b.age),
    lambda: left_join((u.name, o.total) for u in User for o in u.orders),
    lambda: left_join((u, count(o)) for u in User for o in u.orders),
]
FORMS["groups"] = [
    lambda: select((u.age, count()) for u in User),
    lambda: select((o.user, sum(o.total)) for o in Order),
    lambda: select((o.user, sum(o.total)) for o in Order if sum(o.total) > 100),
    lambda: select((u.name, count(o)) for u in User for o in u.orders if o.total > 5),
    lambda: select((o.day.year, avg(o.total), max(o.total)) for o in Order),
    lambda: select(sum(o.total) for o in Order),
    lambda: select((u.active, group_concat(u.name)) for u in User),
    lambda: select(count(distinct(u.age)) for u in User),
    lambda: select((u.age, count()) for u in User).order_by(-2),
    lambda: select(u for u in User for o in u.orders if count(o) > 1),
    lambda: select((o.day.year, count()) for o in Order).order_by(lambda: o.day.year),
]
FORMS["subqueries"] = [
    lambda: select(u for u in User if u in select(o.user for o in Order if o.total > 5)),
    lambda: select(u for u in User if u not in (o.user for o in Order if o.total > 5)),
    lambda: select(u for u in User if u.age == max(x.age for x in User)),
    lambda: select(u for u in User if u.age > avg(x.age for x in User if x.boss == u.boss)),
    lambda: select(o for o in select(x for x in Order if x.paid) if o.total > 5),
    lambda: select(o for o in Order.select().order_by(desc(Order.total)).limit(3) if o.paid),
    lambda: select(u for u in some_user.staff if u.age > 18),
]
FORMS["of their own"] = [
    lambda: select(u for u in User if u.is_adult),
    lambda: select(u for u in User if is_old(u)),
    lambda: select(u for u in User if u.owes(100)),
    lambda: select(u for u in User if raw_sql("age % 2 = $(minimum - 17)")),
]
FORMS["verbs"] = [
    lambda: User.select().order_by(User.name, desc(User.age)),
    lambda: select(u for u in User).order_by(lambda u: (u.boss.name, desc(u.age))),
    lambda: select((u.name, u.age) for u in User).order_by(2, -1),
    lambda: User.select().order_by(User.id).limit(10, 20),
    lambda: User.select().page(3, 10),
    lambda: select(u for u in User).filter(lambda u: u.age > 18).filter(name="Ann"),
    lambda: select((u, o) for u in User for o in u.orders).where(lambda o: o.total > 5),
    lambda: select(u for u in User).where(lambda: u.age > 18),
    lambda: select(u.name for u in User).distinct(),
    lambda: User.select().for_update(skip_locked=True),
    lambda: select(o for o in Order if o.user.name == "Ann").for_update(),
    lambda: User.select().prefetch(User.bio),
    lambda: select(random() for u in User),
]
