"""Free TCP ports of this machine."""

from __future__ import annotations

import random
import socket

from services.common.errors import Unavailable

_LOWEST, _HIGHEST = 20_000, 32_000
"""Below what Linux hands out to outgoing connections, so that nobody is given a port
between our look and the service's bind."""


class PortPicker:
    """Hands out free ports of the loopback interface, each once."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._taken: set[int] = set()

    def port(self) -> int:
        """A port that nobody listens on.

        Raises:
            Unavailable: none of many is free.
        """
        for _ in range(1000):
            port = self._rng.randrange(_LOWEST, _HIGHEST)
            if port not in self._taken and _is_free(port):
                self._taken.add(port)
                return port
        raise Unavailable(f"no free port between {_LOWEST} and {_HIGHEST}")

    def address(self) -> str:
        """`127.0.0.1:{port}` with a free port."""
        return f"127.0.0.1:{self.port()}"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
