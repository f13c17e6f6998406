"""Whether a provider's address and key are right, found out by one free request.

It exists because a wrong key otherwise shows in the middle of a call. May import ``core.provider_types``,
``core.outgoing``, ``config.addresses``, ``errors``, anyio and pydantic. LiveKit's plugins are never used for this: some turn
a 401 into a retried connection error.

What a result means when less than a key can be checked:

* A type with a documented free request (``ProviderType.probe``): ``ok`` means that the provider accepted the key.
* A type without one, but with a base URL: the base is asked without the key. An answer below 500 is ``ok`` with a message
  that says only reachability was checked; ``checked`` is ``reachability``.
* A type with neither (aws, nvidia, ...): nothing is wrong that anybody could name, so the status is ``ok``, with a message
  that says nothing was sent; ``checked`` is ``nothing``. Calling it failed would send people after a fault that is not there.
* whisper, kokoro and piper without a base URL run in the agent's process: ``ok`` means that their Python package is
  installed beside this server and the files the options name exist (``checked`` is ``files``).
"""

from __future__ import annotations

import importlib.util
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from voicegw_mcp.config.addresses import canonical_host, check_base_url, is_listed
from voicegw_mcp.core.outgoing import NoReply, send
from voicegw_mcp.core.probe_answers import Answer, Checked, ProbeResult, Reason, judged
from voicegw_mcp.errors import InvalidInput, ProviderFailed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic import SecretStr

    from voicegw_mcp.core.provider_types import ProbeRequest, ProviderType

_UNTESTABLE: Final = (
    "Not tested: a key is set, but this type has no documented free check and no base URL to reach."
)

_REGION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_FILE_OPTIONS: Final = ("model_path", "model_dir", "voices_path", "config_path", "download_root")
"""Options of local types that name a file or folder which has to exist."""


async def probe(
    provider_type: ProviderType,
    *,
    base_url: str | None,
    api_key: SecretStr | None,
    timeout_s: float,
    options: Mapping[str, object],
    allow_private: bool = False,
    allowed_private_hosts: Collection[str] = (),
    key_hint: str = "",
) -> ProbeResult:
    """Check one provider with at most one GET, and answer within ``timeout_s`` whatever the other side does.

    No redirect is followed, no proxy or ``.netrc`` of the environment is used, TLS is verified against the host name, the
    connection goes to an address that was judged before, and the key travels in a header only.

    Args:
        provider_type: decides the request and the meaning of its answer.
        base_url: the provider's own root, with or without ``/v1``; None for the type's default.
        api_key: the key, None when its reference is unset.
        timeout_s: seconds for all of it: name, connection, TLS, answer.
        options: the provider's options: ``region`` (azure), ``model_path`` and the like (local types).
        allow_private: whether loopback and private addresses may be asked; always so for local types.
        allowed_private_hosts: host names for which they may (``security.allow_private_hosts``).
        key_hint: how to set the key, for the message when it is missing; the type's key variable by default.

    Returns:
        A result; refused addresses and bad URLs are reason ``wrong_url``, never an exception.
    """
    started = time.perf_counter()
    outcome = ProbeResult(
        "failed", "timeout", None, 0.0, f"No complete answer within {timeout_s:g} s.", _subject(provider_type)
    )
    try:
        with anyio.move_on_after(timeout_s):
            outcome = await _check(
                provider_type,
                base_url=base_url,
                key=api_key.get_secret_value() if api_key is not None else "",
                options=options,
                key_hint=key_hint,
                private="any" if allow_private or provider_type.local else allowed_private_hosts,
            )
    except InvalidInput as refused:
        outcome = _failed("wrong_url", " ".join(filter(None, (refused.message, refused.hint))))
    except ProviderFailed as unknown:
        outcome = _failed("unreachable", unknown.message)
    return replace(
        outcome, latency_ms=round((time.perf_counter() - started) * 1000, 1) if _sent(outcome) else 0.0
    )


