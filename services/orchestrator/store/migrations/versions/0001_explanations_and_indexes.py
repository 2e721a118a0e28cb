"""Explanations, their events, and indexes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables."""
    _create_explanations()
    _create_events()
    _create_indexes()


def downgrade() -> None:
    """Drops the tables."""
    op.drop_table("indexes")
    op.drop_table("explanation_events")
    op.drop_table("explanations")


def _create_explanations() -> None:
    op.create_table(
        "explanations",
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("request_hash", sa.Text, nullable=False),
        sa.Column("feature", sa.Text, nullable=False),
        sa.Column("sae", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("plan", sa.LargeBinary, nullable=False),
        sa.Column("workflow_input", JSONB, nullable=False),
        sa.Column("explanation", sa.LargeBinary),
        sa.Column("scores", sa.LargeBinary),
        sa.Column("dossier", JSONB),
        sa.Column("run_record", JSONB),
        sa.Column("dossier_digest", sa.Text, nullable=False, server_default=""),
        sa.Column("failure_reason", sa.Text),
        sa.Column("failure_message", sa.Text),
        sa.Column("failure_step", sa.Text),
        sa.Column("usage", sa.LargeBinary, nullable=False, server_default=""),
        sa.Column("probe_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("stop_reason", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("partial", sa.Boolean, nullable=False, server_default="false"),
        sa.Column("last_sequence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_time", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("project", "id", name="pk_explanations"),
        sa.UniqueConstraint("project", "request_id", name="uq_explanations_project_request_id"),
    )
    op.create_index(
        "ix_explanations_project_create_time_id", "explanations", ["project", "create_time", "id"]
    )
    op.create_index(
        "ix_explanations_pending",
        "explanations",
        ["create_time"],
        postgresql_where=sa.text("state = 1"),
    )


def _create_events() -> None:
    op.create_table(
        "explanation_events",
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("explanation", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("project", "explanation", "sequence", name="pk_explanation_events"),
        sa.UniqueConstraint(
            "project", "explanation", "key", name="uq_explanation_events_project_explanation_key"
        ),
        sa.ForeignKeyConstraint(
            ["project", "explanation"],
            ["explanations.project", "explanations.id"],
            name="fk_explanation_events_explanations",
            ondelete="CASCADE",
        ),
    )


def _create_indexes() -> None:
    op.create_table(
        "indexes",
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("config", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("done_token_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("total_token_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("tokens_per_second", sa.Double, nullable=False, server_default="0"),
        sa.Column("shards", JSONB, nullable=False, server_default="{}"),
        sa.Column("summary", sa.LargeBinary),
        sa.Column("artifact_fingerprint", sa.Text, nullable=False, server_default=""),
        sa.Column("failure_reason", sa.Text),
        sa.Column("failure_message", sa.Text),
        sa.Column("failure_step", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("start_time", sa.DateTime(timezone=True)),
        sa.Column("end_time", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("project", "id", name="pk_indexes"),
        sa.UniqueConstraint("project", "key", name="uq_indexes_project_key"),
    )
    op.create_index(
        "ix_indexes_project_create_time_id", "indexes", ["project", "create_time", "id"]
    )
