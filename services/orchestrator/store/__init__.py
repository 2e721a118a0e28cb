"""The PostgreSQL store: explanations, their events, indexes."""
