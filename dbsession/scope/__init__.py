"""How code enters: `db_session`, the stack of scopes, retry."""
