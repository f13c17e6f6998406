import shutil
import sqlite3
import time
from contextlib import closing

import pytest

DAY = 86_400_000


@pytest.fixture
def path(home):
    return home / ".config" / "voicegateway" / "voicegw.db"


@pytest.fixture
def rows(log, request_row):
    """Puts 40 rows of the last eight days into the log; each costs 1 USD."""
    now = int(time.time() * 1000)
    made = [
        request_row(
            timestamp_ms=now - number % 8 * DAY - number, cost_nanousd=10**9, session_id=f"s{number % 3}"
        )
        for number in range(40)
    ]
    log(*made)
    return made


def costs(voicegw):
    found = voicegw("costs", "--period", "all", "--json").json
    return found["total_usd"], found["by_model"]


def change(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).rowcount


def test_prune_needs_a_number_of_days(voicegw, config):
    config("timezone: UTC\n")
    found = voicegw("prune", "--json")
    assert (found.code, found.json["error"]["code"]) == (2, "VALIDATION_ERROR")
    assert "--older-than" in found.json["error"]["hint"]
    assert voicegw("prune", "--older-than", "0").code == 2
    assert voicegw("prune", "--older-than", "2", "--dry-run", "--vacuum").code == 2


@pytest.mark.parametrize("days", ["0", "-1", "1.5", "soon", "99999"])
def test_retention_days_that_make_no_sense_are_named(voicegw, config, days):
    config(f"cost_tracking:\n  retention_days: {days}\n")
    found = voicegw("check")
    assert found.code == 2
    assert "retention_days" in found.out + found.err


def test_prune_deletes_rows_and_keeps_totals(voicegw, config, rows):
    config("cost_tracking:\n  retention_days: 3\n")
    before = costs(voicegw)
    dry = voicegw("prune", "--dry-run", "--json").json
    assert dry["dry_run"] is True
    assert 15 <= dry["rows"] <= 24
    assert "would be deleted" in voicegw("prune", "--dry-run").out
    done = voicegw("prune", "--vacuum", "--json").json
    assert done["rows"] == dry["rows"]
    assert done["size_bytes"] <= done["size_bytes_before"]
    assert voicegw("prune", "--json").json["rows"] == 0
    assert costs(voicegw) == before
    assert len(voicegw("logs", "--limit", "100", "--json").json["logs"]) == len(rows) - done["rows"]
    assert "deleted; totals keep them" in voicegw("prune", "--older-than", "1", "--vacuum").out


def test_a_backup_is_private_whole_and_never_replaces_a_file_unasked(voicegw, config, rows, home, path):
    config("timezone: UTC\n")
    found = voicegw("backup", "b.db", "--json")
    assert found.code == 0
    assert (found.json["requests"], found.json["cost_usd"]) == (len(rows), 40.0)
    assert (home / "b.db").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in home.glob("b.db*")] == ["b.db"]
    first = (home / "b.db").read_bytes()
    again = voicegw("backup", "b.db")
    assert (again.code, (home / "b.db").read_bytes()) == (2, first)
    assert "--force" in again.err
    assert "verified" in voicegw("backup", "b.db", "--force").out
    assert voicegw("backup", path, "--force").code == 2
    assert voicegw("backup", home, "--force").code == 2
    assert voicegw("backup", "nowhere/b.db").code == 3