def _subject(provider_type: ProviderType) -> Checked:
    return "key" if provider_type.probe is not None else "reachability"


def _sent(outcome: ProbeResult) -> bool:
    return outcome.checked in {"key", "reachability"} or outcome.reason == "unreachable"


def _failed(reason: Reason, message: str) -> ProbeResult:
    return ProbeResult("failed", reason, None, 0.0, message)


async def _check(
    provider_type: ProviderType,
    *,
    base_url: str | None,
    key: str,
    options: Mapping[str, object],
    key_hint: str,
    private: Literal["any"] | Collection[str],
) -> ProbeResult:
    """Do what ``probe`` does, without its clock; raises what the address checks raise."""
    if provider_type.package is not None and base_url is None:
        return await anyio.to_thread.run_sync(_check_files, provider_type.package, options)
    base = base_url or _default_base(provider_type, options)
    unready = _unready(provider_type, key, base, key_hint)
    if unready is not None or base is None:
        return unready or ProbeResult("ok", "ok", None, 0.0, _UNTESTABLE)
    host = canonical_host(urlsplit(check_base_url(base)).hostname or "")
    listed = private == "any" or is_listed(host, private)
    request = provider_type.probe
    headers: dict[str, str] = {}
    if request is not None:
        headers = dict(request.headers) | (request.auth(key) if key else {})
        base = request.url_under(base)
    return await _ask(base, headers, allow_private=listed, request=request, key=key)


def _unready(provider_type: ProviderType, key: str, base: str | None, key_hint: str) -> ProbeResult | None:
    """Say what is missing before anything can be sent; None when nothing is."""
    if not key and not provider_type.key_optional:
        return _failed(
            "not_configured", f"There is no API key: {key_hint or f'set {provider_type.key_variable}'}."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        return _failed(
            "bad_key", "The key holds a blank, a line end or a character that no key has: set it again."
        )
    if base is None and provider_type.key_optional:
        return _failed("not_configured", f"The type {provider_type.name} needs a base_url.")
    if base is None and provider_type.base_url is not None:
        return _failed(
            "not_configured", f"The type {provider_type.name} needs the option region, or a base_url."
        )
    return None


def _default_base(provider_type: ProviderType, options: Mapping[str, object]) -> str | None:
    """Return the type's own base URL with the region filled in; None without one or without a valid region."""
    base = provider_type.base_url
    if base is None or "{region}" not in base:
        return base
    region = options.get("region", options.get("speech_region"))
    valid = isinstance(region, str) and _REGION.fullmatch(region) is not None
    return base.format(region=region) if valid else None


def _check_files(package: str, options: Mapping[str, object]) -> ProbeResult:
    """Look for a local type's package and files, without importing the package. Runs in a worker thread."""
    if importlib.util.find_spec(package) is None:
        return replace(
            _failed("not_configured", f"The Python package {package} is not installed beside this server."),
            checked="files",
        )
    named = [(name, value) for name in _FILE_OPTIONS if isinstance(value := options.get(name), str) and value]
    for name, value in named:
        try:
            found = Path(value).expanduser().exists()
        except (OSError, ValueError, RuntimeError):
            found = False
        if not found:
            return replace(
                _failed("not_configured", f"The option {name} names a file or folder that does not exist."),
                checked="files",
            )
    what = "and its files exist" if named else "; no option names a model file, so none was looked for"
    return ProbeResult("ok", "ok", None, 0.0, f"The package {package} is installed {what}.", "files")


async def _ask(
    url: str, headers: dict[str, str], *, allow_private: bool, request: ProbeRequest | None, key: str
) -> ProbeResult:
    """Send the GET, and judge what comes back."""
    checked: Checked = "key" if request is not None else "reachability"
    try:
        reply = await send("GET", url, headers, allow_private=allow_private)
    except NoReply as trouble:
        return replace(_failed(trouble.reason, trouble.message), checked=checked)
    return judged(Answer(reply.status, reply.headers.get("location", ""), reply.body), request, key)
