"""Alerts: each crossing of a threshold is told of once, by whichever process sees it first, and sent until it is taken.

What is found is written down before anything is sent, in one transaction with the state that keeps it from being told
again; so what a process leaves unsent when it dies is sent by the next one, under the same id.
May import ``config``, ``store``, ``core`` and ``errors``.
"""

from __future__ import annotations

import json
import logging
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from voicegw_mcp.core.alert_rules import Crossing, look, rules_in_force
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.periods import iso
from voicegw_mcp.core.webhooks import SEND_S, Outcome, deliver, signing_key
from voicegw_mcp.errors import InvalidInput, ServerUnreachable
from voicegw_mcp.store import alerts as store_alerts
from voicegw_mcp.store.alerts import Notice
from voicegw_mcp.store.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicegw_mcp.config.alerts import Webhook
    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.alerts import Alert, Event, Standing
    from voicegw_mcp.store.reader import Reads
    from voicegw_mcp.store.sqlite import Store

logger = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 30.0
"""How long after the first attempt the second one is made; each further wait is twice as long."""

MOST_WAIT_S: Final = 3600.0
MOST_ATTEMPTS: Final = 10
"""So many are spread over about three hours."""

LEASE_MS: Final = int(SEND_S * 1000) + 5_000
"""How long nobody else sends an alert that a process has begun to send."""

SENDING_S: Final = 20.0
"""How long alerts are sent before it is looked at figures again."""


class AlertView(Answer):
    """One alert as it is shown. ``delivery`` is that to the webhook; ``subject`` is ``project:ID`` or the like."""

    id: str
    created: str
    event: Literal["firing", "resolved", "test"]
    rule: str
    subject: str
    message: str
    delivery: Literal["none", "pending", "sent", "failed"]
    attempts: int
    outcome: str | None = None


class Over(Answer):
    """What is over a threshold now."""

    subject: str
    since: str


class RuleView(Answer):
    """A rule that is in force, in words, and what is over its threshold by what was told."""

    rule: str
    text: str
    over: list[Over]


class AlertsView(Answer):
    """The rules with their state, the host that alerts are sent to, and the newest ones."""

    enabled: bool
    webhook: str | None = None
    rules: list[RuleView]
    alerts: list[AlertView]


