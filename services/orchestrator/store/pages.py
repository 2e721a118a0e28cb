"""Keyset pages: a token says behind which row the next page begins, and for which question."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime

from services.common.canonical import digest_of
from services.common.errors import InvalidArgument

DEFAULT_PAGE_SIZE = 50
LARGEST_PAGE = 1000


@dataclass(frozen=True)
class Cursor:
    """The last row of a page: newest first, ties by id."""

    create_time: datetime
    id: str


def page_size(requested: int) -> int:
    """The size to use for a requested one.

    Raises:
        InvalidArgument: negative or above the limit.
    """
    if not 0 <= requested <= LARGEST_PAGE:
        raise InvalidArgument(f"must be in [0, {LARGEST_PAGE}]", "page_size")
    return requested or DEFAULT_PAGE_SIZE


def encode_token(cursor: Cursor, question: tuple[str, ...]) -> str:
    """The token behind `cursor`, valid for the same question only."""
    body = [cursor.create_time.isoformat(), cursor.id, digest_of(list(question))[:16]]
    return base64.urlsafe_b64encode(json.dumps(body).encode()).decode()


def decode_token(token: str, question: tuple[str, ...]) -> Cursor | None:
    """The cursor of a token; None for the first page.

    Raises:
        InvalidArgument: not a token of ours, or one for another question.
    """
    if not token:
        return None
    try:
        created, row_id, asked = json.loads(base64.urlsafe_b64decode(token.encode()))
        cursor = Cursor(datetime.fromisoformat(created), str(row_id))
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidArgument("not a page token", "page_token") from error
    if asked != digest_of(list(question))[:16]:
        raise InvalidArgument("the token belongs to another question", "page_token")
    return cursor
