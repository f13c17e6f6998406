"""What stands before each request: the budget of its project, and the rate limit of the provider it is sent to.

A request that is refused is LiveKit's error of a kind that nobody tries again; one of a throttled project is served by the model
of its throttle stack. What cannot be checked is let through: a voice agent must not fall silent because a file is gone.
LiveKit is met when the instance is there already. May import ``inference``, ``core``, ``domain`` and ``errors``.
"""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final, NoReturn

from voicegw_mcp.core.budgets import budgets_of
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import GatewayError, RateLimited, quote
from voicegw_mcp.inference import context, local, plugins
from voicegw_mcp.inference.assembly import assemble
from voicegw_mcp.inference.resolution import resolve

if TYPE_CHECKING:
    from voicegw_mcp.core.budgets import Budget, Decision
    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.inference.leaf import Leaf
    from voicegw_mcp.inference.runtime import Runtime

logger = logging.getLogger(__name__)

_FORWARDED: Final = ("metrics_collected", "error")
_NOWHERE: Final = "Throttled requests cannot go elsewhere: %s"
_loading: Final[set[asyncio.Task[None]]] = set()
"""An event loop itself keeps its tasks weakly only."""


class Limiter:
    """Holds the rate limits of providers, and nothing else: for models that stand in for those of a throttled project."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __call__(self, leaf: Leaf, project: str, first: bool) -> Any:
        """Raise when the provider was sent as many requests as it may be; see ``meter.Guard``."""
        del project
        if first:
            return
        catalog = self._catalog()
        limit = None if catalog is None else catalog.settings.rate_limits.get(leaf.provider)
        if limit is None or not limit.requests_per_minute:
            return
        allowed = limit.requests_per_minute
        wait_s = self._runtime.rate_limits.take(leaf.provider, allowed)
        if wait_s:
            _refuse(
                RateLimited(
                    f"This process sent provider {leaf.provider} {allowed} request{'' if allowed == 1 else 's'} within a minute, as many "
                    f"as rate_limits.{leaf.provider}.requests_per_minute allows; there is room again in {wait_s:.1f} s.",
                    hint="Raise the limit, or name models of other providers to fall back on.",
                    details={
                        "provider_id": leaf.provider,
                        "requests_per_minute": allowed,
                        "retry_after_ms": math.ceil(wait_s * 1000),
                    },
                )
            )

    def go_by(self, leaf: Leaf, catalog: Catalog) -> bool:
        """Take a new configuration; say whether it has anything that requests on ``leaf`` must be asked about."""
        limit = catalog.settings.rate_limits.get(leaf.provider)
        return limit is not None and bool(limit.requests_per_minute)

    def _catalog(self) -> Catalog | None:
        """Return the configuration, None when there never was one that could be read."""
        try:
            return self._runtime.catalog_in_use()
        except GatewayError as error:
            logger.warning("Neither budgets nor rate limits are checked: %s", error)
            return None


class Guard(Limiter):
    """What is asked before the requests of one instance, or of one fallback list.

    Args:
        runtime: gives the configuration and what was spent.
        modality: what the instance does.
    """

    def __init__(self, runtime: Runtime, modality: Modality) -> None:
        super().__init__(runtime)
        self._modality = modality
        self._instance: Any = None
        self._prepared: Catalog | None = None
        self._stand_ins: dict[tuple[str, str], Any] = {}

    def __call__(self, leaf: Leaf, project: str, first: bool) -> Any:
        """Return the instance that shall serve instead, None for the one that was called; see ``meter.Guard``.

        Raises:
            APIStatusError: 402, the budget is spent; 429, the provider was sent as many requests as it may be.
        """
        if not first:
            return super().__call__(leaf, project, first)
        catalog = self._catalog()
        if catalog is None:
            return None
        decision = (self._runtime.budgets_in_use() or self._runtime.budgets()).check(catalog, project)
        if decision is None or decision.verdict in {"allow", "warn"}:
            return None
        return self._elsewhere(catalog, decision) if decision.verdict == "throttle" else _block(decision)

    def go_by(self, leaf: Leaf, catalog: Catalog) -> bool:
        """Begin what no request shall wait for: the store is read, and what throttle stacks need is loaded; see ``Limiter``."""
        asked = self._runtime.budgets().go_by(catalog)
        if asked and catalog is not self._prepared:
            self._prepared = catalog
            self._prepare(catalog)
        return super().go_by(leaf, catalog) or asked

    def _prepare(self, catalog: Catalog) -> None:
        """Load the plugins of throttle stacks: beside the event loop where one runs, else now."""
        accounts: list[tuple[str, bool]] = []
        for budget in budgets_of(catalog).values():
            model = _model_of(catalog, budget, self._modality) if budget.action == "throttle" else None
            if model is not None:
                try:
                    choice = resolve(catalog, self._modality, model, catalog.projects.get(budget.project))
                except GatewayError as error:
                    logger.warning(_NOWHERE, error)
                else:
                    accounts.append(
                        (choice.account.type_name, local.runs_here(choice.account, choice.options))
                    )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        for type_name, here in dict.fromkeys(accounts):
            if loop is None:
                _load(type_name, self._modality, here=here)
            else:
                task = loop.create_task(_load_beside(type_name, here=here))
                _loading.add(task)
                task.add_done_callback(_loading.discard)

    def serve(self, instance: Any) -> None:
        """Stand before ``instance``, which was just made with this guard.

        What stands in for it is closed with it.
        """
        self._instance = instance
        original = instance.aclose

        @wraps(original)
        async def aclose() -> None:
            await original()
            while self._stand_ins:
                await self._stand_ins.popitem()[1].aclose()

        instance.aclose = aclose

    def _elsewhere(self, catalog: Catalog, decision: Decision) -> Any:
        """Return the stand-in of a throttled project's request, made when it is first needed."""
        budget = decision.budget
        model = _model_of(catalog, budget, self._modality)
        if model is None:
            what = (
                "names no"
                if budget.throttle_stack in catalog.settings.stacks
                else "is not in the file and so has no"
            )
            _block(
                decision, f"Its throttle stack {quote(budget.throttle_stack)} {what} {self._modality} model."
            )
        key = budget.project, model
        if key not in self._stand_ins:
            try:
                with context.set_project(catalog, budget.project):
                    made = assemble(
                        self._runtime, self._modality, model, fallback=[], guard=Limiter(self._runtime)
                    )
            except (GatewayError, ImportError, RuntimeError) as error:
                _block(decision, f"Its throttle stack cannot be used: {error}")
            for event in _FORWARDED:
                made.on(event, partial(self._instance.emit, event))
            self._stand_ins[key] = _Adapted(made, self._instance, self._modality)
        return self._stand_ins[key]


