"""What a language model's provider can answer instead of a good reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "status",  # an HTTP error, with `status`, `retry_after`, `message`, `param`, `code`
    "content",  # a reply with exactly `content` as its text
    "broken_json",  # JSON that ends in the middle, as if it were complete
    "wrong_schema",  # good JSON of another shape
    "truncated",  # cut at the limit of tokens
    "refusal",  # the model refuses
    "content_filter",  # the provider withholds the reply
    "empty",  # a reply without text
    "no_choices",  # a completion without any choice
    "not_json",  # HTTP 200 with a body that is no JSON
    "hang",  # no answer until the server stops
    "close",  # the connection closes without an answer
    "close_midway",  # the connection closes in the middle of the answer
]


@dataclass(frozen=True)
class Fault:
    """One bad answer.

    Attributes:
        kind: which.
        status: HTTP status, for `status`.
        retry_after: value of the Retry-After header: seconds or an HTTP date.
        message: text of the provider's error.
        param: parameter that the provider's error blames.
        code: the provider's code of the error.
        content: text of the reply, for `content`.
    """

    kind: Kind
    status: int = 500
    retry_after: str = ""
    message: str = "scripted fault"
    param: str | None = None
    code: str | None = None
    content: str = ""
