"""The plugin as its users see it: modules of tests that are run by a pytest of their own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

from tests.pages import ROOT

pytest_plugins = ["pytester"]

PLUGIN = "dbsession.integrations.pytest_plugin"

MODEL = """
    import pytest
    from dbsession import Database, Required, db_session

    db = Database({url!r})

    class Account(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
"""

CONFTEST = """
    import pytest
    from model import db

    @pytest.fixture
    def dbsession_database():
        return db

    @pytest.fixture(scope="session", autouse=True)
    def closed():
        yield
        db.close()
"""


@pytest.fixture
def project(pytester, db_url):
    """A folder with a model and a conftest.py."""
    pytester.makepyfile(model=MODEL.format(url=db_url))
    pytester.makeconftest(CONFTEST)
    return pytester


def run(project, *arguments):
    return project.runpytest_inprocess("-p", PLUGIN, "-p", "no:cacheprovider", "-p", "no:timeout", *arguments)


def test_two_tests_that_commit(project):
    """128. Two tests commit, in whatever order, and each finds an empty table; so do those without the fixture."""
    project.makepyfile("""
        import pytest
        from dbsession import db_session
        from model import Account

        def count():
            with db_session:
                return Account.select().count()

        @pytest.mark.parametrize("name", ["first", "second"])
        def test_commits(db_rollback, name):
            assert count() == 0
            with db_session:
                Account(name=name)
            assert count() == 1

        def test_fails(db_rollback):
            with db_session:
                Account(name="of a test that fails")
            assert count() == 2

        def test_nothing_is_left():
            assert count() == 0
    """)
    result = run(project)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2*"])


def test_a_wrong_number_of_queries(project):
    """129. A test that sends more than it says fails with the SQL, at its own line, and without the values."""
    project.makepyfile("""
        from dbsession import db_session
        from model import Account

        def test_queries(db_rollback, assert_queries):
            with assert_queries(1), db_session:
                Account.select().count()
                Account.get(name="secret")

        def test_round_trips(assert_round_trips):
            with assert_round_trips(at_most=1), db_session:
                Account.select().count()
                Account.get(name="secret")

        def test_right(db_rollback, assert_queries, assert_round_trips):
            with assert_queries(1) as recording, assert_round_trips(at_most=1), db_session:
                Account(name="a")
            assert "INSERT" in recording.sql[0]
    """)
    result = run(project)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "E   *AssertionError: 1 query expected, 2 made; this was sent, by round trips:",
            "E   *1. SELECT count(*) FROM *ccount*",
            "E   *2. SELECT*FROM *ccount* WHERE*",
            "test_a_wrong_number_of_queries.py:5: AssertionError",
            "E   *AssertionError: at most 1 round trips expected, 2 made*",
        ]
    )
    assert "recording.py" not in result.stdout.str()
    assert "parameters" not in result.stdout.str() and "('secret'" not in result.stdout.str()


def test_several_databases(project):
    """128, 129: the fixture may name several databases: all are rolled back, and counts say which one is meant."""
    project.makeconftest("""
        import pytest
        from dbsession import Database, Required
        from model import db

        other = Database("sqlite://")

        class Note(other.Entity):
            text = Required(str)

        other.generate_mapping(create_tables=True)

        @pytest.fixture
        def dbsession_database():
            return db, other

        @pytest.fixture(scope="session", autouse=True)
        def closed():
            yield
            db.close()
            other.close()
    """)
    project.makepyfile("""
        import pytest
        from dbsession import db_session
        from conftest import Note, other
        from model import Account, db

        @pytest.mark.parametrize("number", [1, 2])
        def test_both(db_rollback, assert_queries, number):
            assert db_rollback == (db, other)
            with assert_queries(1, database=db), assert_queries(2, database=other), db_session:
                Account(name="a")
                Note(text="n")
                assert Note.select().count() == 1

        def test_which_one(assert_queries):
            with pytest.raises(TypeError, match="2 databases"):
                assert_queries(1)
    """)
    run(project).assert_outcomes(passed=3)


def test_a_wider_rollback_around_that_of_each_test(project):
    """128. A module prepares its data once, within a rolled_back of its own."""
    project.makepyfile("""
        import pytest
        from dbsession import db_session
        from dbsession.integrations.testing import rolled_back
        from model import Account, db

        @pytest.fixture(scope="module", autouse=True)
        def accounts():
            with rolled_back(db):
                with db_session:
                    Account(name="for all")
                yield

        @pytest.mark.parametrize("name", ["first", "second"])
        def test_both(db_rollback, name):
            with db_session:
                Account(name=name)
            with db_session:
                assert sorted(a.name for a in Account.select()) == sorted(["for all", name])
    """)
    run(project).assert_outcomes(passed=2)


def test_without_a_database(pytester):
    """128. A test that asks for the fixture where nobody has named a database is told how to."""
    pytester.makepyfile("def test_it(db_rollback): pass")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*override the fixture dbsession_database*", "*def dbsession_database():*"])


def test_unittest(pytester, db_url, monkeypatch):
    """128. Without pytest the same is a context manager."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(
        model=MODEL.replace("import pytest", "import unittest").format(url=db_url)
        + """
    from dbsession.integrations.testing import rolled_back

    class AccountTest(unittest.TestCase):
        def setUp(self):
            self.enterContext(rolled_back(db))

        def test_first(self):
            with db_session:
                Account(name="first")
                assert Account.select().count() == 1

        test_second = test_first

    if __name__ == "__main__":
        unittest.main()
"""
    )
    result = pytester.runpython("model.py")
    assert result.ret == 0
    result.stderr.fnmatch_lines(["Ran 2 tests*", "OK"])


def test_pytest_finds_it():
    """128. The entry point of the package names the plugin."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}
    assert {"db_rollback", "assert_queries", "assert_round_trips"} <= set(import_module(PLUGIN).__all__)


def test_the_package_does_not_import_pytest():
    """128. Neither the package nor its help for tests needs pytest; only the plugin does."""
    code = "import sys, dbsession, dbsession.integrations.testing; print('pytest' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"
