"""The journal of calls to language models, and the budgets of their owners."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MONEY = sa.Numeric(20, 10)
_KEY = ["owner", "step", "round", "ordinal", "request_hash"]


def upgrade() -> None:
    """Creates the tables."""
    _create_calls()
    _create_budgets()


def downgrade() -> None:
    """Drops the tables."""
    op.drop_table("llm_budgets")
    op.drop_table("llm_calls")


def _time(name: str, *, default: bool = False, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.TIMESTAMP(timezone=True),
        nullable=nullable,
        server_default=sa.func.now() if default else None,
    )


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _create_calls() -> None:
    op.create_table(
        "llm_calls",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("step", sa.String(100), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("holder", sa.String(32), nullable=False),
        _time("lease_expire_time", nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("schema_name", sa.String(100), nullable=False),
        sa.Column("prompt_fingerprint", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(32)),
        sa.Column("detail", sa.Text),
        sa.Column("reply", sa.Text),
        sa.Column("http_status", sa.Integer),
        sa.Column("retry_after_seconds", sa.Double),
        _count("prompt_token_count"),
        _count("cached_prompt_token_count"),
        _count("completion_token_count"),
        _count("reasoning_token_count"),
        sa.Column("cost", _MONEY),
        sa.Column("currency_code", sa.String(3)),
        _count("reserved_token_count"),
        sa.Column("reserved_cost", _MONEY),
        _time("create_time", default=True, nullable=False),
        _time("end_time"),
        sa.PrimaryKeyConstraint("id", name="pk_llm_calls"),
        sa.UniqueConstraint(
            *_KEY, "attempt", name="uq_llm_calls_owner_step_round_ordinal_request_hash_attempt"
        ),
        sa.CheckConstraint(
            "state IN ('IN_FLIGHT', 'STORED', 'FAILED', 'LOST')", name="ck_llm_calls_state"
        ),
        sa.CheckConstraint("(state = 'IN_FLIGHT') = (end_time IS NULL)", name="ck_llm_calls_ended"),
        sa.CheckConstraint(
            "state = 'IN_FLIGHT' OR outcome IS NOT NULL", name="ck_llm_calls_outcome"
        ),
    )
    op.create_index(
        "uq_llm_calls_live",
        "llm_calls",
        _KEY,
        unique=True,
        postgresql_where=sa.text("state IN ('IN_FLIGHT', 'STORED')"),
    )


def _create_budgets() -> None:
    op.create_table(
        "llm_budgets",
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("max_token_count", sa.BigInteger),
        sa.Column("max_cost", _MONEY),
        sa.Column("currency_code", sa.String(3)),
        _count("spent_token_count"),
        _count("reserved_token_count"),
        sa.Column("spent_cost", _MONEY, nullable=False, server_default="0"),
        sa.Column("reserved_cost", _MONEY, nullable=False, server_default="0"),
        _time("cancel_time"),
        _time("create_time", default=True, nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_llm_budgets"),
        sa.CheckConstraint("max_token_count >= 0", name="ck_llm_budgets_max_token_count"),
        sa.CheckConstraint("max_cost >= 0", name="ck_llm_budgets_max_cost"),
        sa.CheckConstraint("reserved_token_count >= 0", name="ck_llm_budgets_reserved_token_count"),
        sa.CheckConstraint("reserved_cost >= 0", name="ck_llm_budgets_reserved_cost"),
    )
