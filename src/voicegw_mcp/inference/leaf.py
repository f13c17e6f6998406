"""Whom a plugin's instance speaks to, as it is configured: what its rows in the log and its prices go by.

The instance itself cannot tell: the ``model`` and ``provider`` of LiveKit's plugins are names for people (the host of the
base URL for every plugin on OpenAI's SDK, ``unknown`` for some others). May import ``domain``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voicegw_mcp.domain import Modality


@dataclass(frozen=True, slots=True)
class Leaf:
    """One instance of a plugin. It holds no key: the runtime looks the account's key up when one is needed.

    Args:
        modality: what it does.
        provider: the provider's id in ``voicegw.yaml``, as ``RequestRecord.provider`` has it.
        provider_type: its type, a name of ``PROVIDER_TYPES``; prices go by it.
        model_id: the model's id, as ``RequestRecord.model_id`` and ``pricing:`` have it; ``provider/model`` for a model
            that is not listed.
        model: the provider's own name of the model; price libraries know it by this.
        language: as it was asked for or configured, None when the plugin decides.
        voice: likewise.
        local: whether it runs on the user's own machine or network, where requests cost nothing.
        account: the project whose own entry of the provider (``projects.ID.providers``) it was made with, None for the
            provider's own.
        own_key: whether its key was passed in code: there is no reference to look up, so it never changes.
        project: the project that was set where it was made (``set_project``), None when none was; a call goes by the
            project set where it is made, then by this one.
    """

    modality: Modality
    provider: str
    provider_type: str
    model_id: str
    model: str
    language: str | None = None
    voice: str | None = None
    local: bool = False
    account: str | None = None
    own_key: bool = False
    project: str | None = None
