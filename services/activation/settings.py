"""Settings of the activation service, front and indexer alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.tokenizer import TextLimits
from services.activation.vocabulary.limits import ProbeLimits
from services.common.settings import ServerSettings, default_cache_dir, shared


class ActivationSettings(ServerSettings):
    """Read from ``SAEXPLAIN_ACTIVATION_*``; fields with an alias are shared with other services."""

    model_config = SettingsConfigDict(env_prefix="SAEXPLAIN_ACTIVATION_")

    registry: Path = Field(
        Path(__file__).with_name("registry.yaml"), validation_alias=shared("REGISTRY")
    )
    """YAML file of models and SAEs."""
    cache_dir: Path = Field(default_factory=default_cache_dir, validation_alias=shared("CACHE_DIR"))
    """Converted models."""
    index_dir: Path = Field(
        default_factory=lambda: default_cache_dir() / "indexes",
        validation_alias=shared("INDEX_DIR"),
    )
    """Indexes, one folder each; work in progress below ``.work``."""
    backend: Literal["in_process", "triton"] = "in_process"
    """Who computes activations. The indexer always computes for itself."""
    triton_timeout_seconds: float = Field(300.0, gt=0)
    """For one request to Triton, waiting in its queue included."""
    triton_recovery_seconds: float = Field(30.0, ge=0)
    """How long a request waits for a Triton model whose process or server died to come back."""
    triton_address: str = Field("127.0.0.1:8001", validation_alias=shared("TRITON_ADDRESS"))
    """Triton's gRPC endpoint; only read with ``backend=triton``."""
    device: str = "cpu"
    """Torch device."""
    torch_threads: int = Field(0, ge=0, le=1_024)
    """CPU threads of the model; 0 leaves it to torch."""
    preload: Annotated[tuple[str, ...] | None, NoDecode] = None
    """SAEs to load before saying SERVING, separated by commas; ``*`` for all, empty for none,
    unset for the first of the registry."""
    memory_budget_bytes: int = Field(0, ge=0)
    """For weights and workspaces of models and SAEs, shared equally by Triton's models; what is
    idle makes room. 0 for 0.7 of the memory of the GPU, or of machine or control group."""

    corpus_schemes: tuple[str, ...] = ("file",)
    """URL schemes of corpora that an indexer opens: those of fsspec (``s3``, ``gs``, ``https``,
    each with its package installed), ``file`` for paths, ``dataset`` for Hugging Face's hub.
    Whoever may ask for an index can make the indexer read what these reach."""
    corpus_folders: tuple[Path, ...] = ()
    """Folders below which local corpora must lie; empty for anywhere."""
    max_document_bytes: int = Field(2**26, ge=1)
    """Bytes of one document of a corpus."""

    max_texts: int = Field(4_096, ge=1)
    """Texts of one call."""
    max_text_bytes: int = Field(65_536, ge=1)
    """UTF-8 bytes of one text."""
    max_text_tokens: int = Field(2_048, ge=2)
    """Tokens of one text, the first token included."""
    max_features: int = Field(256, ge=1)
    """Features of one ``Encode``."""
    max_queued_tokens: int = Field(1_048_576, ge=2)
    """Tokens waiting or running over all calls; more are refused with a time to wait."""
    max_queued_calls: int = Field(4_096, ge=1)
    """Encode calls waiting or running; more are refused with a time to wait."""
    batch_token_budget: int = Field(1_024, ge=2)
    """Tokens of one forward pass. Larger ones are no faster on CPUs, and callers wait longer for
    each other; a GPU wants some 16,384."""
    row_cache_bytes: int = Field(2**27, ge=0)
    """Memory for activations computed before, by content; what was used longest ago makes room.
    0 turns it off."""
    page_token_count: int = Field(8_192, ge=1)
    """Tokens that are encoded together for one page of a streamed answer."""
    page_memory_bytes: int = Field(2**28, ge=2**20)
    """Activations that are held together for one page: where all features of an SAE may fire, fewer
    tokens than ``page_token_count`` are encoded together."""
    page_bytes: int = Field(1_048_576, ge=1_024)
    """A page of a streamed answer is closed when it has grown beyond this."""

    max_probe_carriers: int = Field(8, ge=1)
    """Carriers of one ``ProbeVocabulary``."""
    max_running_probes: int = Field(4, ge=1)
    """Probes of the vocabulary that run at a time; more are refused with a time to wait."""
    probe_batch_tokens: int = Field(1_024, ge=1)
    """Tokens of the vocabulary that are computed together behind a carrier."""
    probe_page_features: int = Field(1_024, ge=1)
    """Features of one page of the strongest tokens."""

    @property
    def probe_limits(self) -> ProbeLimits:
        """Limits of a probe of the vocabulary."""
        return ProbeLimits(
            text=self.text_limits,
            max_carriers=self.max_probe_carriers,
            max_features=self.max_features,
            max_running=self.max_running_probes,
            batch_tokens=self.probe_batch_tokens,
            page_features=self.probe_page_features,
        )

    @field_validator("preload", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())

    @property
    def text_limits(self) -> TextLimits:
        """Limits of one text."""
        return TextLimits(self.max_text_bytes, self.max_text_tokens)

    @property
    def encoder_limits(self) -> EncoderLimits:
        """Limits of the backend."""
        return EncoderLimits(
            max_rows=self.max_texts,
            max_row_tokens=self.max_text_tokens,
            max_features=self.max_features,
            # Above what the front admits: two pages of a call that was admitted alone must fit.
            max_queued_tokens=self.max_queued_tokens
            + 2 * (self.page_token_count + self.max_text_tokens),
            max_queued_calls=4 * self.max_queued_calls,
            batch_token_budget=self.batch_token_budget,
        )
