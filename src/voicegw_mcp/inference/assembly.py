"""From a call of ``STT``, ``LLM`` or ``TTS`` to what it returns: instances, their meters, and the adapter around several.

What can be told without LiveKit is told before it is loaded. May import ``inference``, ``core``, ``domain`` and ``errors``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import GatewayError, InvalidInput, quote
from voicegw_mcp.inference.build import build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livekit.agents import APIConnectOptions

    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.inference.leaf import Leaf
    from voicegw_mcp.inference.meter import Guard
    from voicegw_mcp.inference.runtime import Runtime


def assemble(
    runtime: Runtime,
    modality: Modality,
    model: str,
    *,
    fallback: str | Sequence[str] | None = None,
    conn_options: APIConnectOptions | None = None,
    guard: Guard | None = None,
    **arguments: Any,
) -> Any:
    """Make a metered instance, or LiveKit's adapter around several where there is something to fall back on.

    Args:
        runtime: gives configuration, keys, prices and the recorder.
        modality: what it shall do.
        model: see ``build``.
        fallback: models to try after it, in this order; None takes ``fallbacks`` of the file, an empty list none.
        conn_options: LiveKit's; of a list they are about each attempt.
        guard: see ``meter``.
        arguments: of ``build``; a fallback is given the language of STT, all else is the first model's own.

    Raises:
        ImportError, NotFound, InvalidInput, ConfigInvalid: as ``build``; also of a model in ``fallback``, and in the file's ``fallbacks``
            with a note that says so.
        InvalidInput: ``fallback`` names a model twice or is no list, or ``conn_options`` are none.
    """
    named = _named(fallback)
    built = [build(runtime, modality, model, **arguments)]
    first = built[0][1]
    language = arguments.get("language") if modality is Modality.STT else None
    for text in _configured(runtime.catalog(), first) if named is None else named:
        try:
            instance, leaf = build(runtime, modality, text, language=language)
        except (GatewayError, ImportError) as error:
            if named is None:
                error.add_note(
                    f"{quote(text)} is named by fallbacks.{modality} of voicegw.yaml; fallback=[] goes without."
                )
            raise
        if not any(replace(each, own_key=False) == leaf for _, each in built):
            built.append((instance, leaf))
        elif named is not None:
            raise InvalidInput(
                f"fallback names {quote(text)}, which is tried before already.",
                field="fallback",
                hint="Name each model once, and not the one it is the fallback of.",
                details={"model_id": leaf.model_id},
            )
    return _put_together(runtime, built, conn_options, guard)


def _put_together(
    runtime: Runtime,
    built: list[tuple[Any, Leaf]],
    conn_options: APIConnectOptions | None,
    guard: Guard | None,
) -> Any:
    from livekit.agents import APIConnectOptions as Options  # noqa: PLC0415 - loaded with the plugins by now

    from voicegw_mcp.inference.fallback import fall_back  # noqa: PLC0415 - meets LiveKit
    from voicegw_mcp.inference.meter import Meter  # noqa: PLC0415 - likewise

    if conn_options is not None and not isinstance(conn_options, Options):  # pyright: ignore[reportUnnecessaryIsInstance] - callers need not be typed
        raise InvalidInput(
            f"conn_options {quote(conn_options)} are no livekit.agents.APIConnectOptions.",
            field="conn_options",
            hint="Pass APIConnectOptions(max_retry=1, timeout=5), or leave them out.",
        )
    alone = len(built) == 1
    meters = [
        Meter(instance, leaf, runtime, guard=guard, conn_options=conn_options if alone else None)
        for instance, leaf in built
    ]
    instances = [instance for instance, _ in built]
    return instances[0] if alone else fall_back(built[0][1].modality, instances, meters, conn_options)


def _named(fallback: object) -> Sequence[str] | None:
    """Return the models a caller names to fall back on, None when he leaves that to the file."""
    if fallback is None:
        return None
    if isinstance(fallback, str):
        return [fallback]
    if isinstance(fallback, (list, tuple)) and all(
        isinstance(each, str) for each in cast("Sequence[Any]", fallback)
    ):
        return cast("Sequence[str]", fallback)
    raise InvalidInput(
        f"fallback {quote(repr(cast('object', fallback)))} is no list of models.",
        field="fallback",
        hint='Pass ["provider/model", ...], or [] for none.',
    )


def _configured(catalog: Catalog, first: Leaf) -> list[str]:
    """Return the models of the file to fall back on: those that are switched on, without the first one itself."""
    chosen: list[str] = getattr(catalog.settings.fallbacks, first.modality)
    return [
        each
        for each in chosen
        if each != first.model_id and (each not in catalog.models or catalog.models[each].settings.enabled)
    ]
