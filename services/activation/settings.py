"""Settings of the activation service, front and indexer alike."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.tokenizer import TextLimits
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
    triton_address: str = Field("127.0.0.1:8001", validation_alias=shared("TRITON_ADDRESS"))
    """Triton's gRPC endpoint; only read with ``backend=triton``."""
    device: str = "cpu"
    """Torch device."""
    torch_threads: int = Field(0, ge=0, le=1_024)
    """CPU threads of the model; 0 leaves it to torch."""
    warm: bool = True
    """Load the first SAE of the registry before saying SERVING."""

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
    batch_token_budget: int = Field(4_096, ge=2)
    """Padded tokens of one forward pass."""
    page_token_count: int = Field(8_192, ge=1)
    """Tokens that are encoded together for one page of a streamed answer."""
    page_bytes: int = Field(1_048_576, ge=1_024)
    """A page of a streamed answer is closed when it has grown beyond this."""

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
            max_queued_tokens=self.max_queued_tokens,
            batch_token_budget=self.batch_token_budget,
        )
