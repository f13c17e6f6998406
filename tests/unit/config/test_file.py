import contextlib
import os
import threading
from pathlib import Path

import pytest

from voicegw_mcp.config import file as file_module, parse
from voicegw_mcp.config.disk import version_of
from voicegw_mcp.config.file import ConfigFile, find_config
from voicegw_mcp.config.secrets import Secrets
from voicegw_mcp.errors import ConfigInvalid

TEXT = "timezone: UTC  # here\n"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "voicegw.yaml"
    path.write_text(TEXT)
    return ConfigFile(path, Secrets(tmp_path / "secrets.env", {}))


def put(config, new, expected=TEXT):
    planned = config.interpret(parse.parse(new))
    with config.base.locked() as target:
        config.base.replace(target, "c1", expected.encode(), new.encode())
    config.accept(planned)


def test_the_file_is_searched_explicit_first_then_the_variable_then_the_usual_places(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    at_home = tmp_path / "home" / ".config" / "voicegateway" / "voicegw.yaml"
    assert find_config(None, {}) == at_home
    at_home.parent.mkdir(parents=True)
    at_home.write_text("")
    assert find_config(None, {}) == at_home
    here = tmp_path / "voicegw.yaml"
    here.write_text("")
    assert find_config(None, {}) == here
    assert find_config(None, {"VOICEGW_CONFIG": "~/v.yaml"}) == tmp_path / "home" / "v.yaml"
    assert find_config("x.yaml", {"VOICEGW_CONFIG": "~/v.yaml"}) == tmp_path / "x.yaml"


def test_an_unchanged_file_is_read_once_and_gives_the_same_object(config, monkeypatch):
    monkeypatch.setattr(file_module, "SETTLED_NS", -1)  # as if the file were old
    first = config.load()
    monkeypatch.setattr(config.base, "read", lambda: pytest.fail("read again"))
    assert config.load() is first
    assert first.version == version_of(TEXT.encode())
    assert len(first.version) == 12


def test_a_fresh_file_is_read_again_but_interpreted_only_when_its_bytes_differ(config):
    first = config.load()
    assert config.load() is first
    config.path.write_text(TEXT.replace("UTC", "CET"))
    assert config.load().settings.timezone == "CET"


def test_an_edit_that_keeps_size_and_modification_time_is_seen(config, monkeypatch):
    monkeypatch.setattr(file_module, "SETTLED_NS", -1)
    config.load()
    known = config.path.stat()
    config.path.write_text(TEXT.replace("UTC", "CET"))
    os.utime(config.path, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert config.load().settings.timezone == "CET"


def test_a_change_is_planned_on_the_bytes_whatever_stat_says(config, monkeypatch):
    monkeypatch.setattr(file_module, "SETTLED_NS", -1)
    monkeypatch.setattr(file_module, "stamp_of", lambda _path: (1, 1, 1, 1))
    config.load()
    config.path.write_text(TEXT.replace("UTC", "CET"))
    assert config.load().settings.timezone == "UTC"
    assert config.load_unbroken().settings.timezone == "CET"


def test_what_was_written_is_read_again_when_a_secret_changed_since_it_was_planned(
    tmp_path, config, monkeypatch
):
    monkeypatch.setattr(file_module, "SETTLED_NS", -1)
    secrets = tmp_path / "secrets.env"
    secrets.write_text("ZONE=UTC\n")
    secrets.chmod(0o600)
    config.path.write_text("timezone: ${ZONE}\n")
    planned = config.interpret(parse.parse("timezone: ${ZONE}\n"))
    secrets.write_text("ZONE=CET\n")
    config.accept(planned)
    assert config.load().settings.timezone == "CET"


def test_a_broken_file_keeps_the_last_good_version_and_only_changes_refuse(config):
    good = config.load_unbroken()
    config.path.write_text("timezone: Mars\n")
    assert config.load() is good
    assert config.error is not None
    with pytest.raises(ConfigInvalid, match=r"voicegw\.yaml:1:1"):
        config.load_unbroken()
    config.path.write_text(TEXT)
    assert config.load_unbroken().version == good.version
    assert config.error is None


def test_a_file_that_was_never_good_raises_every_time(tmp_path):
    path = tmp_path / "voicegw.yaml"
    path.write_bytes(b"\xff\xfe")
    config = ConfigFile(path, Secrets(tmp_path / "secrets.env", {}))
    for _ in range(2):
        with pytest.raises(ConfigInvalid, match="UTF-16"):
            config.load()


def test_a_missing_file_is_an_empty_configuration_until_it_was_there_once(config):
    config.path.unlink()
    assert config.load().parsed.text == ""
    config.path.write_text(TEXT)
    config.load()
    config.path.unlink()
    assert config.load().parsed.text == TEXT
    assert "the file is gone" in config.error.message


def test_a_file_larger_than_the_limit_is_refused(config):
    config.path.write_bytes(b"#" * (parse.MAX_BYTES + 10))
    with pytest.raises(ConfigInvalid, match="bytes"):
        config.load()


def test_a_model_id_in_two_modalities_is_told_with_its_place(config):
    config.path.write_text("models:\n  stt:\n    m: {provider: a}\n  tts:\n    m: {provider: a}\n")
    with pytest.raises(ConfigInvalid) as caught:
        config.load()
    (problem,) = caught.value.details["problems"]
    assert (problem["path"], problem["line"], problem["message"]) == (
        "models.tts.m",
        5,
        "is a model of stt already",
    )


def test_a_reference_without_a_value_is_one_problem_not_two(config):
    config.path.write_text("timezone: ${NOBODY}\ncost_tracking: {daily_budget_alert: '${NOBODY}'}\n")
    with pytest.raises(ConfigInvalid) as caught:
        config.load()
    assert [problem["path"] for problem in caught.value.details["problems"]] == [
        "timezone",
        "cost_tracking.daily_budget_alert",
    ]


def test_two_threads_may_load_while_a_third_replaces(config):
    config.load()
    stop, failures = threading.Event(), []

    def read():
        while not stop.is_set():
            with contextlib.suppress(StopIteration):
                zone = config.load().settings.timezone
                if zone not in {"UTC", "CET"} or config.error:
                    failures.append(zone)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    old, new = TEXT, "timezone: CET\n"
    for _ in range(20):
        put(config, new, expected=old)
        old, new = new, old
    stop.set()
    for thread in threads:
        thread.join(10)
    assert failures == []
    assert Path(config.path).read_text() == old
