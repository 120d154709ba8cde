"""The tests. `conftest.py` says which databases they run on, `servers.py` starts the PostgreSQL ones."""
