"""Triton's Python model: adapts requests to :mod:`services.activation.triton.executor`.

This file is copied into the model repository and runs in Triton's own Python process, which knows
neither our environment nor this package until ``initialize`` has told it where they are.

Tensors cross by DLPack as torch tensors in both directions: with numpy 2 the server's numpy path
delivers outputs of the right shape without their bytes.
"""

from __future__ import annotations

import json
import site
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance serves one language model with all SAEs of its specification."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called once; an exception here makes the model, and so the server, not ready."""
        parameters = json.loads(args["model_config"])["parameters"]
        for folder in json.loads(parameters["site_folders"]["string_value"]):
            site.addsitedir(folder)
        sys.path.append(parameters["source_root"]["string_value"])
        from services.activation.triton.loading import executor_of
        from services.activation.triton.repository import TritonModelSpec

        folder = Path(args["model_repository"]) / args["model_version"]
        spec = TritonModelSpec.from_json((folder / "spec.json").read_text())
        self._executor = executor_of(spec)

    def execute(self, requests: Sequence[Any]) -> None:
        """Take the requests on; each is answered through its own sender, mostly later."""
        from services.activation.triton.executor import Pending

        self._executor.execute(
            [
                Pending(_inputs(request), request.is_cancelled, _sender(request))
                for request in requests
            ]
        )

    def finalize(self) -> None:
        """Answer what was taken on."""
        self._executor.close()


def _inputs(request: Any) -> dict[str, Any]:
    """Flat numpy views of a request's tensors, by way of torch."""
    from torch.utils.dlpack import from_dlpack

    return {
        tensor.name(): from_dlpack(tensor.to_dlpack()).cpu().reshape(-1).numpy()
        for tensor in request.inputs()
    }


def _sender(request: Any) -> Callable[[Any], None]:
    sender = request.get_response_sender()

    def answer(result: Any) -> None:
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        sender.send(_response(result), flags=final)

    return answer


def _response(result: Any) -> Any:
    from services.activation.triton.wire import error_text
    from services.common.errors import SaexplainError

    if isinstance(result, SaexplainError):
        code = getattr(pb_utils.TritonError, _CODES.get(result.status, "INTERNAL"))
        error = pb_utils.TritonError(error_text(result), code)
        return pb_utils.InferenceResponse(output_tensors=[], error=error)
    tensors = [_tensor(name, array) for name, array in result.items()]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _tensor(name: str, array: Any) -> Any:
    """``array`` with the batch axis in front."""
    import torch

    batched = torch.empty((1, len(array)), dtype=torch.from_numpy(array).dtype)
    # Copied, not wrapped: an empty numpy array has strides that Triton refuses.
    batched[0] = torch.from_numpy(array)
    return pb_utils.Tensor.from_dlpack(name, batched)


_CODES = {
    "INVALID_ARGUMENT": "INVALID_ARG",
    "NOT_FOUND": "NOT_FOUND",
    "UNIMPLEMENTED": "UNSUPPORTED",
    "UNAVAILABLE": "UNAVAILABLE",
    "RESOURCE_EXHAUSTED": "UNAVAILABLE",
    "FAILED_PRECONDITION": "UNAVAILABLE",
    "CANCELLED": "CANCELLED",
}
"""Triton's word for our status; what matters travels in the message."""
