"""Stores from before rows kept their whole price."""

import sqlite3
import time
from contextlib import closing

from tests.factories import NOW

from voicegw_mcp.store import schema
from voicegw_mcp.store.audit import agrees, inspect_span, spans
from voicegw_mcp.store.rollups import GRAINS_MS
from voicegw_mcp.store.schema import TRIGGERS, prepare, trigger_texts

ROW = "INSERT INTO requests VALUES (?, ?, ?, 1, 'success', NULL, 1, 0, 0, 0, 0, 5, ?, NULL, NULL, NULL, NULL, NULL, 0)"
CELL = "INSERT INTO rollup VALUES (?, ?, 1, 'success', 3, 0, 0, 15, 5, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, x'')"


def test_prices_and_sums_of_an_older_store_stay_and_relatives_are_counted(tmp_path, monkeypatch):
    path = tmp_path / "voicegw.db"
    older = schema.migration_scripts()[:6]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migration_scripts", lambda: older)
        assert prepare(path, deadline=time.monotonic() + 5) == 6
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO series VALUES (1, 'p', 'stt', 'cartesia', 'cartesia/ink-whisper')")
        connection.execute("INSERT INTO price VALUES (1, 'voice-prices', '2026-05-28')")
        connection.execute("INSERT INTO price VALUES (2, 'voice-prices (family ink-2)', '2026-05-28')")
        for number in range(3):
            connection.execute(ROW, (number + 1, f"r{number}", NOW, 2 if number else 1))
        for grain in GRAINS_MS:
            connection.execute(CELL, (grain // 1000, NOW // grain * grain))
    assert prepare(path, deadline=time.monotonic() + 5) > 6
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM price ORDER BY price_id").fetchall() == [
            (1, "voice-prices", "2026-05-28", "", "", "", 0),
            (2, "voice-prices (family ink-2)", "2026-05-28", "", "", "", 0),
        ]
        assert connection.execute("SELECT family FROM rollup").fetchall() == [(2,)] * 4
        assert dict(connection.execute(TRIGGERS)) == trigger_texts()
        assert agrees(connection)
        assert [each for span in spans(connection) for each in inspect_span(connection, span, 0)] == []
