"""Sends one signed event to a webhook, in the form of Standard Webhooks, so that its receiver can tell who sent it.

Signed is ``id.timestamp.body`` with HMAC-SHA256; the timestamp is of the attempt, so that an old request cannot be sent
again by somebody else. Facts: the Standard Webhooks specification, 1.0 (headers, signature scheme ``v1``, secrets with
``whsec_``). May import ``config``, ``core.outgoing``, ``errors`` and anyio.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import anyio

from voicegw_mcp.config.addresses import canonical_host, check_url, is_listed
from voicegw_mcp.core.outgoing import NoReply, send
from voicegw_mcp.errors import InvalidInput, ProviderFailed

if TYPE_CHECKING:
    from collections.abc import Collection

    from voicegw_mcp.config.alerts import Webhook
    from voicegw_mcp.config.secrets import Secrets

SEND_S: Final = 10.0
"""Most seconds an attempt may take: name, connection, TLS, answer."""

PREFIX: Final = "whsec_"
"""What a secret begins with whose rest is base64."""

SHORTEST_SECRET: Final = 16
"""Bytes; a shorter one could be guessed by who has seen a signature."""

MOST_WAIT_S: Final = 3600
"""What ``Retry-After`` can ask for at most."""


TOO_MANY: Final = 429


class Outcome(NamedTuple):
    """What became of an attempt: ``sent``, ``again`` (it may be taken later) or ``refused``; ``wait_s`` as the receiver asked."""

    result: Literal["sent", "again", "refused"]
    message: str
    status: int | None = None
    wait_s: float = 0.0


def signing_key(hook: Webhook, secrets: Secrets) -> bytes:
    """Return what events are signed with, looked up now.

    Raises:
        InvalidInput: ``alerts.webhook.secret``; it stands for nothing, or for something that is no secret.
    """
    found = secrets.look_up(hook.secret)
    if found.value is None:
        raise _no_secret(f"{found.reason}.", f"Run: {found.command}" if found.command else "")
    text = found.value.get_secret_value().strip()
    key = text.encode()
    if text.startswith(PREFIX):
        try:
            key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise _no_secret(f"what follows {PREFIX} is not base64.", "Set it anew.") from None
    if len(key) < SHORTEST_SECRET:
        raise _no_secret(
            f"it has fewer than {SHORTEST_SECRET} bytes.", "Set a longer one, of random characters."
        )
    return key


def sign(key: bytes, event_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``."""
    signed = b"%s.%d.%s" % (event_id.encode(), timestamp_s, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


async def deliver(
    hook: Webhook, key: bytes, event_id: str, body: str, *, now_ms: int, private_hosts: Collection[str]
) -> Outcome:
    """Send an event once, and answer within ``SEND_S`` whatever the other side does.

    Args:
        hook: where to.
        key: signs it.
        event_id: the same at every attempt: by it a receiver sees that it has the event already.
        body: JSON text.
        now_ms: the present, UTC epoch ms.
        private_hosts: host names that may be at private addresses (``security.allow_private_hosts``).

    Returns:
        What became of it. A refused address is ``again``: the file that allows it may follow.
    """
    data, timestamp_s = body.encode(), now_ms // 1000
    headers = {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": sign(key, event_id, timestamp_s, data),
    }
    outcome = Outcome("again", f"No complete answer within {SEND_S:g} s.")
    try:
        host = canonical_host(urlsplit(hook.url).hostname or "")
        private = is_listed(host, private_hosts)
        check_url(hook.url, allow_private=private)
        with anyio.move_on_after(SEND_S):
            reply = await send("POST", hook.url, headers, allow_private=private, body=data)
            outcome = _judged(reply.status, reply.headers.get("retry-after", ""))
    except (InvalidInput, ProviderFailed) as error:
        outcome = Outcome("again", error.message)
    except NoReply as trouble:
        outcome = Outcome("again", trouble.message)
    return outcome


def _judged(status: int, retry_after: str) -> Outcome:
    told = f"The webhook answered {status}."
    if 200 <= status < 300:
        return Outcome("sent", told, status)
    if status == TOO_MANY or status >= 500:
        wait_s = min(int(retry_after), MOST_WAIT_S) if retry_after.isascii() and retry_after.isdigit() else 0
        return Outcome("again", told, status, float(wait_s))
    if 300 <= status < 400:
        told = f"The webhook answered {status}; redirects are not followed."
    return Outcome("refused", told, status)


def _no_secret(reason: str, hint: str) -> InvalidInput:
    return InvalidInput(
        f"The secret of the webhook cannot be used: {reason}", field="alerts.webhook.secret", hint=hint
    )
