"""The reference of an artifact, apart from the store: workflow code carries references
and must not load what the store needs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ArtifactRef(BaseModel):
    """Where some bytes are and what they are. Small enough for a workflow's history."""

    model_config = ConfigDict(frozen=True)

    path: str
    sha256: str
    size: int
