"""The real tritonserver in the stack, without a container.

`python -m services.activation.triton` lays out the server, writes its model repository, and
starts it again when a model's process dies; here it is one more row of the service table.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.cli.stack.config import StackConfig
from services.cli.stack.ports import PortPicker
from services.cli.stack.spec import GrpcHealth, ServiceSpec


@dataclass(frozen=True)
class TritonServices:
    """What Triton adds to the service table.

    Attributes:
        specs: the server.
        environment: tells the activation service to ask the server.
    """

    specs: Sequence[ServiceSpec]
    environment: Mapping[str, str]


def services(config: StackConfig, ports: PortPicker, shared: Mapping[str, str]) -> TritonServices:
    """The rows of the service table."""
    address = ports.address()
    server = ServiceSpec(
        name="triton",
        command=(sys.executable, "-m", "services.activation.triton"),
        ready=GrpcHealth(address),
        environment=lambda: {
            **shared,
            "SAEXPLAIN_TRITON_LISTEN": address,
            "SAEXPLAIN_TRITON_REPOSITORY": str(config.state_dir.resolve() / "triton-models"),
        },
        address=address,
    )
    return TritonServices(
        (server,),
        {"SAEXPLAIN_ACTIVATION_BACKEND": "triton", "SAEXPLAIN_TRITON_ADDRESS": address},
    )
