"""Models that run in the agent's own process: whisper, kokoro and piper where no ``base_url`` names a server of theirs.

Each is a module with a class of LiveKit's kind, made like a plugin's. This one says which of them serves an account, and
whether its package is there; it loads nothing. May import ``inference``, ``core``, ``domain`` and ``errors``; LiveKit and
the packages only inside functions.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.core.provider_types import PROVIDER_TYPES
from voicegw_mcp.inference.plugins import has_no_models, require_livekit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from voicegw_mcp.domain import Modality
    from voicegw_mcp.inference.resolution import Account

_PACKAGES: Final = {each.name: each.package for each in PROVIDER_TYPES.values() if each.package is not None}


def runs_here(account: Account, *options: Mapping[str, Any] | None) -> bool:
    """Say whether an account's models run in this process: its type can, and nothing names a server.

    Args:
        account: the provider as it is configured.
        options: of the model's entry and of the call, any of which may hold a ``base_url``.
    """
    return (
        account.type_name in _PACKAGES
        and not account.base_url
        and not any(each and each.get("base_url") for each in options)
    )


def load_class(type_name: str, modality: Modality) -> type[Any]:
    """Return the class of a type that runs here; loads LiveKit, but not the package that does the work.

    Raises:
        ImportError: the package is not installed; the message names the extra that brings it.
        InvalidInput: the type does not do this.
    """
    kind = PROVIDER_TYPES[type_name]
    if modality not in kind.modalities:
        raise has_no_models(type_name, modality, kind)
    _require_installed(type_name)
    return getattr(importlib.import_module(f"{__name__}.{type_name}"), modality.upper())


def is_installed(type_name: str) -> bool:
    """Say whether the package of a type that runs here is there; loads nothing."""
    return importlib.util.find_spec(_PACKAGES[type_name]) is not None


async def preload(type_names: Iterable[str]) -> None:
    """Import the packages of types that run here in a worker thread; models are loaded by ``prewarm`` of an instance.

    Raises:
        ImportError: one is not installed; the message names the extra that brings it.
    """
    for type_name in type_names:
        _require_installed(type_name)
        await asyncio.to_thread(importlib.import_module, f"{__name__}.{type_name}")
        await asyncio.to_thread(importlib.import_module, _PACKAGES[type_name])


def _require_installed(type_name: str) -> None:
    require_livekit()
    if is_installed(type_name):
        return
    raise ImportError(
        f"Provider type {type_name} runs in this process and needs the package {_PACKAGES[type_name]}. "
        f"Install it: pip install 'voicegw-mcp[{type_name}]'; or name a server with base_url.",
        name=_PACKAGES[type_name],
    )
