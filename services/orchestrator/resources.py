"""From rows to the messages of the public API. Pure code."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.engine import RowMapping

from saexplain.explanation.v1 import explanation_pb2
from services.common.names import explanation_name, index_name


def to_explanation(
    row: RowMapping, *, with_plan: bool = True
) -> explanation_pb2.ExplanationResource:
    """An explanation's row as its resource."""
    resource = explanation_pb2.ExplanationResource(
        name=explanation_name(row["project"], row["id"]),
        feature=row["feature"],
        state=row["state"],
        dossier_digest=row["dossier_digest"],
        failure=_failure(row),
        create_time=_time(row["create_time"]),
        update_time=_time(row["update_time"]),
        end_time=_time(row["end_time"]),
        stop_reason=row["stop_reason"],
        partial=row["partial"],
        scores_only=row["scores_only"],
        scored_explanation=row["scored_explanation"],
    )
    resource.usage.ParseFromString(row["usage"])
    if with_plan:
        resource.plan.ParseFromString(row["plan"])
    if row["explanation"] is not None:
        resource.explanation.ParseFromString(row["explanation"])
    if row["scores"] is not None:
        resource.MergeFromString(row["scores"])
    return resource


def to_index(row: RowMapping) -> explanation_pb2.IndexResource:
    """An index's row as its resource."""
    resource = explanation_pb2.IndexResource(
        name=index_name(row["project"], row["id"]),
        state=row["state"],
        done_token_count=row["done_token_count"],
        total_token_count=row["total_token_count"],
        tokens_per_second=row["tokens_per_second"],
        artifact_fingerprint=row["artifact_fingerprint"],
        failure=_failure(row),
        create_time=_time(row["create_time"]),
        end_time=_time(row["end_time"]),
        key=row["key"],
    )
    resource.config.ParseFromString(row["config"])
    if row["summary"] is not None:
        resource.summary.ParseFromString(row["summary"])
    if row["tokens_per_second"] > 0:
        left = max(row["total_token_count"] - row["done_token_count"], 0)
        resource.remaining_seconds = left / row["tokens_per_second"]
    return resource


def _failure(row: RowMapping) -> explanation_pb2.RunFailure | None:
    if row["failure_reason"] is None:
        return None
    return explanation_pb2.RunFailure(
        reason=row["failure_reason"],
        message=row["failure_message"] or "",
        step=row["failure_step"] or "",
    )


def _time(value: datetime | None) -> Any:
    if value is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(value)
    return stamp
