"""Where the data is: statements and flows, and what SQLite and PostgreSQL make of them."""
