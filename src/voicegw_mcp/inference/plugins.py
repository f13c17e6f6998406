"""Finding, importing and preloading the plugins of LiveKit Agents, none of which is loaded before it is asked for.

``livekit.agents`` takes seconds to import and each SDK behind a plugin another one, so importing this module loads
nothing of it. May import ``core``, ``domain`` and ``errors``; LiveKit inside functions.

Two facts about LiveKit stand behind this file (1.8.9). Plugins announce themselves nowhere: they are modules of the
namespace ``livekit.plugins``. And a plugin registers itself at the end of its import, which LiveKit allows in the main
thread only.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import importlib.util
import pkgutil
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.core.provider_types import PROVIDER_TYPES, find_provider_type
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import InvalidInput, quote

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from voicegw_mcp.core.provider_types import ProviderType

NAMESPACE: Final = "livekit.plugins"

SERVED: Final = frozenset({"openai_compatible", "ollama", "whisper", "kokoro", "piper"})
"""Types whose servers speak OpenAI's protocol: its plugin calls them."""

_EXTRAS: Final = {"ollama": "ollama", "microsoft_ai": "microsoft-ai"}
"""Types whose extra of this distribution is called neither as they nor as their plugin."""


def require_livekit() -> None:
    """Do nothing when LiveKit Agents is installed; loads nothing.

    Raises:
        ImportError: it is not; the message names the extra that brings it.
    """
    if _is_there("livekit.agents"):
        return
    raise ImportError(
        "voicegw_mcp.inference needs LiveKit Agents. Install it: pip install 'voicegw-mcp[inference]'",
        name="livekit.agents",
    )


def installed_plugins() -> list[str]:
    """Return the names of the installed modules of ``livekit.plugins``; loads none of them."""
    try:
        spec = importlib.util.find_spec(NAMESPACE)
    except ModuleNotFoundError:  # not even the namespace `livekit`
        return []
    folders = spec.submodule_search_locations if spec else None
    return sorted({module.name for module in pkgutil.iter_modules(folders)} if folders else set[str]())


def plugin_of(type_name: str) -> str:
    """Return the plugin that serves a provider type: mostly the one of its name.

    Raises:
        InvalidInput: it is no provider type, and no installed plugin has its name.
    """
    if type_name in SERVED:
        return "openai"
    if type_name not in PROVIDER_TYPES and type_name not in installed_plugins():
        find_provider_type(type_name)
    return type_name


def extra_of(type_name: str) -> str:
    """Return the extra of this distribution that brings what a provider type needs."""
    return _EXTRAS.get(type_name) or plugin_of(type_name)


def class_name(type_name: str, modality: Modality, model: str) -> str:
    """Return the name of the class that serves a model.

    Deepgram's Flux models speak another version of its protocols, for which the plugin has classes of their own.
    """
    newer = type_name == "deepgram" and model.startswith("flux")
    return f"{modality.upper()}{'v2' if newer else ''}"


def load_class(type_name: str, modality: Modality, model: str) -> type[Any]:
    """Return the class that serves a model; imports the plugin when it is not.

    Raises:
        ImportError: LiveKit or the plugin is not installed; the message names the extra that brings it.
        InvalidInput: no plugin serves the type, or not this modality, or it would be imported outside of the main thread.
    """
    kind = PROVIDER_TYPES.get(type_name)
    if type_name in SERVED and kind is not None and modality not in kind.modalities:
        raise has_no_models(type_name, modality, kind)
    module = load_plugin(type_name)
    found = getattr(module, class_name(type_name, modality, model), None)
    if found is None:
        raise has_no_models(type_name, modality, kind)
    return found


def classes_of(type_name: str) -> list[type[Any]]:
    """Return the classes of a loaded plugin that make instances, of all modalities."""
    module = load_plugin(type_name)
    names = [f"{modality.upper()}{version}" for modality in Modality for version in ("", "v2")]
    return [found for name in names if (found := getattr(module, name, None)) is not None]


def load_plugin(type_name: str) -> ModuleType:
    """Return the plugin of a provider type; imports it when it is not.

    Raises:
        ImportError: LiveKit or the plugin is not installed; the message names the extra that brings it.
        InvalidInput: no plugin serves the type, or it would be imported outside of the main thread.
    """
    require_livekit()
    plugin = plugin_of(type_name)
    name = f"{NAMESPACE}.{plugin}"
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded.__spec__, "_initializing", False) is False:
        return loaded
    _require_installed(type_name)
    if threading.current_thread() is not threading.main_thread():
        raise InvalidInput(
            f"{name} is not imported yet, and LiveKit lets plugins be imported in the main thread only.",
            hint="Call `await inference.preload()` in the main thread first, or import the plugin where the program starts.",
        )
    return importlib.import_module(name)


async def preload(type_names: Iterable[str]) -> None:
    """Import LiveKit and the plugins of provider types without keeping the event loop from its work.

    What takes long is imported in a worker thread; the registration, which may not happen there, here.

    Raises:
        ImportError, InvalidInput: as ``load_plugin``.
    """
    wanted = list(dict.fromkeys(type_names))
    require_livekit()
    for type_name in wanted:
        _require_installed(type_name)
    modules = [f"{NAMESPACE}.{plugin_of(type_name)}" for type_name in wanted]
    if not all(name in sys.modules for name in ("livekit.agents", *modules)):
        # Looking for garbage stops all threads, for up to 0.3 s when imports have made so many objects. These stay until
        # the end, so nobody looks through them later either.
        collects = gc.isenabled()
        gc.disable()
        try:
            await asyncio.to_thread(_warm, modules)
        finally:
            gc.freeze()
            if collects:
                gc.enable()
    for type_name in wanted:
        load_plugin(type_name)
    _bind_submodules()


def _warm(modules: list[str]) -> None:
    """Import all of these but their registration; in a worker thread.

    A module that fails at its end is forgotten, its submodules, and with them the SDKs that took the time, are not: the
    import in the main thread finds them loaded.
    """
    importlib.import_module("livekit.agents")
    for name in modules:
        with contextlib.suppress(RuntimeError):  # "Plugins must be registered on the main thread"
            importlib.import_module(name)


def _bind_submodules() -> None:
    """Let ``plugin.llm`` be there as after a plain import: submodules loaded in the first attempt are bound to that."""
    for name, module in list(sys.modules.items()):
        parent, _, child = name.rpartition(".")
        if (
            parent.startswith(f"{NAMESPACE}.")
            and parent in sys.modules
            and not hasattr(sys.modules[parent], child)
        ):
            setattr(sys.modules[parent], child, module)


def is_installed(type_name: str) -> bool:
    """Say whether the plugin of a provider type is there; loads nothing.

    Raises:
        InvalidInput: no plugin serves the type.
    """
    return _is_there(f"{NAMESPACE}.{plugin_of(type_name)}")


def _require_installed(type_name: str) -> None:
    if is_installed(type_name):
        return
    plugin = plugin_of(type_name)
    raise ImportError(
        f"Provider type {type_name} needs LiveKit's plugin {plugin!r}. "
        f"Install it: pip install 'voicegw-mcp[{extra_of(type_name)}]'",
        name=f"{NAMESPACE}.{plugin}",
    )


def _is_there(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a parent is missing
        return False


def has_no_models(type_name: str, modality: Modality, kind: ProviderType | None) -> InvalidInput:
    """Return the error of a type that does something else."""
    does = sorted(kind.modalities) if kind else []
    return InvalidInput(
        f"Providers of type {quote(type_name)} have no models of {modality}.",
        field="model",
        hint=f"They have {' and '.join(does)}." if does else "Choose a model of another provider.",
    )
