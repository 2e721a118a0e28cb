"""Building the annotations of an index: the last step of an index build, on an indexer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from services.activation.annotations.build import RowProgress, annotate
from services.activation.annotations.library import AnnotationLibrary
from services.activation.encoder.loaded import SaeLoader
from services.activation.encoder.tokenizer import TextTokenizer
from services.activation.index.config import IndexConfig
from services.activation.indexes import IndexLibrary
from services.common.errors import FailedPrecondition


class IndexAnnotator:
    """Blocking; call it from a worker thread.

    Args:
        load: Finds or loads an SAE with its model.
        tokenizer_of: The tokenizer of an SAE's model.
        indexes: Where finished indexes lie.
        library: Where annotations are kept.
    """

    def __init__(
        self,
        load: SaeLoader,
        tokenizer_of: Callable[[str], TextTokenizer],
        indexes: IndexLibrary,
        library: AnnotationLibrary,
    ) -> None:
        self._load = load
        self._tokenizer_of = tokenizer_of
        self._indexes = indexes
        self._library = library

    def annotate(
        self,
        sae_id: str,
        key: str,
        config: IndexConfig | None = None,
        *,
        cancelled: Callable[[], bool],
        report: Callable[[RowProgress], None],
    ) -> str:
        """Make the annotations of an index, unless they are there; sha256 (hex) of their file.

        Args:
            sae_id: The SAE.
            key: The index.
            config: What the caller takes the index for; checked where it is given.
            cancelled: Asked between batches.
            report: Told of every batch.

        Raises:
            FailedPrecondition: INDEX_NOT_BUILT; FINGERPRINT_MISMATCH where the index is of
                another configuration or was made with other weights.
            Cancelled: ``cancelled`` said so.
        """
        with self._load.lease(sae_id) as loaded:
            reader = self._indexes.reader(key, loaded.fingerprints)
            if config is not None and reader.plan.config != config:
                message = f"index {reader.key} was built with another configuration"
                raise FailedPrecondition(message, reason="FINGERPRINT_MISMATCH")
            path = self._library.find(reader.key)
            if path is not None:
                self._library.read(reader.key, loaded.fingerprints, loaded.readout)
                return hashlib.sha256(path.read_bytes()).hexdigest()
            tokenizer = self._tokenizer_of(sae_id)
            made = annotate(loaded, tokenizer, reader, cancelled=cancelled, report=report)
            return self._library.keep(made)