class _Adapted:
    """A stand-in with the methods of the instance it stands in for: streams, too, where its plugin has none.

    Args:
        made: of a plugin's class.
        original: which it stands in for.
        modality: what they do.
    """

    def __init__(self, made: Any, original: Any, modality: Modality) -> None:
        self._made = made
        if modality is Modality.LLM:
            self.chat = made.chat
            return
        adapter = None
        if original.capabilities.streaming and not made.capabilities.streaming:
            adapter = _with_streams(made, modality)
        self.stream = (adapter or made).stream
        if modality is Modality.TTS:
            self.synthesize = made.synthesize
        else:
            self.recognize = made.recognize

    async def aclose(self) -> None:
        """Close what was made, and the client that some plugins leave open: nobody else knows of it."""
        await self._made.aclose()
        close = getattr(getattr(self._made, "_client", None), "close", None)
        if close is not None:
            await close()


def _with_streams(made: Any, modality: Modality) -> Any:
    from livekit.agents import inference, stt, tts  # noqa: PLC0415 - only where a stream is taken apart

    if modality is Modality.TTS:
        return tts.StreamAdapter(tts=made)
    return stt.StreamAdapter(stt=made, vad=inference.VAD())


def _load(type_name: str, modality: Modality, *, here: bool) -> None:
    """Load the plugin of a provider type, or what runs it in this process."""
    try:
        if here:
            local.load_class(type_name, modality)
        else:
            plugins.load_plugin(type_name)
    except (GatewayError, ImportError, RuntimeError) as error:
        logger.warning(_NOWHERE, error)


async def _load_beside(type_name: str, *, here: bool) -> None:
    """Load it in a thread, as far as LiveKit allows."""
    try:
        await (local.preload if here else plugins.preload)([type_name])
    except (GatewayError, ImportError, RuntimeError) as error:
        logger.warning(_NOWHERE, error)


def _model_of(catalog: Catalog, budget: Budget, modality: Modality) -> str | None:
    """Return the model of a project's throttle stack, None when there is none of this modality."""
    stack = catalog.settings.stacks.get(budget.throttle_stack)
    return getattr(stack, modality, None)


def _block(decision: Decision, reason: str = "") -> NoReturn:
    _refuse(decision.refusal(reason))


def _refuse(error: GatewayError) -> NoReturn:
    """Raise an error as LiveKit's own, of a kind that nobody tries again; its body has what a program may need."""
    from livekit.agents import APIStatusError  # noqa: PLC0415 - loaded with the plugins by now

    message = f"{error.error_code}: {error.message} {error.hint}"
    raise APIStatusError(
        message, status_code=error.http_status, body=error.payload(), retryable=False
    ) from error
