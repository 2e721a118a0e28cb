"""SAELens' directory of published SAEs: a release and an id to weights.

SAELens downloads into the Hugging Face cache, so that a machine without a network serves what the
cache holds. Releases whose files are pickles are refused: reading one can run code.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from services.common.errors import FailedPrecondition, Unimplemented

_PLAIN_FILES = frozenset(
    {
        "sae_lens",
        "gemma_2",
        "gemma_2_transcoder",
        "gemma_3",
        "llama_scope",
        "llama_scope_r1_distill",
        "mntss_clt_layer_transcoder",
        "mwhanna_transcoder",
        "sparsify",
        "temporal",
    }
)
"""SAELens' loaders that read safetensors, or number arrays (``npz``) that cannot hold objects."""


def check_readable(release: str) -> None:
    """Refuse a release whose files are pickles, before anything is fetched.

    Raises:
        Unimplemented: UNSUPPORTED, naming the release and SAELens' loader of it.
    """
    from sae_lens.loading.pretrained_sae_loaders import get_conversion_loader_name

    loader = get_conversion_loader_name(release)
    if loader not in _PLAIN_FILES:
        raise Unimplemented(
            f"SAELens release {release!r} keeps its weights in pickled files (loader {loader!r}), "
            "which can run code when read; convert it to safetensors and name the folder",
            metadata={"release": release, "loader": loader},
        )


def read(release: str, sae_id: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and tensors of one published SAE, as SAELens loads it, in float32.

    Args:
        release: A release of SAELens' directory, or the hub id of a repository in its format.
        sae_id: The id within the release, or the folder within the repository.

    Raises:
        Unimplemented: UNSUPPORTED where the release's files are pickles, or SAELens knows an
            architecture that is not known here.
        FailedPrecondition: ARTIFACT_CORRUPT where SAELens cannot load it.
    """
    from sae_lens import SAE  # seconds of import, paid only where a release is named

    check_readable(release)
    try:
        sae: Any = SAE.from_pretrained(release, sae_id, device="cpu", dtype="float32")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        message = f"SAELens release {release!r}, SAE {sae_id!r} cannot be loaded: {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error
    return dict(sae.cfg.to_dict()), dict(sae.state_dict())
