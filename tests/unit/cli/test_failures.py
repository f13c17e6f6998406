import errno

import pytest

from voicegw_mcp.cli import failures, reports
from voicegw_mcp.errors import StoreUnavailable


def test_an_unknown_command_and_option_are_usage_errors(voicegw):
    found = voicegw("stauts")
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith("voicegw: VALIDATION_ERROR: No such command 'stauts'")
    found = voicegw("costs", "--perod", "week")
    assert found.code == 2
    assert "--period" in found.err
    assert "See: voicegw costs --help" in found.err


def test_with_json_an_error_is_one_object_on_standard_output(voicegw):
    found = voicegw("costs", "--period", "yestrday", "--json")
    assert (found.code, found.err) == (2, "")
    assert found.json["error"]["code"] == "VALIDATION_ERROR"
    assert found.json["error"]["details"]["field"] == "period"
    assert voicegw("costs", "--nope", "--json").json["error"]["code"] == "VALIDATION_ERROR"


def test_a_named_file_that_is_missing_ends_with_2_and_says_what_to_do(voicegw, monkeypatch):
    for command in (["status"], ["costs"], ["check"], ["secrets", "list"], ["call", "get_health"], ["mcp"]):
        found = voicegw(*command, "-c", "nowhere.yaml")
        assert found.code == 2
        assert "voicegw init nowhere.yaml" in found.out + found.err
    monkeypatch.setenv("VOICEGW_CONFIG", "elsewhere.yaml")
    assert "elsewhere.yaml (VOICEGW_CONFIG)" in voicegw("projects").err


@pytest.mark.parametrize("transport", ["sse", ""])
def test_mcp_serves_no_other_transport_than_stdio(voicegw, transport):
    found = voicegw("mcp", "-t", transport)
    assert (found.code, found.out) == (2, "")
    assert "stdio" in found.err


def test_a_fault_of_ours_is_an_internal_error_without_traceback(voicegw, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("fake-key-0001")

    monkeypatch.setattr(reports, "with_gateway", broken)
    found = voicegw("status")
    assert found.code == 70
    assert found.err.startswith("voicegw: INTERNAL_ERROR:")
    assert "reference " in found.err
    assert "VOICEGW_DEBUG=1" in found.err
    assert "fake-key-0001" not in found.err


def test_voicegw_debug_prints_the_traceback_with_its_reference(monkeypatch, capsys):
    monkeypatch.setenv("VOICEGW_DEBUG", "1")

    def broken():
        raise ZeroDivisionError("what happened")

    assert failures.ended(broken, ["status", "--json"]) == 70
    out, err = capsys.readouterr()
    assert "ZeroDivisionError: what happened" in err
    assert err.split()[1] in out


def test_the_exit_code_is_the_error_s(capsys):
    def locked():
        raise StoreUnavailable("The store is locked.")

    assert failures.ended(locked, ["logs"]) == 3
    assert capsys.readouterr().err == "voicegw: STORE_UNAVAILABLE: The store is locked.\n"


def test_ctrl_c_ends_with_130():
    def interrupted():
        raise KeyboardInterrupt

    assert failures.ended(interrupted, []) == 130


def test_a_question_that_nobody_answers_ends_with_1(capsys):
    from typer.exceptions import Abort

    def unanswered():
        raise Abort

    assert failures.ended(unanswered, []) == 1
    assert "nothing was answered" in capsys.readouterr().err


def test_a_write_that_fails_elsewhere_is_a_fault_of_ours(monkeypatch, capsys):
    def broken():
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")

    assert failures.ended(broken, ["status"]) == 70
    monkeypatch.setattr(failures.terminal, "print_json", lambda *_, **__: broken())
    with pytest.raises(OSError, match="No space left"):
        failures.ended(lambda: (_ for _ in ()).throw(StoreUnavailable("locked")), ["status", "--json"])
    assert "INTERNAL_ERROR" in capsys.readouterr().err
