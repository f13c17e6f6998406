"""Alerts: what is over a threshold now, what was told of it, and what is still to be sent.

Writing functions take the connection of a transaction (``Store.write``); readers take a ``Store``. Several processes look
at one store: the primary key of the state decides who tells of a crossing, and an alert that is to be sent is claimed.
May import ``domain``, ``store.ids`` and ``store.text``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from voicegw_mcp.domain import DAY_MS
from voicegw_mcp.store.ids import new_id, time_of
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from voicegw_mcp.store.reader import Reads

KEPT_MS: Final = 90 * DAY_MS
"""How long an alert is kept."""

GIVEN_UP_MS: Final = DAY_MS
"""An alert that could not be sent for so long is sent no more: nobody could do anything about it."""

Event = Literal["firing", "resolved", "test"]
Delivery = Literal["none", "pending", "sent", "failed"]


class Key(NamedTuple):
    """What is over a threshold: a rule, its subject (``project:p``, ``all:``), and which of its thresholds."""

    rule: str
    subject: str
    mark: str = ""


class Standing(NamedTuple):
    """What is over a threshold since ``since_ms`` (UTC epoch ms)."""

    key: Key
    since_ms: int


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be told of a crossing. ``body`` makes the text that is sent, of the alert's id."""

    key: Key
    event: Event
    project: str
    message: str
    body: Callable[[str], str]
    ends_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """What was told. Times are UTC epoch ms; ``project`` is "" unless it is about one; ``outcome`` is of the last attempt."""

    id: str
    created_ms: int
    event: Event
    rule: str
    subject: str
    project: str
    message: str
    body: str
    delivery: Delivery
    attempts: int
    due_ms: int
    outcome: str


_COLUMNS: Final = ", ".join(field.name for field in fields(Alert))
_INSERT: Final = f"INSERT INTO alerts ({_COLUMNS}) VALUES ({', '.join('?' for _ in fields(Alert))})"


def tell(
    connection: sqlite3.Connection, notices: Sequence[Notice], *, now_ms: int, send: bool
) -> list[Alert]:
    """Tell of those crossings that nobody told of yet, and of those ends whose beginning was told of.

    Args:
        connection: of the caller's transaction.
        notices: what was found.
        now_ms: UTC epoch ms.
        send: whether they are to be sent.

    Returns:
        What was new.
    """
    connection.execute("DELETE FROM alert_state WHERE ends_ms <= ?", (now_ms,))
    connection.execute(
        "DELETE FROM alerts WHERE created_ms < ? AND delivery <> 'pending'", (now_ms - KEPT_MS,)
    )
    told: list[Alert] = []
    # Behind every other one, in this order, also within one millisecond or when the clock was set back.
    (last,) = connection.execute("SELECT MAX(id) FROM alerts").fetchone()
    moment_ms = now_ms if last is None else max(now_ms, time_of(last) + 1)
    ids = sorted(new_id(moment_ms) for _ in notices)
    for alert_id, notice in zip(ids, notices, strict=True):
        key = [storable(part) for part in notice.key]
        if notice.event == "firing":
            changed = connection.execute(
                "INSERT INTO alert_state (rule, subject, mark, alert_id, since_ms, ends_ms) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (rule, subject, mark) DO NOTHING",
                (*key, alert_id, now_ms, notice.ends_ms),
            )
        else:
            changed = connection.execute(
                "DELETE FROM alert_state WHERE rule = ? AND subject = ? AND mark = ?", key
            )
        if changed.rowcount:
            alert = Alert(
                alert_id,
                now_ms,
                notice.event,
                key[0],
                key[1],
                storable(notice.project),
                storable(notice.message),
                notice.body(alert_id),
                "pending" if send else "none",
                0,
                now_ms,
                "",
            )
            connection.execute(_INSERT, tuple(getattr(alert, field.name) for field in fields(Alert)))
            told.append(alert)
    return told


def claim(connection: sqlite3.Connection, *, now_ms: int, lease_ms: int) -> Alert | None:
    """Return the oldest alert that is to be sent now, which nobody else sends for ``lease_ms``; give up what is too old."""
    connection.execute(
        "UPDATE alerts SET delivery = 'failed', outcome = 'Given up after a day. ' || outcome "
        "WHERE delivery = 'pending' AND created_ms < ?",
        (now_ms - GIVEN_UP_MS,),
    )
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM alerts WHERE delivery = 'pending' AND due_ms <= ? ORDER BY id LIMIT 1",
        (now_ms,),
    ).fetchone()
    if row is None:
        return None
    alert = Alert(*row)
    connection.execute(
        "UPDATE alerts SET attempts = attempts + 1, due_ms = ? WHERE id = ?", (now_ms + lease_ms, alert.id)
    )
    return alert


def settle(
    connection: sqlite3.Connection, alert_id: str, delivery: Delivery, *, outcome: str, due_ms: int
) -> None:
    """Say what became of an attempt; ``due_ms`` is when a pending one is tried again."""
    connection.execute(
        "UPDATE alerts SET delivery = ?, outcome = ?, due_ms = ? WHERE id = ? AND delivery = 'pending'",
        (delivery, storable(outcome), due_ms, alert_id),
    )


def is_due(reads: Reads, now_ms: int) -> bool:
    """Say whether an alert is to be sent now."""
    return bool(
        reads.read("SELECT 1 FROM alerts WHERE delivery = 'pending' AND due_ms <= ? LIMIT 1", (now_ms,))
    )


def read_standing(reads: Reads, now_ms: int) -> list[Standing]:
    """Return what is over a threshold and was told of."""
    rows = reads.read(
        "SELECT rule, subject, mark, since_ms FROM alert_state WHERE ends_ms IS NULL OR ends_ms > ? "
        "ORDER BY rule, subject, mark",
        (now_ms,),
    )
    return [Standing(Key(*row[:3]), row[3]) for row in rows]


def read_alerts(reads: Reads, *, limit: int) -> list[Alert]:
    """Return up to ``limit`` alerts, newest first."""
    rows = reads.read(f"SELECT {_COLUMNS} FROM alerts ORDER BY id DESC LIMIT ?", (limit,))
    return [Alert(*row) for row in rows]