@pytest.mark.usefixtures("rows")
def test_a_backup_that_fails_leaves_nothing(voicegw, config, home, monkeypatch):
    from voicegw_mcp.store import backup

    config("timezone: UTC\n")
    monkeypatch.setattr(backup, "_require_same", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert voicegw("backup", "b.db").code == 130
    assert not list(home.glob("b.db*"))


@pytest.mark.usefixtures("rows")
def test_a_store_that_contradicts_itself_is_not_backed_up(voicegw, config, path):
    config("timezone: UTC\n")
    assert change(path, "UPDATE rollup SET cost_nanousd = cost_nanousd + 1 WHERE grain_s = 86400") > 0
    found = voicegw("backup", "b.db")
    assert found.code == 3
    assert "voicegw repair" in found.err


@pytest.mark.usefixtures("rows")
def test_a_backup_comes_back_with_what_it_was(voicegw, config, log, request_row, path):
    config("timezone: UTC\n")
    voicegw("backup", "b.db")
    before = costs(voicegw)
    log(request_row(cost_nanousd=5))
    assert costs(voicegw) != before
    found = voicegw("restore", "b.db", "--json")
    assert found.code == 0
    assert costs(voicegw) == before
    kept = found.json["kept"]
    assert "voicegw.db.before-restore-" in kept
    assert not list(path.parent.glob("*restoring*"))
    assert "before it:" in voicegw("restore", kept).out
    assert costs(voicegw) != before


@pytest.mark.usefixtures("rows")
def test_a_backup_is_restored_where_no_store_is(voicegw, config, path):
    config("timezone: UTC\n")
    voicegw("backup", "b.db")
    before = costs(voicegw)
    shutil.rmtree(path.parent)
    assert voicegw("restore", "b.db", "--json").json["kept"] is None
    assert costs(voicegw) == before
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("rows")
def test_what_is_no_backup_is_refused_and_the_store_left_alone(voicegw, config, home, path, pytestconfig):
    config("timezone: UTC\n")
    voicegw("backup", "b.db")
    content = path.read_bytes()
    (home / "text").write_text("hello")
    (home / "empty").touch()
    whole = (home / "b.db").read_bytes()
    (home / "cut").write_bytes(whole[: len(whole) // 2])
    with closing(sqlite3.connect(home / "other")) as other:
        other.execute("CREATE TABLE x (y)")
    sample = pytestconfig.rootpath / "tests" / "data" / "voicegateway-0.27.0.db"
    for file in ("text", "empty", "cut", "other", "missing", sample, path):
        found = voicegw("restore", file)
        assert (found.code, bool(found.err)) == (2, True), file
    assert path.read_bytes() == content
    assert not list(path.parent.glob("*restor*"))


@pytest.mark.usefixtures("rows")
def test_a_backup_of_a_newer_program_is_refused(voicegw, config, home):
    config("timezone: UTC\n")
    voicegw("backup", "b.db")
    change(home / "b.db", "INSERT INTO voicegw_mcp_migrations VALUES (99, 0)")
    assert "schema version 99" in voicegw("restore", "b.db").err


@pytest.mark.usefixtures("rows")
def test_a_backup_that_contradicts_itself_is_restored_only_when_forced(voicegw, config, home):
    config("timezone: UTC\n")
    voicegw("backup", "b.db")
    change(home / "b.db", "UPDATE requests SET cost_nanousd = 7 WHERE seq = 3")
    found = voicegw("restore", "b.db", "--json")
    assert (found.code, found.json["error"]["code"]) == (1, "CONFLICT")
    found = voicegw("restore", "b.db", "--force")
    assert found.code == 0
    assert "contradictions: 1" in found.out
    told = voicegw("repair", "--json").json["differences"]
    assert [(item["table"], item["remedy"]) for item in told] == [("requests", "keep")]
    assert voicegw("costs", "--period", "all", "--json").json["total_usd"] == 40.0


@pytest.mark.usefixtures("rows")
def test_a_restore_is_refused_while_another_process_has_the_store_open(voicegw, config, path):
    import subprocess
    import sys

    config("timezone: UTC\n")
    voicegw("backup", "b.db")
    program = (
        "import sqlite3, sys\n"
        f"c = sqlite3.connect({str(path)!r}); c.execute('SELECT count(*) FROM series').fetchall()\n"
        "print('open', flush=True); sys.stdin.read(); c.close()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "open\n"
        found = voicegw("restore", "b.db", "--json")
        assert (found.code, found.json["error"]["details"]["reason"]) == (3, "in_use")
        assert not list(path.parent.glob("*restor*"))
    finally:
        other.communicate(timeout=30)
    assert voicegw("restore", "b.db").code == 0


@pytest.mark.usefixtures("rows")
def test_repair_of_a_sound_store_says_so(voicegw, config):
    config("timezone: UTC\n")
    found = voicegw("repair")
    assert (found.code, "is sound" in found.out) == (0, True)
    assert voicegw("repair", "--dry-run", "--json").json["clean"] is True


def test_repair_without_a_store_says_so(voicegw, config):
    config("timezone: UTC\n")
    assert "There is no store" in voicegw("repair").err


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE rollup SET cost_nanousd = cost_nanousd + 1024 WHERE grain_s = {grain}",
        "DELETE FROM rollup WHERE grain_s = {grain}",
        "UPDATE rollup SET status = 'succesr' WHERE grain_s = {grain}",
        "UPDATE rollup SET bucket_ms = bucket_ms + 1 WHERE grain_s = {grain}",
        "UPDATE rollup SET series_id = 77 WHERE grain_s = {grain}",
        "UPDATE rollup SET requests = 'x' WHERE grain_s = {grain}",
        "UPDATE rollup SET grain_s = 7 WHERE grain_s = {grain}",
    ],
)
@pytest.mark.parametrize("grain", [900, 3600, 86400, 691200])
@pytest.mark.usefixtures("rows")
def test_a_total_that_may_be_wrong_is_not_given_and_repair_mends_it(voicegw, config, path, damage, grain):
    config("timezone: UTC\n")
    before, projects = costs(voicegw), voicegw("projects", "--json").json
    assert change(path, damage.format(grain=grain)) > 0
    assert "contradict each other" in voicegw("status", "--json").out
    # What does not read the damaged sums is given, and right.
    found = voicegw("costs", "--period", "all", "--json")
    refused = "contradict each other" in found.out
    assert refused or (found.json["total_usd"], found.json["by_model"]) == before
    assert refused or grain > 3600
    found = voicegw("projects", "--json")
    assert "contradict each other" in found.out or found.json == projects
    dry = voicegw("repair", "--dry-run", "--json")
    assert (dry.code, dry.json["mended"]) == (1, False)
    assert "contradict" in voicegw("status").out
    done = voicegw("repair")
    assert (done.code, "mended" in done.out) == (0, True)
    assert costs(voicegw) == before
    assert voicegw("repair", "--json").json["clean"] is True


@pytest.mark.parametrize("grain", [900, 3600, 86400, 691200])
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE rollup SET cost_nanousd = cost_nanousd + 1024 WHERE grain_s = {grain}",
        "DELETE FROM rollup WHERE grain_s = {grain}",
        "UPDATE histogram SET ttfb = x'00' WHERE grain_s = {grain}",
    ],
)
@pytest.mark.usefixtures("rows")
def test_sums_whose_rows_were_pruned_are_mended_from_the_other_sums(voicegw, config, path, damage, grain):
    config("timezone: UTC\n")
    voicegw("prune", "--older-than", "1")
    before = costs(voicegw)
    change(path, damage.format(grain=grain))
    done = voicegw("repair", "--json").json
    assert done["mended"] is True
    assert ("hour" in {item["remedy"] for item in done["differences"]}) == (grain == 900)
    assert costs(voicegw) == before
    assert voicegw("repair", "--json").json["clean"] is True


