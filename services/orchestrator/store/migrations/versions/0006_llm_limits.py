"""Budgets of campaigns and projects, limits towards providers."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns with defaults, and tables: older code goes on as before."""
    op.add_column(
        "llm_calls", sa.Column("endpoint", sa.String(200), nullable=False, server_default="")
    )
    op.create_index(
        "ix_llm_calls_in_flight",
        "llm_calls",
        ["lease_expire_time"],
        postgresql_where=sa.text("state = 'IN_FLIGHT'"),
    )
    op.add_column("llm_budgets", sa.Column("campaign", sa.String(200)))
    _create_limits()
    _create_tickets()


def downgrade() -> None:
    """Removes them."""
    op.drop_table("llm_tickets")
    op.drop_table("llm_limits")
    op.drop_column("llm_budgets", "campaign")
    op.drop_index("ix_llm_calls_in_flight", "llm_calls")
    op.drop_column("llm_calls", "endpoint")


def _create_limits() -> None:
    op.create_table(
        "llm_limits",
        sa.Column("endpoint", sa.String(200), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("request_level", sa.Double),
        sa.Column("token_level", sa.Double),
        _number("refill_time", sa.Double()),
        sa.Column("pause_reason", sa.String(32)),
        _number("pause_time", sa.Double()),
        _number("pause_end_time", sa.Double()),
        _number("failure_count", sa.Integer()),
        _number("probe_end_time", sa.Double()),
        sa.Column("ramp_start_time", sa.Double),
        _number("ramp_admitted_count", sa.Integer()),
        sa.Column("turns", sa.JSON, nullable=False, server_default="{}"),
        sa.PrimaryKeyConstraint("endpoint", "model", name="pk_llm_limits"),
    )


def _create_tickets() -> None:
    op.create_table(
        "llm_tickets",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("endpoint", sa.String(200), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("project", sa.String(200), nullable=False),
        sa.Column("campaign", sa.String(200), nullable=False),
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("token_count", sa.BigInteger, nullable=False),
        sa.Column("expire_time", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_llm_tickets"),
    )
    op.create_index(
        "ix_llm_tickets_endpoint_model_project_campaign_number",
        "llm_tickets",
        ["endpoint", "model", "project", "campaign", "number"],
    )


def _number(name: str, kind: sa.Double[float] | sa.Integer) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, server_default="0")
