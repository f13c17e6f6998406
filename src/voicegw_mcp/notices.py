"""Tells subscribers that a resource has changed, whoever changed it. May import ``tools``, ``core``, ``errors`` and mcp.

The truth is in files that editors and other processes write, too: while anybody is subscribed, their stamps are looked at once
a second, and what a resource shows is read when they differ. A subscriber is told when what he himself may read is another
text than before. Up to 2025-11-25 a client subscribes to resources one by one, from 2026-07-28 on it listens on a stream.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
import mcp_types as types
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated

from voicegw_mcp.errors import GatewayError, InvalidInput, StoreUnavailable, quote
from voicegw_mcp.tools.resources import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.connection import Connection
    from mcp.server.context import ServerRequestContext

    from voicegw_mcp.core.access import Access
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.tools.resources import Resource

    Context = ServerRequestContext[dict[str, Any]]

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
"""How often is looked, and how often a resource is spoken of at most."""

MOST_RESOURCES: Final = 50
"""Resources that one client may subscribe to."""

MOST_SUBSCRIBERS: Final = 2000
TASK_NAME: Final = "voicegw-notices"
_STATE: Final = "voicegw.subscriber"


class Notices:
    """The subscriptions of all clients of one gateway, and the task that looks while there are any."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._watched: dict[tuple[str, Access], _Watched] = {}
        self._stamps: dict[str, object] = {}
        self._subscribers: set[_Subscriber] = set()
        self._looking: asyncio.Task[None] | None = None

    async def subscribe(self, context: Context, gateway: Gateway, uri: str) -> None:
        """Tell the client of this session when a resource changes, until it unsubscribes or goes.

        Raises:
            InvalidInput: there is no such resource, or it is one too many.
            GatewayError: he may not read it, or it cannot be read now.
        """
        connection = _connection(context)
        subscriber = connection.state.get(_STATE)
        if subscriber is None:
            subscriber = _Subscriber(context.session.send_resource_updated)
        found = await _read(gateway, uri)
        if _STATE not in connection.state:
            connection.state[_STATE] = subscriber
            connection.exit_stack.callback(self._drop, subscriber)
        self._join(connection.state[_STATE], found)

    def unsubscribe(self, context: Context, uri: str) -> None:
        """Say no more of a resource; of one that was never subscribed to nothing happens."""
        subscriber = _connection(context).state.get(_STATE)
        if subscriber is not None:
            for key in [key for key in subscriber.keys if key[0] == uri]:
                self._leave(subscriber, key)
            self._settle(subscriber)

    async def listen(
        self, context: Context, gateway: Gateway, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one stream of notices; what is acknowledged is what this caller may read and can be told of.

        Raises:
            InvalidInput: too many resources.
        """
        asked = dict.fromkeys(params.notifications.resource_subscriptions or [])
        if len(asked) > MOST_RESOURCES:
            raise _too_many()
        found: list[_Watched] = []
        for uri in asked:
            try:
                found.append(await _read(gateway, uri))
            except GatewayError as error:
                logger.info("not subscribed: %s", error.message)
        bus = InMemorySubscriptionBus()
        subscriber = _Subscriber(lambda uri: bus.publish(ResourceUpdated(uri=uri)))
        honoured = types.SubscriptionFilter(resource_subscriptions=[item.uri for item in found] or None)
        try:
            # Between here and the bus being listened to nothing waits: no notice falls into the gap.
            for item in found:
                self._join(subscriber, item)
            return await ListenHandler(bus)(context, params.model_copy(update={"notifications": honoured}))
        finally:
            self._drop(subscriber)

    def _join(self, subscriber: _Subscriber, found: _Watched) -> None:
        if subscriber not in self._subscribers and len(self._subscribers) >= MOST_SUBSCRIBERS:
            raise StoreUnavailable(
                "There are too many subscribers.", hint="Try again later, or read the resource instead."
            )
        if found.key not in subscriber.keys and len(subscriber.keys) >= MOST_RESOURCES:
            raise _too_many()
        subscriber.keys.add(found.key)
        self._watched.setdefault(found.key, found).subscribers.add(subscriber)
        self._subscribers.add(subscriber)
        if self._looking is None:
            self._stamps.clear()
            self._looking = asyncio.create_task(self._look_on(), name=TASK_NAME)

    def _leave(self, subscriber: _Subscriber, key: tuple[str, Access]) -> None:
        subscriber.keys.discard(key)
        watched = self._watched[key]
        watched.subscribers.discard(subscriber)
        if not watched.subscribers:
            del self._watched[key]

    def _drop(self, subscriber: _Subscriber) -> None:
        for key in list(subscriber.keys):
            self._leave(subscriber, key)
        self._settle(subscriber)

    def _settle(self, subscriber: _Subscriber) -> None:
        """End what nobody waits for any more."""
        if not subscriber.keys:
            subscriber.close()
            self._subscribers.discard(subscriber)
        if not self._watched and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def _look_on(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            try:
                await self._look()
            except GatewayError as error:  # a broken file, a locked store: the next look tells
                logger.info("notices wait: %s", error.message)
            except Exception:
                logger.exception("looking for changed resources failed")

    async def _look(self) -> None:
        stamps = await self._take_stamps({item.resource.kept_in for item in self._watched.values()})
        changed = {
            place for place, stamp in stamps.items() if stamp is None or stamp != self._stamps.get(place)
        }
        for watched in list(self._watched.values()):
            if watched.resource.kept_in in changed:
                try:
                    mark = (await _read(watched.gateway, watched.uri)).mark
                except GatewayError as error:
                    logger.info("a notice of %s waits: %s", watched.uri, error.message)
                    stamps[watched.resource.kept_in] = None  # the next look reads it again
                    continue
                if mark != watched.mark:
                    watched.mark = mark
                    for subscriber in watched.subscribers:
                        subscriber.tell(watched.uri)
        self._stamps = stamps

    async def _take_stamps(self, places: set[str]) -> dict[str, object]:
        """Return what tells that a place was written to; None where it is too young to tell."""
        stamps: dict[str, object] = {}
        if "file" in places:
            stamps["file"] = self._gateway.catalogs.get().configuration.version
        if "store" in places:
            stamp = (await self._gateway.store_handle.get()).stamp()
            stamps["store"] = stamp if stamp.is_settled() else None
        return stamps


@dataclass(eq=False)
class _Watched:
    """One resource as callers with one access see it; ``mark`` is a hash of what they were shown last."""

    uri: str
    resource: Resource
    gateway: Gateway
    mark: bytes
    subscribers: set[_Subscriber] = field(default_factory=set["_Subscriber"])

    @property
    def key(self) -> tuple[str, Access]:
        return self.uri, self.gateway.caller.access


class _Subscriber:
    """One session or stream; a slow one is told later and of each resource once, and delays nobody."""

    def __init__(self, send: Callable[[str], Awaitable[None]]) -> None:
        self._send = send
        self._due: dict[str, None] = {}
        self._sending: asyncio.Task[None] | None = None
        self.keys: set[tuple[str, Access]] = set()

    def tell(self, uri: str) -> None:
        self._due[uri] = None
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._deliver())

    async def _deliver(self) -> None:
        while self._due:
            uri = next(iter(self._due))
            del self._due[uri]
            await self._send(uri)

    def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()


async def _read(gateway: Gateway, uri: str) -> _Watched:
    for resource in RESOURCES:
        argument = resource.argument_of(uri)
        if argument is not None:
            text = json.dumps(await resource.read(gateway, argument), separators=(",", ":"))
            return _Watched(uri, resource, gateway, hashlib.sha256(text.encode()).digest())
    raise InvalidInput(
        f"Unknown resource {quote(uri)}.",
        hint=f"There are: {', '.join(item.uri for item in RESOURCES if not item.parameter)}.",
    )


def _too_many() -> InvalidInput:
    return InvalidInput(
        f"A client may subscribe to {MOST_RESOURCES} resources.", hint="Unsubscribe from some, or name fewer."
    )


def _connection(context: Context) -> Connection:
    """Return the client's connection: mcp 2.3 means its ``exit_stack`` for handlers, but hands only the session to them."""
    return context.session._connection  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
