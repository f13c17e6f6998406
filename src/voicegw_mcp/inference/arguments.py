"""What a class of a plugin is made with: options of the provider, of the model and of the call, the key and the address.

May import ``inference``, ``config`` and ``errors``; never LiveKit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config.values import is_list, is_map
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.inference.parameters import adapt
from voicegw_mcp.inference.plugins import SERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from voicegw_mcp.inference.parameters import Form
    from voicegw_mcp.inference.resolution import Account, Choice
    from voicegw_mcp.inference.runtime import Runtime

_FINDS_ITS_KEY: Final = frozenset({"aws"})
"""Types that look for credentials themselves when none are configured (AWS: its usual chain)."""

_INSTEAD_OF_KEY: Final = frozenset(
    {
        "api_token",
        "auth_header",
        "client",
        "credentials",
        "credentials_file",
        "credentials_info",
        "headers",
        "jwt_token",
        "session",
        "speech_auth_token",
        "speech_host",
        "vertexai",
    }
)
"""Options of plugins that stand in for a key."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Options from one place; ``where`` is that place for an error, "" for the call itself.

    ``for_all`` options were written for all classes of a provider: one that this class has not and another has is skipped.
    """

    options: Mapping[str, Any]
    where: str = ""
    for_all: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """What a class is given, by our names and by its own."""

    known: Mapping[str, Any]
    others: Mapping[str, Any]

    def text(self, concept: str) -> str | None:
        """Return what is known when it is a text."""
        value = self.known.get(concept)
        return value if isinstance(value, str) and value else None


def merge(form: Form, layers: Iterable[Layer], siblings: Iterable[Form] = ()) -> Given:
    """Put options together; a later layer goes before an earlier one.

    Args:
        form: what the class takes.
        layers: the options.
        siblings: what the other classes of the plugin take.

    Raises:
        InvalidInput: the class has no such option; the message names the ones it has.
    """
    known: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for layer in layers:
        met: dict[str, str] = {}
        for option, value in layer.options.items():
            concept = form.concept_of(option)
            if concept == "model" or (
                concept == "api_key" and concept not in form.names and not layer.for_all
            ):
                raise form.refusal(option, layer.where)
            if concept is not None:
                if layer.for_all and concept not in form.names and concept != "base_url":
                    continue
                if concept in met:
                    raise InvalidInput(
                        f"{met[concept]} and {option} are the same{layer.where}.",
                        field=option,
                        hint="Give one of them.",
                    )
                met[concept] = option
                known[concept] = value
            elif form.open or option in form.accepted:
                others[option] = value
            elif not (layer.for_all and any(option in each.options() for each in siblings)):
                raise form.refusal(option, layer.where)
    return Given({concept: value for concept, value in known.items() if value}, others)


def arguments_for(
    runtime: Runtime, choice: Choice, form: Form, cls: type[Any], given: Given
) -> dict[str, Any]:
    """Return the arguments a class is made with.

    Raises:
        InvalidInput: it takes no language, voice or address and one is given; there is no key, or no address.
    """
    account = choice.account
    arguments: dict[str, Any] = {}
    base_url = given.known.get("base_url") or _address_of(account, form)
    if base_url and form.endpoint is None:
        raise _takes_none(form, "base_url", "Its address is fixed: take the base_url away.")
    if base_url and form.endpoint is not None:
        arguments |= form.endpoint.arguments(base_url)
    for concept in ("language", "voice"):
        value = given.known.get(concept)
        if value:
            if concept not in form.names:
                raise _takes_none(form, concept, f"Leave the {concept} out; its models have theirs.")
            arguments[form.names[concept]] = value
    if "model" in form.names:
        arguments[form.names["model"]] = choice.model
    if "api_key" in form.names:
        key = given.known.get("api_key") or _key_of(runtime, account, given)
        if key is not None:
            arguments[form.names["api_key"]] = key
    return adapt(account.type_name, cls, {**arguments, **given.others})


def revealed(runtime: Runtime, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return options of the file with the references in secret ones looked up.

    Raises:
        InvalidInput: one stands for nothing; the message names it and the command that sets it.
    """

    def look_up(value: Any, path: str) -> Any:
        if isinstance(value, str) and "${" in value:
            found = runtime.look_up(value)
            if found.value is None:
                raise InvalidInput(f"{path}: {found.reason}.", field=path, hint=_run(found.command))
            return found.value.get_secret_value()
        if is_map(value):
            return {key: look_up(item, f"{path}.{key}") for key, item in value.items()}
        return [look_up(item, path) for item in value] if is_list(value) else value

    return {name: look_up(value, f"{where}.{name}") for name, value in options.items()}


def _address_of(account: Account, form: Form) -> str | None:
    """Return the API root of an account, None where its class knows one or needs none."""
    if account.base_url or account.type_name not in SERVED or form.endpoint is None:
        return account.base_url
    usual = account.kind and account.kind.base_url
    if not usual:
        raise InvalidInput(
            f"Provider {account.provider_id} has no base_url: nobody knows where its server is.",
            field="base_url",
            hint=f"Write it into the file: providers.{account.provider_id}.base_url: http://127.0.0.1:8000/v1",
        )
    return usual


def _key_of(runtime: Runtime, account: Account, given: Given) -> str | None:
    """Return the account's key, None where its plugin does without one."""
    reason, command = "no api_key is configured", ""
    if account.key_reference is not None:
        found = runtime.look_up(account.key_reference)
        if found.value is not None:
            return found.value.get_secret_value()
        reason, command = found.reason, found.command
    if account.type_name in SERVED:
        return account.type_name  # the SDK wants one, a server that asks for none does not look at it
    if (
        account.type_name in _FINDS_ITS_KEY
        or account.kind is None
        or not _INSTEAD_OF_KEY.isdisjoint(given.others)
    ):
        return None
    raise InvalidInput(
        f"Provider {account.provider_id} has no key: {reason}.",
        field="api_key",
        hint=_run(command) or f"Write providers.{account.provider_id}.api_key: ${{NAME}} into the file.",
        details={"provider_id": account.provider_id, "command": command},
    )


def _run(command: str) -> str:
    return f"Run `{command}`." if command else ""


def _takes_none(form: Form, concept: str, hint: str) -> InvalidInput:
    return InvalidInput(f"{form.label} takes no {concept}.", field=concept, hint=hint)
