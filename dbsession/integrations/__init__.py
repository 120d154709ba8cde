"""What dbsession has for the tools and frameworks of others."""
