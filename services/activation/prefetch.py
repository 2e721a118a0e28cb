"""``python -m services.activation.prefetch``: fills the model cache before anything serves from it.

Loads every SAE of the registry with its language model once, one after the other, so that what is
downloaded, converted or checked is so before a server starts; lays Triton's server out where its
package is installed. Safe to repeat: what is there is kept.
"""

from __future__ import annotations

import importlib.util
import sys

import structlog

from services.activation.loading import RegistryLoader
from services.activation.registry import Registry, load_registry
from services.activation.settings import ActivationSettings
from services.common.errors import SaexplainError
from services.common.logging import configure_logging
from services.common.triton_binary import find_triton

_log = structlog.get_logger(__name__)


def prefetch(settings: ActivationSettings, registry: Registry) -> None:
    """Fills the cache folder of the settings.

    Raises:
        SaexplainError: what loading raises, naming the SAE in the log before.
    """
    if importlib.util.find_spec("pytriton") is not None:
        find_triton(settings.cache_dir)
    loader = RegistryLoader(
        registry,
        settings.cache_dir,
        settings.device,
        settings.encoder_limits,
        settings.memory_budget_bytes,
    )
    for sae_id in sorted(registry.saes):
        _log.info("fetching", sae=sae_id)
        with loader.lease(sae_id) as loaded:
            _log.info("fetched", sae=sae_id, weights=loaded.fingerprints.sae)


def main() -> int:
    """Exit code: 0 when all is there, 1 where something could not be loaded."""
    settings = ActivationSettings()
    configure_logging(settings.log_format, settings.log_level, "activation-prefetch")
    try:
        prefetch(settings, load_registry(settings.registry))
    except SaexplainError as error:
        _log.error("not_fetched", reason=error.reason, message=error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
