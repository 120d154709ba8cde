"""From the source of a generator expression or lambda to the tree of a query.

Begin with `translator`, which says what is Python's and what is the database's. `source` finds the text, `names`
and `memory` say where values come from and what is remembered; `visitors`, `loops`, `functions`, `methods` and
`inlining` know the kinds of expressions.
"""
