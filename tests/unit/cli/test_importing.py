import sqlite3
from pathlib import Path

import pytest

from voicegw_mcp.cli import terminal

SAMPLE = Path(__file__).parents[2] / "data" / "voicegateway-0.27.0.db"
START = "# mine\ntimezone: UTC\n"


@pytest.fixture
def file(config):
    return config(START)


@pytest.fixture
def asked(monkeypatch):
    """Makes both ends terminals, so that questions are asked."""
    monkeypatch.setattr(terminal, "is_terminal", lambda: True)


def _total():
    connection = sqlite3.connect(f"{SAMPLE.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        return connection.execute("SELECT COUNT(*), SUM(cost_usd) FROM requests").fetchone()
    finally:
        connection.close()


def test_without_a_terminal_the_diff_is_shown_and_yes_is_needed(voicegw, file):
    found = voicegw("import", SAMPLE)
    assert found.code == 1
    assert "+providers:" in found.out
    assert "--yes" in found.err
    assert file.read_text() == START
    assert "5,000 read, 5,000 added, 0 known" in found.out


def test_with_yes_everything_is_imported_once(voicegw, file):
    found = voicegw("import", SAMPLE, "--yes")
    assert (found.code, found.err) == (0, "")
    text = file.read_text()
    assert text.startswith(START)
    assert "clinic:" in text or '"clinic":' in text
    assert "added: provider" in found.out
    assert "voicegw secrets set DEEPGRAM_API_KEY" in found.out
    again = voicegw("import", SAMPLE, "--json")
    assert again.code == 0
    rows, cost = _total()
    assert again.json["requests"]["known"] == again.json["requests"]["read"] == rows
    assert again.json["requests"]["cost_usd"] == pytest.approx(cost, abs=1e-5)
    assert again.json["entries"]["added"] == []
    assert len(again.json["entries"]["kept"]) == 5
    assert file.read_text() == text
    assert "kept as it is in the file: project clinic" in voicegw("import", SAMPLE).out


def test_as_json_one_document_has_all_of_it(voicegw, file):
    found = voicegw("import", SAMPLE, "--json")
    assert found.code == 1
    assert found.json["entries"]["written"] is False
    assert "+providers:" in found.json["entries"]["diff"]
    assert "--yes" in found.json["hint"]
    found = voicegw("import", SAMPLE, "--json", "--yes")
    assert found.code == 0
    assert found.json["entries"]["written"] is True
    assert found.json["entries"]["change_id"]
    assert file.read_text() != START


def test_a_dry_run_writes_nothing(voicegw, file, home):
    found = voicegw("import", SAMPLE, "--dry-run")
    assert found.code == 0
    assert "5,000 would be read" in found.out
    assert "to add: project clinic" in found.out
    assert voicegw("import", SAMPLE, "--dry-run", "--json").json["requests"] == {"read": 5000}
    assert file.read_text() == START
    assert not list(home.rglob("*.db"))


def test_requests_only_leaves_the_file_alone(voicegw, file):
    found = voicegw("import", SAMPLE, "--requests-only")
    assert found.code == 0
    assert "Entries" not in found.out
    assert file.read_text() == START


def test_entries_only_leaves_the_log_alone(voicegw, file):
    found = voicegw("import", SAMPLE, "--entries-only", "--yes")
    assert found.code == 0
    assert "Requests" not in found.out
    assert file.read_text() != START
    assert "requests" not in voicegw("import", SAMPLE, "--entries-only", "--json").json
    assert voicegw("status", "--json").json["store"]["rows"] == 0


def test_both_only_options_together_are_refused(voicegw, file):
    assert voicegw("import", SAMPLE, "--entries-only", "--requests-only").code == 2
    assert file.read_text() == START


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(("answer", "written"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_the_question_decides(voicegw, file, answer, written):
    found = voicegw("import", SAMPLE, "--entries-only", typed=answer)
    assert "Write this into" in found.out
    assert found.code == (0 if written else 1)
    assert (file.read_text() != START) is written


@pytest.mark.usefixtures("asked")
def test_a_file_that_changed_under_the_question_is_refused(voicegw, file, monkeypatch):
    def answer(*_, **__):
        file.write_text("timezone: Europe/Berlin\n")
        return "yes"

    monkeypatch.setattr("builtins.input", answer)
    found = voicegw("import", SAMPLE, "--entries-only", typed="")
    assert found.code == 1
    assert "CONFLICT" in found.err
    assert file.read_text() == "timezone: Europe/Berlin\n"


def test_a_source_that_is_none_is_refused(voicegw, file, home):
    (home / "text.db").write_text("no store")
    for name in ("nowhere.db", "text.db", "."):
        found = voicegw("import", name)
        assert found.code == 2
        assert "VALIDATION_ERROR" in found.err
    assert file.read_text() == START


def test_what_is_skipped_is_listed_with_its_reason(voicegw, file, home):
    copy = home / "copy.db"
    copy.write_bytes(SAMPLE.read_bytes())
    connection = sqlite3.connect(copy)
    with connection:
        connection.execute("UPDATE requests SET modality = 'smell' WHERE rowid = 1")
        connection.execute("UPDATE managed_projects SET project_id = 'Not an id' WHERE project_id = 'clinic'")
    connection.close()
    found = voicegw("import", copy, "--yes")
    assert found.code == 0
    assert "skipped 1: " in found.out
    assert "skipped project Not an id: " in found.out
    assert "Not an id" not in file.read_text()
