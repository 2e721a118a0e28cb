"""Runs that score an explanation that was there before."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Says of every run whether it only scores, and what."""
    op.add_column(
        "explanations",
        sa.Column("scores_only", sa.Boolean, nullable=False, server_default="false"),
    )
    op.add_column(
        "explanations",
        sa.Column("scored_explanation", sa.Text, nullable=False, server_default=""),
    )
    op.create_index(
        "ix_explanations_scored",
        "explanations",
        ["project", "scored_explanation"],
        postgresql_where=sa.text("scored_explanation <> ''"),
    )


def downgrade() -> None:
    """Forgets it, and the runs that only score with it."""
    op.drop_index("ix_explanations_scored", "explanations")
    op.execute("DELETE FROM explanations WHERE scores_only")
    op.drop_column("explanations", "scored_explanation")
    op.drop_column("explanations", "scores_only")
