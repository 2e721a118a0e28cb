"""Alembic revisions of the shared schema, the LLM journal's tables included."""
