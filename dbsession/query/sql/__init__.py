"""From the tree of a query to SQL.

`compiled` has the statements of a query, `select_sql` writes a SELECT, `compiler` writes expressions.
"""
