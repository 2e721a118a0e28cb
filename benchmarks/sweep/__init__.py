"""How fast, and in how much memory, an index is made."""
