"""The SQL of the query language, form by form: see `forms.txt`, which `python -m tests.query.golden` writes."""
