"""Settings of the orchestrator, read once in `__main__.py`."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServerSettings, shared

_PREFIX = "SAEXPLAIN_ORCHESTRATOR_"


class StoreSettings(ServerSettings):
    """What every role of the orchestrator needs."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    database_url: SecretStr = Field(validation_alias=shared("DATABASE_URL"))
    """PostgreSQL. Secret because it may hold a password."""

    database_pool_size: int = Field(5, ge=1, le=100)
    """Connections kept open by one process; twice as many at most."""


class OrchestratorSettings(StoreSettings):
    """What API and worker share."""

    artifact_url: str = Field(validation_alias=shared("ARTIFACT_URL"))
    """fsspec URL or folder of the artifacts."""

    activation_address: str = Field("127.0.0.1:7201", validation_alias=shared("ACTIVATION_ADDRESS"))
    indexer_address: str = Field("127.0.0.1:7202", validation_alias=shared("INDEXER_ADDRESS"))
    agent_address: str = Field("127.0.0.1:7203", validation_alias=shared("AGENT_ADDRESS"))
    scorer_address: str = Field("127.0.0.1:7204", validation_alias=shared("SCORER_ADDRESS"))

    temporal_address: str = Field("127.0.0.1:7233", validation_alias=shared("TEMPORAL_ADDRESS"))
    temporal_namespace: str = Field("default", validation_alias=shared("TEMPORAL_NAMESPACE"))

    connect_seconds: float = Field(60.0, ge=0, le=3600)
    """How long to wait at the start for Temporal and the database."""


class NamespaceSettings(ServerSettings):
    """What registering Temporal's namespace needs."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    temporal_address: str = Field("127.0.0.1:7233", validation_alias=shared("TEMPORAL_ADDRESS"))
    temporal_namespace: str = Field("default", validation_alias=shared("TEMPORAL_NAMESPACE"))

    temporal_retention_days: int = Field(
        30, ge=1, le=3650, validation_alias=shared("TEMPORAL_RETENTION_DAYS")
    )
    """How long Temporal keeps histories of runs that ended. Dossiers do not depend on them."""

    connect_seconds: float = Field(60.0, ge=0, le=3600)
    """How long to wait at the start for Temporal."""


class ApiSettings(OrchestratorSettings):
    """What the API needs besides."""

    listen: str = Field("127.0.0.1:7205", validation_alias=shared("ORCHESTRATOR_LISTEN"))

    llm_model: str = Field("", validation_alias=shared("LLM_MODEL"))
    """Model for explainers and judges whose request names none. Empty: none."""

    reconcile_seconds: float = Field(10.0, gt=0, le=3600)
    """How often PENDING rows without a workflow are looked for; older than this count."""

    watch_poll_seconds: float = Field(2.0, gt=0, le=60)
    """How often a watch looks by itself, in case a notification was lost."""


class WorkerSettings(OrchestratorSettings):
    """What the worker needs besides. The limits stay below what each service admits."""

    listen: str = Field("127.0.0.1:7206", validation_alias=shared("ORCHESTRATOR_WORKER_LISTEN"))
    """Address of the health service."""

    control_activities: int = Field(16, ge=1, le=1000)
    """Control steps at once in this process."""

    activation_activities: int = Field(8, ge=1, le=1000)
    """Calls to the activation service at once."""

    llm_activities: int = Field(16, ge=1, le=1000)
    """Calls to agent and scorer at once."""

    index_activities: int = Field(2, ge=1, le=100)
    """Shards swept at once."""

    build_id: str = ""
    """Version of this worker's code in Temporal's worker deployment `saexplain`. Runs
    are then pinned to it. Empty: no versioning, right for one machine."""
