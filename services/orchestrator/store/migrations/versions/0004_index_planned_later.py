"""An index's key is known when its build has read the corpus; two builds may come to one key."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Lets the key be empty and shared."""
    op.drop_constraint("uq_indexes_project_key", "indexes")
    op.alter_column("indexes", "key", server_default="")


def downgrade() -> None:
    """Demands it again; what has none, or another's, is removed."""
    op.execute("DELETE FROM indexes WHERE key = ''")
    op.execute(
        "DELETE FROM indexes a USING indexes b"
        " WHERE a.project = b.project AND a.key = b.key AND a.id > b.id"
    )
    op.alter_column("indexes", "key", server_default=None)
    op.create_unique_constraint("uq_indexes_project_key", "indexes", ["project", "key"])
