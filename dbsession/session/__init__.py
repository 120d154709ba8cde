"""How to change it: the unit of work, its identity map, flush and transaction."""
