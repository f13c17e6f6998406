"""Page cursors: opaque tokens that say where a page ended and which query they belong to. May import ``errors``."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, cast

from voicegw_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST: Final = 2_000


def encode_cursor(query: Mapping[str, object], position: list[str | int]) -> str:
    """Return the token for the page behind ``position``.

    Args:
        query: what makes up the query (filters, order, not the page size); only its fingerprint goes into the token.
        position: the sort key of the last row shown.
    """
    token = json.dumps([_fingerprint(query), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def decode_cursor(token: str, query: Mapping[str, object]) -> list[str | int]:
    """Return the position in a token that ``encode_cursor`` made for the same query.

    The token is not signed: someone who makes one up only chooses a place to begin. The caller checks that the
    position has the shape of its sort key.

    Raises:
        InvalidInput: field ``cursor``; the token is no cursor, or belongs to another query.
    """
    try:
        if len(token) > _LONGEST:
            raise _garbage()
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _garbage() from error
    if not isinstance(content, list) or not content:
        raise _garbage()
    fingerprint, *position = cast("list[Any]", content)
    if fingerprint != _fingerprint(query):
        raise InvalidInput(
            "cursor belongs to another query.",
            field="cursor",
            hint="Repeat the call with the same filters as the page before, or without cursor to begin anew.",
        )
    if not all(type(value) in {str, int} for value in position):
        raise _garbage()
    return position


def _fingerprint(query: Mapping[str, object]) -> str:
    canonical = json.dumps(dict(query), sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _garbage() -> InvalidInput:
    return InvalidInput(
        "cursor is not one this server made.",
        field="cursor",
        hint="Pass next_cursor of the page before unchanged, or leave cursor out to begin anew.",
    )
