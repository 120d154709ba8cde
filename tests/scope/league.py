"""A league of teams for random programs, and what it should be in plain dicts."""

import copy

from dbsession import Json, Optional, PrimaryKey, Required, Set, Version, db_session

__all__ = ["COLUMNS", "REFERENCES", "STORED", "Model", "declare", "fill", "kind_of"]


def declare(db):
    """Declare the entities: relations of every kind, a unique value, Json, a version, and keys that change."""

    class Team(db.Entity):
        name = Required(str)
        title = Optional(str)
        players = Set("Player")
        badge = Optional("Badge")

    class Badge(db.Entity):
        name = Required(str)
        team = Optional(Team, column="team")

    class Player(db.Entity):
        name = Required(str)
        slot = Optional(int, unique=True)
        score = Required(int, default=0)
        data = Optional(Json)
        version = Version()
        team = Optional(Team)
        rival = Optional("Player", reverse="rivals")
        rivals = Set("Player", reverse="rival")
        notes = Set("Note")
        tags = Set("Tag", table="tagged")

    class Note(db.Entity):
        name = Required(str)
        player = Required(Player)

    class Tag(db.Entity):
        name = Required(str)
        players = Set(Player)

    class Box(db.Entity):
        code = PrimaryKey(int)
        name = Required(str)
        text = Optional(str)

    db.generate_mapping(create_tables=True)


SEED = """
    INSERT INTO team (name, title) VALUES ('team1', 'one'), ('team2', NULL), ('team3', 'three');
    INSERT INTO badge (name, team) SELECT 'badge1', id FROM team WHERE name = 'team1';
    INSERT INTO badge (name) VALUES ('badge2');
    INSERT INTO player (name, slot, score, data, version, team)
        SELECT 'player1', 1, 0, '{"a": [1]}', 1, id FROM team WHERE name = 'team1';
    INSERT INTO player (name, slot, score, version, team)
        SELECT 'player2', 2, 5, 1, id FROM team WHERE name = 'team1';
    INSERT INTO player (name, score, version) VALUES ('player3', 0, 1);
    INSERT INTO player (name, score, version, rival) SELECT 'player4', 0, 1, id FROM player WHERE name = 'player1';
    INSERT INTO note (name, player) SELECT 'note1', id FROM player WHERE name = 'player1';
    INSERT INTO note (name, player) SELECT 'note2', id FROM player WHERE name = 'player2';
    INSERT INTO tag (name) VALUES ('tag1'), ('tag2');
    INSERT INTO tagged (player, tag) SELECT p.id, t.id FROM player p, tag t
        WHERE (p.name, t.name) IN (VALUES ('player1', 'tag1'), ('player2', 'tag1'), ('player2', 'tag2'));
    INSERT INTO box (code, name, text) VALUES (1, 'box1', 'x'), (2, 'box2', 'y'), (3, 'box3', NULL)
"""
TABLES = ("note", "badge", "tagged", "player", "team", "tag", "box")

STORED = {
    "team": "SELECT name, title FROM team",
    "badge": "SELECT b.name, t.name FROM badge b LEFT JOIN team t ON t.id = b.team",
    "player": (
        "SELECT p.name, p.slot, p.score, p.data, t.name, r.name FROM player p "
        "LEFT JOIN team t ON t.id = p.team LEFT JOIN player r ON r.id = p.rival"
    ),
    "note": "SELECT n.name, p.name FROM note n JOIN player p ON p.id = n.player",
    "tag": "SELECT name FROM tag",
    "box": "SELECT name, code, text FROM box",
    "links": "SELECT p.name, t.name FROM tagged l JOIN player p ON p.id = l.player JOIN tag t ON t.id = l.tag",
}
COLUMNS = {
    "team": ("title",),
    "badge": ("team",),
    "player": ("slot", "score", "data", "team", "rival"),
    "note": ("player",),
    "tag": (),
    "box": ("code", "text"),
}
REFERENCES = {("badge", "team"), ("player", "team"), ("player", "rival"), ("note", "player")}


def fill(db):
    """Let the database hold the rows of `SEED` and nothing else; return their keys by name."""
    keys = {}
    with db_session:
        db.execute("UPDATE player SET rival = NULL")
        for table in TABLES:
            db.execute(f"DELETE FROM {table}")
        for statement in SEED.split(";"):
            db.execute(statement)
        for kind in STORED.keys() - {"links"}:
            keys |= {
                row[0]: row[1] for row in db.select(f"SELECT name, {'code' if kind == 'box' else 'id'} FROM {kind}")
            }
    return keys


def kind_of(name):
    return name.rstrip("0123456789")


class Model(dict):
    """What there should be: name -> attributes, and the links; references are names."""

    def __init__(self, objects=(), links=()):
        super().__init__(objects)
        self.links = set(links)

    def __deepcopy__(self, memo):
        return Model(copy.deepcopy(dict(self), memo), self.links)

    def named(self, kind):
        return sorted(name for name in self if kind_of(name) == kind)

    def delete(self, name):
        del self[name]
        self.links = {pair for pair in self.links if name not in pair}
        for other in list(self):
            for attribute, value in self.get(other, {}).items():
                if value == name and (kind_of(other), attribute) in REFERENCES:
                    if attribute == "player":
                        self.delete(other)
                    else:
                        self[other][attribute] = None

    def collections(self, name):
        """Return what the collections, and the side of the one-to-one relation without a column, should show."""
        kind = kind_of(name)
        if kind == "team":
            badge = next((badge for badge in self.named("badge") if self[badge]["team"] == name), None)
            return {"players": self.referring("player", "team", name), "badge": badge}
        if kind == "player":
            tags = {tag for player, tag in self.links if player == name}
            notes, rivals = self.referring("note", "player", name), self.referring("player", "rival", name)
            return {"notes": notes, "rivals": rivals, "tags": tags}
        return {"players": {player for player, tag in self.links if tag == name}} if kind == "tag" else {}

    def referring(self, kind, attribute, name):
        return {other for other in self.named(kind) if self[other][attribute] == name}
