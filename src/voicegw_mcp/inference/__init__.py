"""Speech to text, language models and text to speech for LiveKit agents, as ``voicegw.yaml`` configures them.

``STT``, ``LLM`` and ``TTS`` return instances of the plugins' own classes. This package is the only place that meets
LiveKit; importing it loads none of it, only looks whether it is there. It may import ``core``, ``config``, ``domain``
and ``errors``, never MCP or a web server. It is a door: hints of errors are added to what a traceback shows.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import GatewayError, InvalidInput
from voicegw_mcp.inference import context, local, plugins

plugins.require_livekit()

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from livekit.agents import APIConnectOptions, llm, stt, tts

    from voicegw_mcp.inference.runtime import Runtime

__all__ = [
    "LLM",
    "STT",
    "TTS",
    "Stack",
    "configure",
    "get_active_project",
    "preload",
    "session",
    "set_project",
    "stack",
]


class Stack(NamedTuple):
    """The three instances of a stack; None where it names none."""

    stt: stt.STT[Any] | None
    llm: llm.LLM[Any] | None
    tts: tts.TTS[Any] | None


def STT(  # noqa: N802 - returns what a class of this name would
    model: str,
    *,
    language: str | None = None,
    fallback: str | Sequence[str] | None = None,
    conn_options: APIConnectOptions | None = None,
    **options: Any,
) -> stt.STT[Any]:
    """Make a speech-to-text instance.

    Args:
        model: a configured id or ``provider/model``, with ``:language`` behind it if need be: ``deepgram/nova-3:en``.
        language: as the provider writes it; goes before the one behind the id and the configured one.
        fallback: models to try when this one fails, in this order; those of ``fallbacks`` in the file when left out, none
            when empty.
        conn_options: timeout and retries of calls that come without their own; of a list, those of each attempt.
        options: further options of the plugin's class; ``base_url`` is the API root, as in ``voicegw.yaml``.

    Returns:
        The instance of the plugin's class; with something to fall back on, LiveKit's ``FallbackAdapter`` around it.

    Raises:
        ImportError: LiveKit or the plugin is not installed; the message names the extra that brings it.
        NotFound: there is no such model, provider or project; near matches are named.
        InvalidInput: there is no key, no such option, or the model is of another modality.
        ConfigInvalid: ``voicegw.yaml`` is broken.
    """
    return _make(
        Modality.STT, model, fallback=fallback, conn_options=conn_options, language=language, options=options
    )


def LLM(  # noqa: N802 - see STT
    model: str,
    *,
    fallback: str | Sequence[str] | None = None,
    conn_options: APIConnectOptions | None = None,
    **options: Any,
) -> llm.LLM[Any]:
    """Make a language model instance.

    Args:
        model: a configured id or ``provider/model``; a colon is part of it: ``ollama/qwen2.5:3b``.
        fallback, conn_options, options: as for ``STT``.

    Returns:
        What ``STT`` returns.

    Raises:
        ImportError, NotFound, InvalidInput, ConfigInvalid: as ``STT``.
    """
    return _make(Modality.LLM, model, fallback=fallback, conn_options=conn_options, options=options)


def TTS(  # noqa: N802 - see STT
    model: str,
    *,
    voice: Any = None,
    language: str | None = None,
    fallback: str | Sequence[str] | None = None,
    conn_options: APIConnectOptions | None = None,
    **options: Any,
) -> tts.TTS[Any]:
    """Make a text-to-speech instance.

    Args:
        model: a configured id or ``provider/model``, with ``:voice`` behind it if need be: ``cartesia/sonic-3:VOICE``.
        voice: as the provider writes it, mostly an id; goes before the one behind the id and the configured one.
        language: likewise.
        fallback, conn_options, options: as for ``STT``.

    Returns:
        What ``STT`` returns.

    Raises:
        ImportError, NotFound, InvalidInput, ConfigInvalid: as ``STT``.
    """
    return _make(
        Modality.TTS,
        model,
        fallback=fallback,
        conn_options=conn_options,
        language=language,
        voice=voice,
        options=options,
    )


def stack(name: str | None = None) -> Stack:
    """Make the three instances of a stack of ``voicegw.yaml``.

    Args:
        name: the stack; without one, the models of this context's project: its own, else its ``default_stack``'s.

    Raises:
        InvalidInput: there is no such stack, or the project has no models; otherwise as ``STT``.
        ImportError, NotFound, ConfigInvalid: as ``STT``.
    """
    with _hinting():
        from voicegw_mcp.inference.resolution import find_stack  # noqa: PLC0415 - see _runtime

        catalog = _runtime().catalog()
        if name is not None:
            models = find_stack(catalog, name).model_dump(exclude_none=True)
        else:
            project = context.active_project(catalog)
            models = {str(modality): model for modality, model in project.models.items()}
            if not models:
                raise InvalidInput(
                    f"Project {project.id} has neither a default_stack nor models of its own.",
                    field="stack",
                    hint="Name a stack, or give the project one in voicegw.yaml.",
                )
    return Stack(
        stt=STT(models["stt"]) if "stt" in models else None,
        llm=LLM(models["llm"]) if "llm" in models else None,
        tts=TTS(models["tts"]) if "tts" in models else None,
    )


def set_project(project_id: str) -> context.Setting[str | None]:
    """Count what this context, and tasks started in it, use from now on on a project; ``with`` ends that with its block.

    Raises:
        NotFound: there is no such project; near matches are named.
        ConfigInvalid: ``voicegw.yaml`` is broken.
    """
    with _hinting():
        return context.set_project(_runtime().catalog(), project_id)


def get_active_project() -> str:
    """Return the id of this context's project: ``set_project``, ``VOICEGW_ACTIVE_PROJECT``, ``default_project``, ``default``.

    Raises:
        NotFound: what names it names none there is.
        ConfigInvalid: ``voicegw.yaml`` is broken.
    """
    with _hinting():
        return context.active_project(_runtime().catalog()).id


def session(session_id: str | None = None) -> context.Setting[str | None]:
    """Group what this context, and tasks started in it, use from now on as one conversation; ``with`` ends that.

    Args:
        session_id: its id in the request log; without one it gets one. ``.value`` of what is returned has it.

    Raises:
        InvalidInput: the id is empty, too long or not printable.
    """
    with _hinting():
        return context.set_session(session_id)


def configure(config: str | Path | None = None) -> None:
    """Go by another ``voicegw.yaml`` from now on; None searches for it anew, as at the first use.

    Raises:
        InvalidInput: there is no such file.
    """
    with _hinting():
        _runtime().configure(None if config is None else str(config))


async def preload(*names: str) -> None:
    """Import LiveKit and plugins without holding up the event loop; ``STT``, ``LLM`` and ``TTS`` then find them loaded.

    To be awaited in the main thread, where LiveKit lets plugins register.

    Args:
        names: stacks, models or providers; without any, the providers of all models of the file whose plugins are installed.

    Raises:
        ImportError: LiveKit or a plugin is not installed; the message names the extra that brings it.
        NotFound, InvalidInput, ConfigInvalid: as ``STT``.
    """
    with _hinting():
        served, here = await asyncio.to_thread(_types_behind, names)
        await plugins.preload(served)
        await local.preload(here)


def _types_behind(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the provider types behind names, those with plugins and those that run here; of all models, what is installed."""
    from voicegw_mcp.inference.resolution import accounts_of  # noqa: PLC0415 - see _runtime

    catalog = _runtime().catalog()
    used = {entry.provider_id for entry in catalog.models.values() if entry.settings.enabled}
    enabled = [each.id for each in catalog.providers.values() if each.settings.enabled and each.id in used]
    accounts = accounts_of(catalog, names or enabled, context.active_project(catalog))
    here = [each.type_name for each in accounts if local.runs_here(each)]
    served = [each.type_name for each in accounts if not local.runs_here(each)]
    return (
        [each for each in served if names or plugins.is_installed(each)],
        [each for each in here if names or local.is_installed(each)],
    )


def _make(modality: Modality, model: str, **arguments: Any) -> Any:
    with _hinting():
        from voicegw_mcp.inference.assembly import assemble  # noqa: PLC0415 - see _runtime
        from voicegw_mcp.inference.guard import Guard  # noqa: PLC0415 - likewise

        guard = Guard(_runtime(), modality)
        instance = assemble(_runtime(), modality, model, guard=guard, **arguments)
        guard.serve(instance)
        return instance


def _runtime() -> Runtime:
    from voicegw_mcp.inference.runtime import current  # noqa: PLC0415 - 0.1 s that who only imports need not wait

    return current()


@contextlib.contextmanager
def _hinting() -> Generator[None]:
    """Let a traceback show what to do about an error."""
    try:
        yield
    except GatewayError as error:
        if error.hint:
            error.add_note(error.hint)
        raise
