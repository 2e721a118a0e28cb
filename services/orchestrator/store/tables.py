"""The tables. Every row has its project; times are UTC; messages are kept serialized."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

explanations = Table(
    "explanations",
    metadata,
    Column("project", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("request_hash", Text, nullable=False),
    Column("feature", Text, nullable=False),
    Column("sae", Text, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("plan", LargeBinary, nullable=False),
    # Input of the workflow, so that a reconciler can start what a crash left behind.
    Column("workflow_input", JSONB, nullable=False),
    Column("explanation", LargeBinary),
    Column("scores", LargeBinary),
    Column("dossier", JSONB),
    Column("run_record", JSONB),
    Column("dossier_digest", Text, nullable=False, server_default=""),
    Column("failure_reason", Text),
    Column("failure_message", Text),
    Column("failure_step", Text),
    Column("usage", LargeBinary, nullable=False, server_default=""),
    Column("probe_count", Integer, nullable=False, server_default="0"),
    Column("stop_reason", SmallInteger, nullable=False, server_default="0"),
    Column("partial", Boolean, nullable=False, server_default="false"),
    # Runs that score what was there before; empty name where that came from elsewhere.
    Column("scores_only", Boolean, nullable=False, server_default="false"),
    Column("scored_explanation", Text, nullable=False, server_default=""),
    # Sequence of the newest event: the row lock makes the next one gapless.
    Column("last_sequence", BigInteger, nullable=False, server_default="0"),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    Column("end_time", DateTime(timezone=True)),
    UniqueConstraint("project", "request_id"),
    Index(None, "project", "create_time", "id"),
    Index("ix_explanations_pending", "create_time", postgresql_where="state = 1"),
    Index(
        "ix_explanations_scored",
        "project",
        "scored_explanation",
        postgresql_where="scored_explanation <> ''",
    ),
)

explanation_events = Table(
    "explanation_events",
    metadata,
    Column("project", Text, primary_key=True),
    Column("explanation", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    # Step, round and ordinal: a repeated step appends nothing.
    Column("key", Text, nullable=False),
    Column("event", LargeBinary, nullable=False),
    UniqueConstraint("project", "explanation", "key"),
    ForeignKeyConstraint(
        ["project", "explanation"], ["explanations.project", "explanations.id"], ondelete="CASCADE"
    ),
)

indexes = Table(
    "indexes",
    metadata,
    Column("project", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    # Empty until the build is planned.
    Column("key", Text, nullable=False, server_default=""),
    Column("config", LargeBinary, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("done_token_count", BigInteger, nullable=False, server_default="0"),
    Column("total_token_count", BigInteger, nullable=False, server_default="0"),
    Column("tokens_per_second", Double, nullable=False, server_default="0"),
    # Shard to what it reported last; progress is their sum.
    Column("shards", JSONB, nullable=False, server_default="{}"),
    Column("summary", LargeBinary),
    Column("artifact_fingerprint", Text, nullable=False, server_default=""),
    Column("failure_reason", Text),
    Column("failure_message", Text),
    Column("failure_step", Text),
    # Raised with every build of the same index: part of the workflow's id.
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("start_time", DateTime(timezone=True)),
    Column("end_time", DateTime(timezone=True)),
    Index(None, "project", "create_time", "id"),
)
