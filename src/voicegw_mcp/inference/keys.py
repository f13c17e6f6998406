"""Where a living instance of a plugin holds its key, so that a rotated one takes its place.

OpenAI's and Anthropic's SDKs read the client's ``api_key`` at each request, the other plugins an attribute of their own or of
their options. May import ``errors`` and ``inference``; never LiveKit.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicegw_mcp.inference.leaf import Leaf
    from voicegw_mcp.inference.runtime import Runtime

logger = logging.getLogger(__name__)

_HOLDERS: Final = ("", "_client", "_opts", "_options", "_config", "_connection_options")
_NAMES: Final = ("api_key", "_api_key", "speech_key", "_speech_key", "api_token", "_api_token")


def key_in(instance: Any) -> str | None:
    """Return the key that a plugin's instance, or one of its streams, uses now; None where none is found."""
    return next((getattr(holder, name) for holder, name in _places(instance)), None)


def put_key(instance: Any, key: str) -> bool:
    """Let an instance, or one of its streams, use another key from its next request on; say whether it has a place for one."""
    places = list(_places(instance))
    for holder, name in places:
        object.__setattr__(holder, name, key)  # options may be frozen
    return bool(places)


def renew_key(runtime: Runtime, leaf: Leaf, instance: Any) -> str | None:
    """Look the account's key up and let the instance use it when it is another one.

    Returns:
        The key when it was exchanged.
    """
    try:
        lookup = runtime.key_of(leaf)
    except (
        GatewayError
    ) as error:  # the provider is gone from the file, or the file is broken: what works goes on
        logger.debug("The key of %s was not looked up: %s", leaf.provider, error.message)
        return None
    if lookup is None or lookup.value is None:
        return None
    key, used = lookup.value.get_secret_value(), key_in(instance)
    if key == used:
        return None
    if not put_key(instance, key):
        logger.warning(
            "The key of %s has changed, but %s keeps the one it was made with: make the instance anew.",
            leaf.provider,
            type(instance).__module__,
        )
        return None
    logger.info("%s goes on with the changed key of %s.", leaf.model_id, leaf.provider)
    return key


def _places(instance: Any) -> Iterator[tuple[Any, str]]:
    for name in _HOLDERS:
        holder = getattr(instance, name, None) if name else instance
        for attribute in _NAMES:
            if isinstance(getattr(holder, attribute, None), str):
                yield holder, attribute
