"""What user-written SQL leaves on a SQLite connection does not reach the next session."""

import pytest

from dbsession import Database, db_session
from dbsession.backends.sqlite_settings import leaves_settings

# PRAGMA, the value that a session sets, and what every session begins with.
SETTINGS = [
    ("max_page_count", 10, 1073741823),
    ("ignore_check_constraints", 1, 0),
    ("recursive_triggers", 1, 0),
    ("reverse_unordered_selects", 1, 0),
    ("cache_size", 7, -2000),
    ("foreign_keys", 0, 1),
    ("busy_timeout", 1, 5000),
    ("query_only", 1, 0),
]


@pytest.mark.parametrize("db_url", ["sqlite", "sqlite-file"], indirect=True)
@pytest.mark.parametrize("form", ["PRAGMA {} = {}", "pragma main.{}({})"])
@pytest.mark.parametrize("name, value, usual", SETTINGS)
def test_a_pragma_does_not_reach_the_next_session(db, name, value, usual, form):
    """110. Whatever a session has set with PRAGMA, the next one has the usual value; also after an error."""
    for leave in (lambda: None, lambda: 1 / 0):
        try:
            with db_session:
                db.select(form.format(name, value))
                if name != "max_page_count":  # which is never less than there is
                    assert db.get(f"PRAGMA {name}") == value
                leave()
        except ZeroDivisionError:
            pass
        with db_session:
            assert db.get(f"PRAGMA {name}") == usual


@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA table_info(note)",
        "PRAGMA main.index_list('note')",
        "PRAGMA page_count",
        "PRAGMA foreign_keys = OFF",
        "PRAGMA user_version = 5",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "SELECT * FROM template",
        "UPDATE note SET text = 'a' WHERE temperature = 5",
    ],
)
def test_what_costs_no_connection(sql):
    """110. Questions, what is put back, and what stays in the file anyway."""
    assert not leaves_settings(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'other.db' AS other",
        "CREATE TEMP TABLE scratch (a)",
        "CREATE TEMPORARY VIEW v AS SELECT 1",
        "CREATE TABLE temp.scratch (a)",
        "PRAGMA case_sensitive_like = 1",
        "PRAGMA main.synchronous(0)",
    ],
)
def test_what_costs_a_connection(sql):
    """110. What the next session would see, and nothing puts back."""
    assert leaves_settings(sql)


def test_connections_without_settings_are_kept(sqlite_file_url):
    """110. Looking at the schema is no reason to open the file again."""
    db = Database(sqlite_file_url)
    for _ in range(3):
        with db_session:
            db.execute("CREATE TABLE IF NOT EXISTS note (text)")
            assert db.select("PRAGMA table_info(note)")
    assert db.counters.connections == 1
    db.close()
