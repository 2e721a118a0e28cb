"""What the service knows of each SAE besides its weights: tokenizer, description, index."""

from __future__ import annotations

import asyncio
from pathlib import Path

from saexplain.activation.v1 import activation_pb2 as pb
from services.activation import messages
from services.activation.encoder.tokenizer import TextTokenizer, load_tokenizer
from services.activation.engine import Engine
from services.activation.index.reader import IndexReader
from services.activation.indexes import IndexLibrary
from services.activation.registry import Registry
from services.activation.triton.wire import SaeDescription
from services.common.call_context import current
from services.common.errors import FailedPrecondition
from services.common.names import index_name, parse_index, sae_name


class Catalog:
    """SAEs of the registry with tokenizer, engine and indexes behind one face."""

    def __init__(
        self,
        registry: Registry,
        engine: Engine,
        library: IndexLibrary,
        cache_dir: Path,
        max_text_tokens: int,
    ) -> None:
        self.registry = registry
        self._engine = engine
        self._library = library
        self._cache_dir = cache_dir
        self._max_text_tokens = max_text_tokens
        self._tokenizers: dict[str, TextTokenizer] = {}
        self._prefixed: dict[tuple[str, bool], TextTokenizer] = {}
        self._descriptions: dict[str, SaeDescription] = {}
        self._lock = asyncio.Lock()

    async def tokenizer(self, sae_id: str) -> TextTokenizer:
        """The tokenizer of an SAE's model, with a first token if the SAE was trained with one.

        Raises:
            NotFound: SAE_NOT_FOUND; and whatever loading raises.
        """
        prepend_bos = (await self.describe(sae_id)).prepend_bos
        model = self.registry.sae(sae_id).model
        async with self._lock:
            if model not in self._tokenizers:
                self._tokenizers[model] = await asyncio.to_thread(self._load_tokenizer, model)
            wanted = (model, prepend_bos)
            if wanted not in self._prefixed:
                self._prefixed[wanted] = self._tokenizers[model].with_prefix(prepend_bos)
            return self._prefixed[wanted]

    async def describe(self, sae_id: str) -> SaeDescription:
        """What the engine has loaded. NotFound: SAE_NOT_FOUND."""
        self.registry.sae(sae_id)
        if sae_id not in self._descriptions:
            self._descriptions[sae_id] = await self._engine.describe(sae_id)
        return self._descriptions[sae_id]

    async def reader(self, sae_id: str, name: str) -> IndexReader:
        """The index named, or the SAE's default one.

        Raises:
            FailedPrecondition: INDEX_NOT_BUILT, FINGERPRINT_MISMATCH, ARTIFACT_CORRUPT.
        """
        fingerprints = (await self.describe(sae_id)).fingerprints
        if name:
            _, chosen = parse_index(name)
        else:
            found = await self._default_index(sae_id)
            if found is None:
                message = f"there is no index for {sae_name(sae_id)}; build one with CreateIndex"
                raise FailedPrecondition(message, "INDEX_NOT_BUILT")
            chosen = found
        return await asyncio.to_thread(self._library.reader, chosen, fingerprints)

    async def message(self, sae_id: str, *, load: bool) -> pb.Sae:
        """The SAE as a resource; what needs the weights only where they are loaded or ``load``."""
        entry = self.registry.sae(sae_id)
        model = self.registry.models[entry.model]
        message = pb.Sae(
            name=sae_name(sae_id),
            model=model.hub or (model.folder.name if model.folder else entry.model),
            model_revision=model.revision or "",
            description=entry.description,
        )
        if not load and sae_id not in self._descriptions:
            return message
        description = await self.describe(sae_id)
        tokenizer = await self.tokenizer(sae_id)
        index = await self._default_index(sae_id)
        message.hook_point = description.hook_point
        message.architecture = description.architecture
        message.d_in, message.d_sae = description.d_in, description.d_sae
        message.numerics.CopyFrom(messages.numerics(description, tokenizer, self._max_text_tokens))
        message.default_index = index_name(current().project, index) if index else ""
        return message

    async def _default_index(self, sae_id: str) -> str | None:
        archive = self.registry.sae(sae_id).index
        shipped = await asyncio.to_thread(self._library.install, archive) if archive else None
        fingerprints = (await self.describe(sae_id)).fingerprints
        return await asyncio.to_thread(self._library.default_id, fingerprints, shipped)

    def _load_tokenizer(self, model: str) -> TextTokenizer:
        source = self.registry.model_source(model, self._cache_dir)
        return load_tokenizer(source, self.registry.models[model].bos_token)
