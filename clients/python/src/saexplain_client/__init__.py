"""Client of saexplain: ask for explanations, follow them, read their dossiers.

`AsyncSaexplainClient` is the core, `SaexplainClient` the same for blocking code. Both
raise `SaexplainClientError` and nothing of gRPC's own.
"""

from saexplain_client.client import AsyncSaexplainClient
from saexplain_client.errors import FieldViolation, SaexplainClientError
from saexplain_client.states import TERMINAL_STATES, is_terminal
from saexplain_client.sync import SaexplainClient

__all__ = [
    "TERMINAL_STATES",
    "AsyncSaexplainClient",
    "FieldViolation",
    "SaexplainClient",
    "SaexplainClientError",
    "is_terminal",
]