@pytest.mark.usefixtures("rows")
def test_lost_names_are_made_up_so_that_totals_stay_whole(voicegw, config, path):
    config("timezone: UTC\n")
    total = costs(voicegw)[0]
    change(path, "DELETE FROM series")
    change(path, "DELETE FROM price")
    assert voicegw("costs").code == 3
    found = voicegw("repair")
    assert "its name is lost" in found.out
    assert costs(voicegw) == (total, {"(lost 1)": costs(voicegw)[1]["(lost 1)"]})
    assert len(voicegw("logs", "--json").json["logs"]) > 0


@pytest.mark.usefixtures("rows")
def test_lost_rows_are_counted_and_totals_kept(voicegw, config, path):
    config("timezone: UTC\n")
    before = costs(voicegw)
    change(path, "DELETE FROM requests WHERE seq IN (3, 4)")
    found = voicegw("repair")
    assert found.code == 1
    assert "2 rows of the log are lost" in found.out
    assert "a row is damaged or lost" in found.out
    assert costs(voicegw) == before


@pytest.mark.usefixtures("rows")
def test_a_damaged_index_is_made_anew(voicegw, config, path):
    config("timezone: UTC\n")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("DROP INDEX requests_by_time")
        connection.execute("CREATE INDEX requests_by_time ON requests (timestamp_ms) WHERE seq < 5")
        connection.execute(
            "UPDATE sqlite_master SET sql = 'CREATE INDEX requests_by_time ON requests (timestamp_ms)' "
            "WHERE name = 'requests_by_time'"
        )
    dry = voicegw("repair", "--dry-run", "--json").json
    assert (dry["indexes_only"], dry["clean"]) == (True, False)
    assert "indexes are damaged and were made anew" in voicegw("repair").out
    assert voicegw("repair", "--json").json["clean"] is True


def test_rows_of_a_damaged_file_are_saved_beside_it_and_restored(voicegw, config, log, request_row, path):
    config("timezone: UTC\n")
    log(*(request_row(id=f"{n:05}", cost_nanousd=10**6, error_message="x" * 300) for n in range(900)))
    before = costs(voicegw)
    with closing(sqlite3.connect(path)) as connection:
        root, size = connection.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master WHERE name = 'requests'"
        ).fetchone()
        leaf = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'requests' AND pagetype = 'leaf' ORDER BY pageno LIMIT 1 OFFSET 9"
        ).fetchone()[0]
    assert leaf != root
    with path.open("rb+") as file:
        file.seek((leaf - 1) * size)
        file.write(b"\xff" * size)
    damaged = path.read_bytes()
    assert voicegw("repair", "--dry-run").code == 1
    found = voicegw("repair", "--json")
    assert found.code == 1
    saved = found.json["saved"]
    assert 800 < saved["rows"]["requests"] < 900
    assert saved["rows"]["requests"] + found.json["lost_rows"] == 900
    assert saved["broken_off"] == ["requests"]
    assert path.read_bytes() == damaged
    assert "voicegw restore" in voicegw("repair").out
    assert voicegw("restore", saved["file"]).code == 1
    assert voicegw("restore", saved["file"], "--force").code == 0
    assert costs(voicegw) == before


def test_a_file_of_which_nothing_can_be_read_is_told_and_left_alone(voicegw, config, path):
    config("timezone: UTC\n")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"SQLite format 3\0" + b"\xee" * 5000)
    assert "damaged" in voicegw("costs").err
    found = voicegw("repair", "--json")
    assert (found.code, found.json["error"]["details"]["reason"]) == (3, "damaged")
    assert [file.name for file in path.parent.glob("voicegw.db*")] == ["voicegw.db"]
