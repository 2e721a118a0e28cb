"""Probabilities of the tokens of replies, for questions that want them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column("llm_calls", sa.Column("alternatives", sa.JSON))


def downgrade() -> None:
    """Drops the column."""
    op.drop_column("llm_calls", "alternatives")
