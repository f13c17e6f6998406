"""From a model's text to the plugin's own instance. May import ``inference``, ``core`` and ``errors``.

LiveKit is met in ``plugins.load_class``, after everything that can be told without it was checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voicegw_mcp.errors import InvalidInput, quote
from voicegw_mcp.inference import context, local
from voicegw_mcp.inference.arguments import Layer, arguments_for, merge, revealed
from voicegw_mcp.inference.leaf import Leaf
from voicegw_mcp.inference.parameters import form_of
from voicegw_mcp.inference.plugins import classes_of, load_class
from voicegw_mcp.inference.resolution import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicegw_mcp.domain import Modality
    from voicegw_mcp.inference.runtime import Runtime


def build(
    runtime: Runtime,
    modality: Modality,
    model: str,
    *,
    language: str | None = None,
    voice: Any = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Any, Leaf]:
    """Make the instance that a model's text stands for.

    Args:
        runtime: gives configuration and keys.
        modality: what it shall do.
        model: a configured id, or ``provider/model``; for STT and TTS with ``:language`` or ``:voice`` behind it.
        language: goes before the text's and the configured one.
        voice: likewise.
        options: further options of the class; they go before those of the model's and of the provider's entry.

    Returns:
        The instance of the plugin's own class, and whom it speaks to.

    Raises:
        ImportError: LiveKit or the plugin is not installed; the message names the extra that brings it.
        NotFound: there is no such project, provider or model; near matches are named.
        InvalidInput: the model is of another modality or switched off, there is no key, the class takes no such option,
            or it refuses one.
        ConfigInvalid: ``voicegw.yaml`` is broken.
    """
    if language is not None and not isinstance(language, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers need not be typed
        raise InvalidInput(
            f"language {quote(repr(language))} is no text.",
            field="language",
            hint="Pass it as the provider writes it: en.",
        )
    catalog = runtime.catalog()
    choice = resolve(catalog, modality, model, context.active_project(catalog))
    account = choice.account
    if local.runs_here(account, choice.options, options):
        cls = local.load_class(account.type_name, modality)
        siblings = [cls]
    else:
        cls = load_class(account.type_name, modality, choice.model)
        siblings = classes_of(account.type_name)
    form = form_of(account.type_name, cls)
    said = {"language": choice.language, "voice": choice.voice}
    own = {**(options or {}), **_present({"language": language, "voice": voice})}
    provider, listed = f"providers.{account.provider_id}", f"models.{modality}.{choice.model_id}"
    given = merge(
        form,
        [
            Layer(revealed(runtime, account.options, provider), f" (in {provider})", for_all=True),
            Layer(revealed(runtime, choice.options, listed), f" (in {listed})"),
            Layer(_present(said)),
            Layer(own),
        ],
        [form_of(account.type_name, each) for each in siblings],
    )
    arguments = arguments_for(runtime, choice, form, cls, given)
    try:
        instance = cls(**arguments)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"{form.label} cannot be made: {error}",
            field="options",
            hint="Correct or add the option it names.",
        ) from error
    leaf = Leaf(
        modality=modality,
        provider=account.provider_id,
        provider_type=account.type_name,
        model_id=choice.model_id,
        model=choice.model,
        language=given.text("language"),
        voice=given.text("voice"),
        local=account.local,
        account=account.project,
        own_key=any(form.concept_of(option) == "api_key" for option in own),
        project=context.project_set(),
    )
    return instance, leaf


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
