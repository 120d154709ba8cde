"""How to read it: queries as values, and their translation to SQL."""