class Alerting:
    """Looks, tells and sends for one gateway that sees all projects.

    Args:
        gateway: whose rules, store and clock.
        seconds: a clock that is never put back.
        chance: gives numbers from 0 to 1, by which attempts of several processes are spread.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        seconds: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._gateway = gateway
        self._seconds = seconds
        self._chance = chance
        self._unsigned = ""

    async def go_round(self) -> None:
        """Look at the figures once, tell of what is new, and send what is due.

        Raises:
            GatewayError: the file was never good, or the store cannot be used; nothing is lost by that.
        """
        catalog = self._gateway.catalogs.get()
        alerts, rules = catalog.settings.alerts, rules_in_force(catalog)
        if not rules and (alerts.webhook is None or not alerts.enabled):
            return
        if not self._gateway.store_handle.wanted_path().exists():
            return  # nothing was recorded: no store is made for that
        store = await self._gateway.store_handle.sound()
        if rules:
            await self._tell(catalog, store)
        if alerts.enabled and alerts.webhook is not None:
            await self._send(catalog, alerts.webhook, store)

    async def _tell(self, catalog: Catalog, store: Store) -> None:
        now_ms = self._gateway.now_ms()
        standing = {each.key for each in await store.ask(store_alerts.read_standing, now_ms)}
        found = await store.ask(look, catalog, now_ms, standing)
        notices = [_notice(each, "firing", now_ms) for each in found.over if each.key not in standing]
        notices += [_notice(each, "resolved", now_ms) for each in found.under]
        if notices:
            send = catalog.settings.alerts.webhook is not None
            for alert in await store.write(
                partial(store_alerts.tell, notices=notices, now_ms=now_ms, send=send), durable=True
            ):
                logger.warning("alert %s, %s (%s): %s", alert.event, alert.rule, alert.id, alert.message)

    async def _send(self, catalog: Catalog, hook: Webhook, store: Store) -> None:
        """Send what is due; end when the webhook takes nothing now, or after ``SENDING_S``."""
        began = self._seconds()
        while await store.ask(store_alerts.is_due, self._gateway.now_ms()):
            try:
                key = signing_key(hook, self._gateway.secrets)
            except InvalidInput as error:
                self._tell_unsigned(error)
                return
            self._unsigned = ""
            claim = partial(store_alerts.claim, now_ms=self._gateway.now_ms(), lease_ms=LEASE_MS)
            alert = await store.write(claim)
            if alert is None:  # another process was first
                return
            outcome = await deliver(
                hook,
                key,
                alert.id,
                alert.body,
                now_ms=self._gateway.now_ms(),
                private_hosts=catalog.settings.security.allow_private_hosts,
            )
            await self._settle(store, alert, outcome)
            if outcome.result == "again" or self._seconds() - began > SENDING_S:
                return

    async def _settle(self, store: Store, alert: Alert, outcome: Outcome) -> None:
        attempts = alert.attempts + 1
        wait_s = min(FIRST_WAIT_S * 2**alert.attempts, MOST_WAIT_S) * (0.75 + self._chance() / 2)
        due_ms = self._gateway.now_ms() + int(max(wait_s, outcome.wait_s) * 1000)
        delivery: store_alerts.Delivery = "sent" if outcome.result == "sent" else "failed"
        if outcome.result == "again" and attempts < MOST_ATTEMPTS:
            delivery = "pending"
        await store.write(
            partial(
                store_alerts.settle,
                alert_id=alert.id,
                delivery=delivery,
                outcome=outcome.message,
                due_ms=due_ms,
            )
        )
        if delivery == "failed":
            logger.warning("alert %s was not taken by the webhook: %s", alert.id, outcome.message)
        elif delivery == "pending" and not alert.attempts:
            logger.warning("alert %s is sent again later: %s", alert.id, outcome.message)

    def _tell_unsigned(self, error: InvalidInput) -> None:
        if self._unsigned != error.message:
            self._unsigned = error.message
            logger.warning("Alerts wait to be sent. %s %s", error.message, error.hint)


async def send_test(gateway: Gateway) -> Outcome:
    """Send an event of type ``alert.test`` to the webhook once.

    Raises:
        InvalidInput: there is no webhook, or no secret.
        ServerUnreachable: the webhook did not take it.
    """
    catalog = gateway.catalogs.get()
    hook = catalog.settings.alerts.webhook
    if hook is None:
        raise InvalidInput(
            "There is no webhook to send to.",
            field="alerts.webhook",
            hint="Add alerts.webhook with url and secret to voicegw.yaml (docs/alerts.md).",
        )
    key = signing_key(hook, gateway.secrets)
    now_ms = gateway.now_ms()
    event_id = new_id(now_ms)
    data = {"id": event_id, "message": "A test from voicegw: nothing is wrong."}
    outcome = await deliver(
        hook,
        key,
        event_id,
        _body("test", now_ms, data),
        now_ms=now_ms,
        private_hosts=catalog.settings.security.allow_private_hosts,
    )
    if outcome.result != "sent":
        raise ServerUnreachable(
            f"The webhook did not take the event. {outcome.message}",
            hint="Check alerts.webhook.url, and the receiver's secret and log.",
            details={"webhook_id": event_id, **({"status": outcome.status} if outcome.status else {})},
        )
    return outcome


async def view(gateway: Gateway, *, limit: int) -> AlertsView:
    """Return the rules with their state and up to ``limit`` alerts, newest first.

    A caller who is bound to projects is shown what is about those: no other rules, and not where alerts go.

    Raises:
        StoreUnavailable, ConfigInvalid: they cannot be read.
    """
    catalog, bound = gateway.catalog(), gateway.caller.access.projects is not None
    settings = catalog.settings.alerts
    standing: list[Standing] = []
    rows: list[AlertView] = []
    if gateway.store_handle.wanted_path().exists():
        store = await gateway.reader()
        standing = await store.ask(store_alerts.read_standing, gateway.now_ms())
        rows = await store.ask(newest, limit=limit)
    return AlertsView(
        enabled=settings.enabled,
        webhook=None if settings.webhook is None or bound else urlsplit(settings.webhook.url).hostname,
        rules=[
            RuleView(
                rule=rule.rule,
                text=rule.text,
                over=[
                    Over(subject=each.key.subject, since=iso(each.since_ms, "UTC"))
                    for each in standing
                    if rule.looks_at(each.key)
                ],
            )
            for rule in rules_in_force(catalog)
            if rule.rule == "budget" or not bound
        ],
        alerts=rows,
    )


def newest(reads: Reads, *, limit: int) -> list[AlertView]:
    """Return up to ``limit`` alerts, newest first."""
    return [
        AlertView(
            id=alert.id,
            created=iso(alert.created_ms, "UTC"),
            event=alert.event,
            rule=alert.rule,
            subject=alert.subject,
            message=alert.message,
            delivery=alert.delivery,
            attempts=alert.attempts,
            outcome=alert.outcome or None,
        )
        for alert in store_alerts.read_alerts(reads, limit=limit)
    ]


def _notice(crossing: Crossing, event: Event, now_ms: int) -> Notice:
    kind, _, name = crossing.key.subject.partition(":")
    data = {
        "rule": crossing.key.rule,
        "subject": {"kind": kind, "name": name},
        "message": crossing.message,
        **crossing.figures,
    }

    def body(alert_id: str) -> str:
        return _body(event, now_ms, {"id": alert_id, **data})

    return Notice(crossing.key, event, crossing.project, crossing.message, body, crossing.ends_ms)


def _body(event: Event, now_ms: int, data: dict[str, Any]) -> str:
    content = {"type": f"alert.{event}", "timestamp": iso(now_ms, "UTC"), "data": data}
    return json.dumps(content, separators=(",", ":"))
