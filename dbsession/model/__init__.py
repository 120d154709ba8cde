"""What the data is: entities, attributes and relations, their states, their tables."""
