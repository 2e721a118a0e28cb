"""Tables of the call journal. Their migrations are Alembic revisions of the store.

`llm_calls` has one row per request sent to a provider; `llm_budgets` one row per owner
(explanation, campaign, project) whose spending is limited or cancelled; an owner without a
row has no limit. `llm_limits` has one row per model of an endpoint, `llm_tickets` one per
call that waits for its turn there.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    TIMESTAMP,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

STATE_IN_FLIGHT = "IN_FLIGHT"
"""Claimed; the request is on its way or the claimant is gone."""
STATE_STORED = "STORED"
"""A reply is stored, usable or not. It is never bought again."""
STATE_FAILED = "FAILED"
"""The provider answered with an error or not at all; may be repeated."""
STATE_LOST = "LOST"
"""The lease ran out while the call was in flight; may be repeated."""

_money = Numeric(20, 10)

llm_calls = Table(
    "llm_calls",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # The key: which call of which step of which run, and what was asked.
    Column("owner", String(200), nullable=False),
    Column("step", String(100), nullable=False),
    Column("round", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    # The claim: whose it is and until when, by the clock of the database.
    Column("holder", String(32), nullable=False),
    Column("lease_expire_time", TIMESTAMP(timezone=True), nullable=False),
    # What was asked of whom.
    Column("endpoint", String(200), nullable=False, server_default=""),
    Column("model", String(200), nullable=False),
    Column("schema_name", String(100), nullable=False),
    Column("prompt_fingerprint", String(64), nullable=False),
    # What came back. `outcome` is a name of LlmCallOutcome without its prefix.
    Column("outcome", String(32)),
    Column("detail", Text),
    Column("reply", Text),
    # Per token of the reply, [token, [[alternative, log probability], ...]].
    Column("alternatives", JSON(none_as_null=True)),
    Column("http_status", Integer),
    Column("retry_after_seconds", Double),
    # What it cost; 0 where the provider did not say, NULL for an unknown price.
    Column("prompt_token_count", BigInteger, nullable=False, server_default="0"),
    Column("cached_prompt_token_count", BigInteger, nullable=False, server_default="0"),
    Column("completion_token_count", BigInteger, nullable=False, server_default="0"),
    Column("reasoning_token_count", BigInteger, nullable=False, server_default="0"),
    Column("cost", _money),
    Column("currency_code", String(3)),
    # What was set aside of the owner's budget while in flight.
    Column("reserved_token_count", BigInteger, nullable=False, server_default="0"),
    Column("reserved_cost", _money),
    Column("create_time", TIMESTAMP(timezone=True), nullable=False, server_default=func.now()),
    Column("end_time", TIMESTAMP(timezone=True)),
    UniqueConstraint("owner", "step", "round", "ordinal", "request_hash", "attempt"),
    CheckConstraint("state IN ('IN_FLIGHT', 'STORED', 'FAILED', 'LOST')", name="state"),
    CheckConstraint("(state = 'IN_FLIGHT') = (end_time IS NULL)", name="ended"),
    CheckConstraint("state = 'IN_FLIGHT' OR outcome IS NOT NULL", name="outcome"),
)

# At most one live claim or stored reply per key, whatever the code does.
Index(
    "uq_llm_calls_live",
    llm_calls.c.owner,
    llm_calls.c.step,
    llm_calls.c.round,
    llm_calls.c.ordinal,
    llm_calls.c.request_hash,
    unique=True,
    postgresql_where=text("state IN ('IN_FLIGHT', 'STORED')"),
)

Index(
    "ix_llm_calls_in_flight",
    llm_calls.c.lease_expire_time,
    postgresql_where=text("state = 'IN_FLIGHT'"),
)

llm_budgets = Table(
    "llm_budgets",
    metadata,
    Column("owner", String(200), primary_key=True),
    # Of an explanation: the campaign whose budget it spends too.
    Column("campaign", String(200)),
    # NULL: no limit of this kind.
    Column("max_token_count", BigInteger),
    Column("max_cost", _money),
    Column("currency_code", String(3)),
    Column("spent_token_count", BigInteger, nullable=False, server_default="0"),
    Column("reserved_token_count", BigInteger, nullable=False, server_default="0"),
    Column("spent_cost", _money, nullable=False, server_default="0"),
    Column("reserved_cost", _money, nullable=False, server_default="0"),
    # Set once a user cancels: no call is claimed any more and those in flight stop.
    Column("cancel_time", TIMESTAMP(timezone=True)),
    Column("create_time", TIMESTAMP(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("max_token_count >= 0", name="max_token_count"),
    CheckConstraint("max_cost >= 0", name="max_cost"),
    CheckConstraint("reserved_token_count >= 0", name="reserved_token_count"),
    CheckConstraint("reserved_cost >= 0", name="reserved_cost"),
)

# Unix seconds, not timestamps: the arithmetic of `admission` is done on them.
llm_limits = Table(
    "llm_limits",
    metadata,
    Column("endpoint", String(200), primary_key=True),
    Column("model", String(200), primary_key=True),
    # Columns of `admission.LimitState`.
    Column("request_level", Double),
    Column("token_level", Double),
    Column("refill_time", Double, nullable=False, server_default="0"),
    Column("pause_reason", String(32)),
    Column("pause_time", Double, nullable=False, server_default="0"),
    Column("pause_end_time", Double, nullable=False, server_default="0"),
    Column("failure_count", Integer, nullable=False, server_default="0"),
    Column("probe_end_time", Double, nullable=False, server_default="0"),
    Column("ramp_start_time", Double),
    Column("ramp_admitted_count", Integer, nullable=False, server_default="0"),
    Column("turns", JSON, nullable=False, server_default="{}"),
)

llm_tickets = Table(
    "llm_tickets",
    metadata,
    # SHA-256 (hex) of the call's key.
    Column("id", String(64), primary_key=True),
    Column("endpoint", String(200), nullable=False),
    Column("model", String(200), nullable=False),
    Column("project", String(200), nullable=False),
    Column("campaign", String(200), nullable=False),
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("token_count", BigInteger, nullable=False),
    # Unix seconds; a caller that is still there moves it.
    Column("expire_time", Double, nullable=False),
    Index(None, "endpoint", "model", "project", "campaign", "number"),
)
