"""Teams of players for the tests of statements for many rows: attributes and relations of every kind."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from types import SimpleNamespace

from dbsession import Database, Json, Optional, PrimaryKey, Required, Set, Version, db_session

__all__ = ["declare", "fill"]


def declare(db: Database) -> SimpleNamespace:
    """Declare the entities in *db*; `hooked` has the hooks that have run."""
    hooked: list[str] = []

    class Team(db.Entity):
        name = Required(str)
        players = Set("Player")
        coach = Optional("Coach")
        trophies = Set("Trophy")

    class Player(db.Entity):
        name = Required(str, 10, py_check=lambda name: name != "bad")
        count = Required(int, default=0, size=16)
        balance = Required(Decimal, 12, 2, default=0)
        level = Optional(float)
        note = Optional(str)
        nick = Optional(str, nullable=False)
        data = Optional(Json)
        bio = Optional(str, lazy=True)
        active = Required(bool, default=True)
        born = Optional(date)
        slot = Optional(int, unique=True)
        team = Optional(Team)
        friend = Optional("Player", reverse="fans")
        fans = Set("Player", reverse="friend")
        tags = Set("Tag")
        seat = Optional("Seat")
        version = Version()

        def before_update(self) -> None:
            hooked.append("before")

        def after_update(self) -> None:
            hooked.append("after")

        def before_delete(self) -> None:
            hooked.append("before delete")

    class Coach(db.Entity):
        name = Required(str)
        team = Optional(Team, column="team")
        partner = Optional("Coach", reverse="partner")

    class Tag(db.Entity):
        name = Required(str)
        players = Set(Player)

    class Seat(db.Entity):
        row = Required(str)
        number = Required(int)
        PrimaryKey(row, number)
        players = Set(Player)

    class Trophy(db.Entity):
        name = Required(str)
        team = Required(Team)

    class Cup(Trophy):
        litres = Optional(int)

    db.generate_mapping(create_tables=True)
    return SimpleNamespace(db=db, hooked=hooked, **db.entities)


def fill(squad: SimpleNamespace) -> None:
    """Save two teams with two players each, and one player without a team."""
    with db_session:
        reds, blues = squad.Team(name="reds"), squad.Team(name="blues")
        fast = squad.Tag(name="fast")
        seat = squad.Seat(row="A", number=1)
        squad.Seat(row="A", number=2)
        players = []
        for number, name in enumerate(["ann", "bob", "cid", "dan", "eve"], 1):
            team = (reds, reds, blues, blues, None)[number - 1]
            values = {"balance": Decimal("1.50") * number, "bio": f"bio of {name}", "data": {"n": number}}
            player = squad.Player(name=name, count=number, team=team, born=date(2000, 1, number), **values)
            player.flush()  # or their keys might be in another order
            players.append(player)
        fast.players = [players[0], players[2]]
        players[0].seat = seat
        for name, team in (("kim", reds), ("lee", None)):
            squad.Coach(name=name, team=team).flush()
        squad.Trophy(name="old", team=reds).flush()
        squad.Cup(name="gold", litres=3, team=reds).flush()
        squad.Cup(name="iron", team=blues)
