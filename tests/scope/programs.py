"""Programs that change a league in nested scopes, and do the same to a model.

The model is copied when a scope is entered, and the copy comes back when the scope fails: that is all that
nested scopes are.
"""

import copy
import json

import pytest

from dbsession import SessionDoomed, TransactionIntegrityError, db_session, flush, select
from dbsession.model.collections import Collection
from dbsession.model.state import NOT_LOADED, Status
from dbsession.model.tracked import plain
from dbsession.session.transaction import Phase
from tests.observing import elsewhere
from tests.scope.league import COLUMNS, REFERENCES, STORED, Model, kind_of

__all__ = ["VERBS", "Program"]


class Odd(Exception):
    pass


class Program:
    """Does to objects in nested scopes what it does to the model."""

    def __init__(self, db, keys):
        self.db = db
        self.model = self.stored()
        self.keys = keys  # of the rows that were there at the beginning, by name
        self.objects = {}
        self.counter = 10
        self.committed = copy.deepcopy(self.model)
        self.scopes = []
        self.session = None

    def entity(self, kind):
        return self.db.entities[kind.capitalize()]

    # --- scopes

    def run(self, steps):
        """Run *steps* in an outermost scope, and leave that as the last scope was to be left."""
        self.enter(db_session)
        try:
            for verb, *arguments in steps:
                if verb not in ("commit", "rollback") or len(self.scopes) == 1:
                    getattr(self, verb)(*arguments)
                self.look()
            while len(self.scopes) > 1:
                self.leave(1, 0, len(self.scopes) % 3)
                self.look()
            self.commit(0, 0, 0)
        except Doomed:
            self.model = self.committed
        except BaseException as error:
            self.abandon(error)
            raise
        finally:
            self.abandon(Odd())
        assert self.stored() == self.model and self.stored().links == self.model.links

    def enter(self, scope):
        self.session = scope.__enter__()
        self.scopes.append((scope, copy.deepcopy(self.model), set(self.objects)))

    def abandon(self, error):
        while self.scopes:
            scope, *_ = self.scopes.pop()
            scope.__exit__(type(error), error, None)

    def join(self, one, two, wish):
        self.enter(db_session)

    def savepoint(self, one, two, wish):
        self.enter(db_session(nested="savepoint"))

    def leave(self, one, two, wish):
        """Leave the scope, in one of three cases by an error; the outermost one stays."""
        if len(self.scopes) == 1:
            return
        if wish:
            self.scopes.pop()[0].__exit__()
        else:
            self.fail(Odd())

    def fail(self, error):
        scope, model, known = self.scopes.pop()
        scope.__exit__(*(() if error is None else (type(error), error, None)))
        self.go_back(model, known)

    def go_back(self, model, known):
        self.model = model
        for name in set(self.objects) - known - set(self.model):  # made in what was undone
            if name not in self.keys:
                assert self.objects.pop(name)._state_.status is Status.TRANSIENT
        for name, obj in self.objects.items():
            if name in self.model:
                assert obj._state_.may_change, f"{name} is {obj._state_.status.label}"

    def violate(self, one, two, wish):
        """Let the database refuse what the inner scope has made, and leave it: with the error, or as if nothing were."""
        holder = next((name for name in self.model.named("player") if self.model[name]["slot"] is not None), None)
        if len(self.scopes) == 1 or holder is None:
            return
        if wish:
            flush()
        try:
            self.counter += 1
            self.objects[f"player{self.counter}"] = self.entity("player")(
                name=f"player{self.counter}", slot=self.model[holder]["slot"]
            )
            flush()
        except TransactionIntegrityError as error:
            if self.unit.transaction.phase is Phase.DOOMED:  # what was refused was the outer scope's
                raise Doomed from error
            if wish == 1:
                with pytest.raises(SessionDoomed):
                    self.scopes[-1][0].__exit__()
                _, *before = self.scopes.pop()
                self.go_back(*before)
            else:
                self.fail(error)
        else:
            raise AssertionError(f"two players have slot {self.model[holder]['slot']}")

    def commit(self, one, two, wish):
        self.session.commit()
        self.committed = copy.deepcopy(self.model)
        found = self.stored()
        assert (found, found.links) == (self.model, self.model.links)
        elsewhere(self.compare_rows)
        self.objects = {name: obj for name, obj in self.objects.items() if name in self.model}  # the others are gone

    def rollback(self, one, two, wish):
        self.session.rollback()
        made = {name for name in self.objects if name not in self.keys and name not in self.committed}
        self.go_back(copy.deepcopy(self.committed), set(self.objects) - made)

    @db_session
    def _select(self):
        return {
            kind: [tuple(row) if isinstance(row, tuple) else row for row in self.db.select(sql)]
            for kind, sql in STORED.items()
        }

    def stored(self):
        """Return what is in the database as a model."""
        found = elsewhere(self._select)
        links = found.pop("links")
        objects = {}
        for kind, records in found.items():
            for record in records:
                name, *values = record if isinstance(record, tuple) else (record,)
                objects[name] = dict(zip(COLUMNS[kind], values, strict=True))
                if kind == "player" and isinstance(objects[name]["data"], str):
                    objects[name]["data"] = json.loads(objects[name]["data"])
        return Model(objects, links)

    @db_session
    def compare_rows(self):
        """What a saved object knows of its row is what the row has."""
        for name, obj in self.objects.items():
            if name in self.model:
                fresh = type(obj)[obj.get_pk()]
                fresh.load()
                for column in obj._mapping_.columns:
                    known, there = obj._row_[column.position], fresh._row_[column.position]
                    if column.name == "data":  # as JSON text, or as PostgreSQL's driver has read it
                        known, there = [json.loads(raw) if isinstance(raw, str) else raw for raw in (known, there)]
                    assert known is NOT_LOADED or known == there, f"{name}.{column.name}: {known}, but {there}"

    # --- looking

    @property
    def unit(self):
        return self.session._core.unit(self.db)

    def look(self):
        """Compare what the objects show without loading anything, and where the session keeps them."""
        unit = self.unit
        keys = {}
        for name in self.model:
            obj = self.objects.get(name)
            keys[kind_of(name), self.keys[name] if obj is None else obj._key_] = name
        names = {id(obj): name for name, obj in self.objects.items()}
        for name, obj in self.objects.items():
            status = obj._state_.status
            for unsaved, wanted in (
                ("new", Status.NEW),
                ("dirty", Status.DIRTY),
                ("deleted", Status.MARKED_FOR_DELETION),
            ):
                assert (obj in getattr(unit, unsaved)) is (status is wanted), f"{name} is {status.label}"
            if obj._state_.is_persistent:
                there = unit.find(obj._mapping_, obj._key_)  # a new object may have the key that it will be without
                assert there is obj or (there is not None and there._state_.is_new), f"{name} is not in its place"
            if name not in self.model:
                continue
            assert obj._state_.may_change, f"{name} is {status.label}"
            shown = {"name": name} | self.model[name] | self.model.collections(name)
            for attribute, value in vars(obj).items():
                if attribute not in shown or (isinstance(value, Collection) and not value.is_loaded):
                    continue
                if isinstance(value, Collection):
                    found = {named(item, names, keys) for item in value} - {None}
                else:
                    found = named(value, names, keys) if hasattr(value, "_state_") else plain(value)
                assert found == shown[attribute], f"{name}.{attribute}"

    def object(self, name):
        if name not in self.objects:
            entity = self.entity(kind_of(name))
            if kind_of(name) == "box":
                self.objects[name] = entity.get(name=name)
            else:
                self.objects[name] = entity[self.keys[name]]
        return self.objects[name]

    def pick(self, kind, number):
        names = self.model.named(kind)
        return names[number % len(names)] if names else None

    def read(self, one, two, wish):
        """Read all of an object, loading it."""
        name = sorted(self.model)[one % len(self.model)]
        self.flush_deleted()
        obj = self.object(name)
        for attribute, value in self.model[name].items():
            shown = getattr(obj, attribute)
            assert (shown.name if hasattr(shown, "_state_") else plain(shown)) == value, f"{name}.{attribute}"

    def collect(self, one, two, wish):
        """Read the collections of an object."""
        name = sorted(self.model)[one % len(self.model)]
        self.flush_deleted()
        obj = self.object(name)
        for attribute, names in self.model.collections(name).items():
            shown = getattr(obj, attribute)
            if attribute == "badge":
                assert (shown and shown.name) == names
            else:
                assert {item.name for item in shown} == names, f"{name}.{attribute}"

    def flush_deleted(self):
        """Those who refer to what is deleted follow with the flush at the latest."""
        if self.unit.deleted:
            flush()

    def query(self, one, two, wish):
        team, tag = self.pick("team", one), self.pick("tag", two)
        if wish == 0 and team:
            found = self.entity("player").select(team=self.object(team))
            assert {player.name for player in found} == self.model.referring("player", "team", team)
        elif wish == 1 and tag:
            assert self.object(tag).players.count() == len(self.model.collections(tag)["players"])
        else:
            found = self.entity("player").select().for_update() if wish == 2 else self.entity("player").select()
            assert {player.name for player in found} == set(self.model.named("player"))

    def boxes(self, one, two, wish):
        codes = {self.model[name]["code"]: name for name in self.model.named("box")}
        if wish:
            box = self.entity("box").get(code=one % 6)
            assert (box and box.name) == codes.get(one % 6)
        else:
            assert {box.code: box.name for box in self.entity("box").select()} == codes

    # --- changing

    def flush(self, one, two, wish):
        flush()

    def flush_one(self, one, two, wish):
        self.object(sorted(self.model)[one % len(self.model)]).flush()

    def make(self, one, two, wish):
        kind = ("player", "note", "team", "badge", "tag", "player")[one % 6]
        self.counter += 1
        name = f"{kind}{self.counter}"
        values = dict.fromkeys(COLUMNS[kind])
        player, team = self.pick("player", two), self.pick("team", two)
        if kind == "note" and player is None:
            return
        if kind == "note":
            values["player"] = player
        elif kind == "player":
            values |= {"team": team if wish else None, "score": wish, "data": {"new": wish} if wish else None}
        targets = {key: self.object(value) for key, value in values.items() if (kind, key) in REFERENCES and value}
        given = {key: copy.deepcopy(value) for key, value in values.items() if value is not None} | targets
        self.objects[name] = self.entity(kind)(name=name, **given)
        self.model[name] = values

    def title(self, one, two, wish):
        if team := self.pick("team", one):
            self.object(team).title = self.model[team]["title"] = ("one", "two", None)[wish]

    def score(self, one, two, wish):
        if player := self.pick("player", one):
            self.object(player).score = self.model[player]["score"] = two

    def add(self, one, two, wish):
        """Assign an SQL expression."""
        if player := self.pick("player", one):
            obj = self.object(player)
            if not obj._state_.is_persistent or (obj._state_.has_changes and "score" in obj._changes_):
                obj.flush()
            obj.score = self.entity("player").score + 1
            self.model[player]["score"] += 1

    def slot(self, one, two, wish):
        """Give a player a slot; who has it takes that of the player for it."""
        if player := self.pick("player", one):
            mine, value = self.model[player]["slot"], two % 4 or None
            holders = [name for name in self.model.named("player") if self.model[name]["slot"] == value]
            obj = self.object(player)
            if value is not None and holders and holders != [player]:
                holder = self.object(holders[0])  # this may flush, so it stands before the changes
                holder.slot = self.model[holders[0]]["slot"] = mine
            obj.slot = self.model[player]["slot"] = value

    def data(self, one, two, wish):
        if player := self.pick("player", one):
            obj, model = self.object(player), self.model[player]
            if wish == 0 or model["data"] is None:
                obj.data, model["data"] = {"a": [two]}, {"a": [two]}
            elif wish == 1:
                obj.data["b"] = model["data"]["b"] = two
            else:
                for data in (obj.data, model["data"]):
                    data.setdefault("a", []).append(two)

    def team(self, one, two, wish):
        if player := self.pick("player", one):
            team = self.pick("team", two) if wish else None
            self.object(player).team = team and self.object(team)
            self.model[player]["team"] = team

    def rival(self, one, two, wish):
        if player := self.pick("player", one):
            rival = self.pick("player", two) if wish else None
            self.object(player).rival = rival and self.object(rival)
            self.model[player]["rival"] = rival

    def owner(self, one, two, wish):
        note, player = self.pick("note", one), self.pick("player", two)
        if note and player:
            self.object(note).player = self.object(player)
            self.model[note]["player"] = player

    def players(self, one, two, wish):
        """Change who is in a team from its side."""
        team, player = self.pick("team", one), self.pick("player", two)
        if team and player and wish:
            self.object(team).players.add(self.object(player))
            self.model[player]["team"] = team
        elif team and player:
            self.object(team).players.remove(self.object(player))
            if self.model[player]["team"] == team:
                self.model[player]["team"] = None

    def badge(self, one, two, wish):
        """Give a team a badge, from either side; other teams and badges give way."""
        team, badge = self.pick("team", one), self.pick("badge", two)
        if not team or not badge:
            return
        before = self.model.collections(team)["badge"]
        if before:
            assert self.object(before).team is self.object(team)  # only who is known to have it can give way
        if wish == 0:
            self.object(badge).team = None
            self.model[badge]["team"] = None
            return
        if wish == 1:
            self.object(badge).team = self.object(team)
        else:
            self.object(team).badge = self.object(badge)
        if before:
            self.model[before]["team"] = None
        self.model[badge]["team"] = team

    def tag(self, one, two, wish):
        tag, player = self.pick("tag", one), self.pick("player", two)
        if not tag or not player:
            return
        side, item = self.object(player).tags, self.object(tag)
        if one % 2:
            side, item = self.object(tag).players, self.object(player)
        if wish:
            side.add(item)
            self.model.links.add((player, tag))
        else:
            side.remove(item)
            self.model.links.discard((player, tag))

    def delete(self, one, two, wish):
        name = sorted(self.model)[one % len(self.model)]
        if len(self.model) > 5:
            obj = self.object(name)
            if kind_of(name) == "player" and wish:
                obj.notes.load()
                obj.rivals.load()
            elif kind_of(name) == "team" and wish:
                obj.players.load()
            obj.delete()
            self.model.delete(name)

    def bulk(self, one, two, wish):
        if player := self.pick("player", one):
            self.entity("note").select(player=self.object(player)).delete(bulk=True)
            for note in self.model.referring("note", "player", player):
                self.model.delete(note)

    def bulk_players(self, one, two, wish):
        """Delete players by one statement; notes go with them, and rivals are left."""
        query, gone = self.chosen(one)
        if len(self.model) > 5:
            assert query.delete(bulk=True) == len(gone)
            for player in gone:
                self.model.delete(player)

    def bulk_teams(self, one, two, wish):
        """Delete teams by one statement: those of some player, or one; players and badges are left."""
        player, team = self.pick("player", one), self.pick("team", two)
        if wish == 0 and player and len(self.model) > 5:
            Player = self.entity("player")
            gone = {self.model[player]["team"]} - {None}
            assert select(p.team for p in Player if p.name == player).delete(bulk=True) == len(gone)
            for name in gone:
                self.model.delete(name)
        elif team and len(self.model) > 5:
            assert self.entity("team").select(name=team).delete(bulk=True) == 1
            self.model.delete(team)

    def chosen(self, one):
        """Return a query for some players, and their names."""
        Player = self.entity("player")
        team = self.pick("team", one)
        if one % 4 == 0 and team:
            return Player.select(team=self.object(team)), self.model.referring("player", "team", team)
        if one % 4 == 1:
            names = {name for name in self.model.named("player") if self.model[name]["score"] < 2}
            return Player.select(Player.score < 2), names
        if one % 4 == 2 and (tag := self.pick("tag", one)):
            return self.object(tag).players.select(), {player for player, other in self.model.links if other == tag}
        ordered = sorted(self.model.named("player"))[: one % 3]
        return Player.select().order_by(Player.name).limit(one % 3), set(ordered)

    def update(self, one, two, wish):
        """Change values of some players by one statement."""
        query, names = self.chosen(one)
        Player = self.entity("player")
        if wish == 0:
            found = query.update(score=Player.score + 1, bump_version=two % 2 == 0)
        elif wish == 1:
            found = query.update(score=two)
        else:
            found = query.update(data={"a": [two]})
        assert found == len(names)
        for name in names:
            if wish == 2:
                self.model[name]["data"] = {"a": [two]}
            else:
                self.model[name]["score"] = two if wish else self.model[name]["score"] + 1

    def transfer(self, one, two, wish):
        """Let some players refer to another team, or another rival, by one statement."""
        query, names = self.chosen(one)
        if two % 5 == 4:
            rivals = {name: self.model[name]["rival"] for name in names}
            teams = {name: rival and self.model[rival]["team"] for name, rival in rivals.items()}
            assert query.update(team=lambda p: p.rival.team) == len(names)
            for name, team in teams.items():
                self.model[name]["team"] = team
            return
        attribute, kind = ("rival", "player") if two % 3 == 0 else ("team", "team")
        target = self.pick(kind, two) if wish else None
        assert query.update(**{attribute: target and self.object(target)}) == len(names)
        for name in names:
            self.model[name][attribute] = target

    def award(self, one, two, wish):
        """Give a badge to a team that has none, or to nobody, by one statement."""
        badge, team = self.pick("badge", one), self.pick("team", two)
        if not badge or (wish and (not team or self.model.collections(team)["badge"] not in (None, badge))):
            return
        query = self.entity("badge").select(name=badge)
        assert query.update(team=self.object(team) if wish else None) == 1
        self.model[badge]["team"] = team if wish else None

    def text(self, one, two, wish):
        if box := self.pick("box", one):
            self.object(box).text = self.model[box]["text"] = ("x", "y", None)[wish]

    def box(self, one, two, wish):
        """Make a box, or give one another key; the key may be that of one that is deleted, or has another by now."""
        box, code = self.pick("box", one), two % 6
        if wish == 2:
            flush()
        elif wish:  # two that take each other's keys in one flush would be an error
            self.counter += 1
            code = self.counter
        if code in {self.model[name]["code"] for name in self.model.named("box")}:
            return
        if wish and box:
            self.object(box).code = self.model[box]["code"] = code
        else:
            self.counter += 1
            name = f"box{self.counter}"
            self.objects[name] = self.entity("box")(code=code, name=name)
            self.model[name] = {"code": code, "text": None}


class Doomed(Exception):
    pass


def named(obj, names, keys):
    """Return the name of *obj*, loaded or not; None if it is about to be deleted."""
    if obj._state_.status is Status.MARKED_FOR_DELETION:
        return None
    if not obj._state_.may_change:
        return f"{obj!r}, which is {obj._state_.status.label}"
    return names.get(id(obj)) or keys.get((type(obj).__name__.lower(), obj._key_), repr(obj))


SCOPES = ["join", "savepoint", "leave", "leave", "violate", "commit", "rollback"]
READS = ["read", "collect", "query", "boxes", "flush", "flush_one"]
CHANGES = ["make", "title", "score", "add", "slot", "data", "team", "rival", "owner", "players", "badge", "tag"]
BULK = ["bulk", "bulk_players", "bulk_teams", "update", "update", "transfer", "transfer", "award"]
VERBS = [*SCOPES, *READS, *CHANGES, "delete", "delete", *BULK, "text", "box", "tag"]
