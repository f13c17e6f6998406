"""Asks the person before something is deleted, where the client can; ``confirm`` alone decides elsewhere.

May import ``core`` and ``errors``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voicegw_mcp.core.changes import apply_change
from voicegw_mcp.core.conversation import Question
from voicegw_mcp.core.entries import describe_impact
from voicegw_mcp.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.changes import Receipt
    from voicegw_mcp.core.conversation import Reply
    from voicegw_mcp.core.drafts import Plan
    from voicegw_mcp.core.gateway import Gateway

_OUTCOMES: Final[dict[Reply, str]] = {
    "decline": "The person declined",
    "cancel": "The question was dismissed",
    "unanswered": "Nobody answered the question",
}


async def apply_agreed(
    gateway: Gateway,
    plan: Callable[[Catalog], Plan],
    *,
    tool: str,
    confirm: bool,
    if_version: str | None,
    dry_run: bool,
) -> Receipt:
    """Make a destructive change; a caller who confirms it and has a person to ask is asked first.

    Whatever would refuse the change refuses it before the person is troubled; no lock is held meanwhile, and what is
    then written is what was shown, or nothing.

    Args:
        gateway: whose file and store.
        plan: as of ``apply_change``; refuses without ``confirm``.
        tool: the tool that asks, for the journal.
        confirm: whether the caller says that he means it.
        if_version: refuse at any other version.
        dry_run: return the diff, write nothing, ask nobody.

    Raises:
        Forbidden: the person said no, or nothing, or the caller's token was changed meanwhile. Not ConfirmationRequired:
            that asks an agent to repeat the call.
        Conflict: the configuration was changed while the person thought.
        GatewayError: as ``apply_change``.
    """
    ask = gateway.caller.ask
    if ask is None or dry_run or not confirm:
        return await apply_change(gateway, plan, tool=tool, if_version=if_version, dry_run=dry_run)
    shown = await apply_change(gateway, plan, tool=tool, if_version=if_version, dry_run=True)
    touched = describe_impact(shown.plan.impact) or "Nothing else is affected"
    reply = await ask(Question(f"{shown.plan.summary}? {touched}.", shown.config_version))
    if reply != "accept":
        raise _refusal(reply, shown)
    return await apply_change(gateway, plan, tool=tool, if_version=shown.config_version)


def _refusal(reply: Reply, shown: Receipt) -> Forbidden:
    hint = "Do not repeat the call; ask the person what they want instead."
    if reply != "decline":
        hint += " Where nobody can answer (a run without a person), a person deletes it with `voicegw call`."
    return Forbidden(
        f"{_OUTCOMES[reply]}: {shown.plan.summary}. Nothing was written.",
        hint=hint,
        details={"reason": reply, "config_version": shown.config_version},
    )
