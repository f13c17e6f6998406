import io
import json

import pytest

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.tables import duration, moment, money, units
from voicegw_mcp.cli.terminal import Column
from voicegw_mcp.core.costs import Units

LONG = "deepgram/nova-3-medical-streaming-with-a-long-name"


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (None, "-"),
        (0, "$0"),
        (1234.5, "$1,234.50"),
        (1, "$1.00"),
        (0.0123, "$0.0123"),
        (0.00425, "$0.00425"),
        (0.00000425, "$0.00000425"),
        (0.000000001, "$0.000000001"),
    ],
)
def test_money_has_the_digits_that_matter(usd, shown):
    assert money(usd) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(12.34, "12.3 s"), (90, "1.5 min"), (7200, "2.0 h")])
def test_lengths_of_time_have_the_unit_that_suits_them(seconds, shown):
    assert duration(seconds) == shown
    assert units(Units(audio_seconds=seconds, characters=1500)) == f"{shown} audio, 1,500 characters"


@pytest.mark.parametrize(
    ("iso", "shown"),
    [
        ("2026-11-22T00:00:00+00:00", "2026-11-22 00:00"),
        ("2026-11-22T06:51:28.026+00:00", "2026-11-22 06:51:28.026"),
        ("2026-10-25T02:00:00+01:00", "2026-10-25 02:00+01:00"),
        ("(other)", "(other)"),
    ],
)
def test_moments_are_short_and_keep_an_offset(iso, shown):
    assert moment(iso) == shown


def test_a_narrow_terminal_loses_columns_before_an_id_is_cut(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    columns = [Column("Model"), Column("Cost", 1, "right"), Column("Units", 2), Column("Empty", 3)]
    terminal.print_table(columns, [(LONG, "$1.00", "900 tokens in", None)], title="Models")
    out = capsys.readouterr().out
    assert out.startswith("Models\n")
    assert LONG in out
    assert "$1.00" in out
    assert "900 tokens" not in out
    assert "no room for: Units;" in out


def test_an_id_that_is_wider_than_the_terminal_stays_whole(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    terminal.print_table([Column("Model"), Column("Status")], [(LONG, "success")])
    assert f"{LONG}  success" in capsys.readouterr().out


def test_prose_is_broken_into_the_width_that_is_left(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "50")
    terminal.print_table([Column("Id"), Column("Error", 1, fills=True)], [("a", "word " * 30)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 50


def test_markup_and_control_characters_in_data_are_shown_and_not_obeyed(capsys):
    terminal.print_table([Column("Name")], [("[red]x[/red] \x1b[2J \u202e:smile:",)])
    terminal.print_line("[bold]y[/bold] \x1b]0;title\x07")
    out = capsys.readouterr().out
    assert "[red]x[/red] \\x1b[2J \\u202e:smile:" in out
    assert "[bold]y[/bold] \\x1b]0;title\\x07" in out
    assert "\x1b" not in out


class _Ascii(io.StringIO):
    encoding = "ascii"


@pytest.mark.parametrize("stream", [_Ascii(), io.StringIO()])
def test_json_is_valid_and_harmless_in_every_encoding(monkeypatch, stream):
    monkeypatch.setattr("sys.stdout", stream)
    data = {"name": "Zürich ☎ \x1b[2J\x9b \u202e \ud800 😀", "n": 1}
    terminal.print_json(data)
    assert json.loads(stream.getvalue()) == data
    assert not set("\x1b\x9b\u202e\ud800") & set(stream.getvalue())
    stream.seek(0)
    terminal.print_json(data, pretty=True)
    assert json.loads(stream.getvalue()) == data
