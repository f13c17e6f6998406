"""What a provider's answer to a check means, and what of its text may be shown.

It exists beside ``probes`` so that sending and judging can be read apart. May import ``core.provider_types``,
``config.addresses``, ``core.untrusted`` and ``errors`` only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast
from urllib.parse import urlsplit

from voicegw_mcp.config.addresses import canonical_host
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicegw_mcp.core.provider_types import ProbeRequest

Reason = Literal[
    "ok",
    "bad_key",
    "no_credit",
    "wrong_url",
    "rate_limited",
    "provider_down",
    "unreachable",
    "timeout",
    "not_configured",
]
Checked = Literal["key", "reachability", "files", "nothing"]

MAX_MESSAGE: Final = 300
"""Characters of a provider's own message that are repeated."""

_PART: Final = 8
"""Length from which a piece of the key is hidden wherever it turns up."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a check found.

    ``status`` is ok exactly when ``reason`` is. ``latency_ms`` runs from the first step (resolving the name) to the last
    byte read, 0.0 when nothing was sent. ``http_status`` is the provider's, None without an answer. ``message`` is for people,
    one line, and holds no part of the key. ``checked`` says what the status is about.
    """

    status: Literal["ok", "failed"]
    reason: Reason
    http_status: int | None
    latency_ms: float
    message: str
    checked: Checked = "nothing"


class Answer(NamedTuple):
    """What came back: the status, where a redirect points, and the beginning of the body."""

    status: int
    location: str
    body: str


_BY_STATUS: Final[Mapping[int, tuple[Reason, str]]] = {
    401: ("bad_key", "The provider refused the key."),
    402: ("no_credit", "The key was accepted, but the account has no credit."),
    403: ("bad_key", "The provider refused the key."),
    404: ("wrong_url", "There is nothing at this address: the base URL is probably wrong."),
    429: ("rate_limited", "The key was accepted, but the account is over its rate limit."),
}


def judged(answer: Answer, request: ProbeRequest | None, key: str) -> ProbeResult:
    """Turn an HTTP answer into a result."""
    reason, message = _classified(answer, request)
    status: Literal["ok", "failed"] = "ok" if reason == "ok" else "failed"
    said = "" if answer.status < 300 else _provider_message(answer.body, key)
    return ProbeResult(
        status,
        reason,
        answer.status,
        0.0,
        f"{message} It said: {said}" if said else message,
        "reachability" if request is None else "key",
    )


def _classified(answer: Answer, request: ProbeRequest | None) -> tuple[Reason, str]:
    """Return reason and sentence for an answer; the provider's own rules come first."""
    status = answer.status
    if status >= 500:
        return "provider_down", f"The provider answered with HTTP {status}: the fault is on its side."
    if request is None:
        return "ok", "Reachable; this provider documents no free key check, so the key was not tested."
    if _matches(answer, request.restricted):
        return "ok", "The key is valid, but restricted: it may not list what this check asks for."
    if _matches(answer, request.bad_key):
        return _BY_STATUS[401]
    return _by_status(answer)


def _by_status(answer: Answer) -> tuple[Reason, str]:
    """Return what an answer below 500 means with every provider."""
    status = answer.status
    if 200 <= status < 300:
        return "ok", "The provider accepted the request."
    if 300 <= status < 400:
        return (
            "wrong_url",
            f"The address redirects (HTTP {status}){_where(answer.location)}; redirects are not followed.",
        )
    return _BY_STATUS.get(status, ("wrong_url", f"The provider does not know this request (HTTP {status})."))


def _matches(answer: Answer, rules: tuple[tuple[int, str], ...]) -> bool:
    body = answer.body.lower()
    return any(answer.status == status and piece in body for status, piece in rules)


def _where(location: str) -> str:
    """Name the host a redirect points to, nothing of its path: that may echo what was sent."""
    try:
        host = canonical_host(urlsplit(location).hostname or "")
    except (ValueError, InvalidInput):
        return ""
    return f" to {host}"


def _provider_message(body: str, key: str) -> str:
    """Return what the provider says, in at most ``MAX_MESSAGE`` characters, harmless and without the key.

    JSON bodies give their message; pages of HTML nothing. The key is hidden before the text is cut, so that no half of it
    is left at the end.
    """
    text = body.strip()
    try:
        text = _message_in(json.loads(text)) or text
    except (ValueError, RecursionError):
        if text.startswith("<"):
            return ""
    return _masked(escape_untrusted(_masked(text, key), MAX_MESSAGE), key)


def _message_in(document: object) -> str:
    """Find the message in the shapes that providers' error bodies have."""
    for _ in range(4):
        if isinstance(document, str):
            return document
        if isinstance(document, list):
            document = cast("list[object]", document)[0] if document else ""
            continue
        if not isinstance(document, dict):
            return ""
        fields = cast("dict[str, object]", document)
        names = ("error", "message", "detail", "err_msg", "reason", "status")
        document = next((fields[name] for name in names if fields.get(name)), "")
    return ""


def _masked(text: str, key: str) -> str:
    """Replace the key and every piece of it of ``_PART`` characters or more, in any case, by ``***``."""
    if not key:
        return text
    size = min(_PART, len(key))
    small, low = key.lower(), text.lower()
    if len(low) != len(text):
        low = text
    pieces = {small[start : start + size] for start in range(len(small) - size + 1)}
    kept: list[str] = []
    hidden_to = 0
    for start, character in enumerate(text):
        if low[start : start + size] in pieces:
            if start >= hidden_to:
                kept.append("***")
            hidden_to = start + size
        elif start >= hidden_to:
            kept.append(character)
    return "".join(kept)
