"""Language model cut at a hook, SAEs on top of it, and what feeds them (no transport in here)."""
