"""How fast dbsession is beside hand-written SQL, SQLAlchemy and Pony: ``python -m benchmarks``.

General layout: `data` (the rows, how many), `target` (a database file or server that each contender
gets, and a look at it from outside), `server` (a PostgreSQL to measure on), `contenders` (one file
each), `operations` (what is measured, and the proof that it was done), `worker` (a process for each
contender), `runner` (the interleaved rounds), `memory`, `report`, `cli`.
"""
