import datetime as dt
import importlib.util
import socket
import ssl
import time

import anyio
import pytest
from pydantic import SecretStr
from tests.fake_providers import (
    EXPECTED,
    KEY,
    answering,
    dripping,
    dripping_headers,
    endless,
    never_answering,
    not_http,
    provider,
    serving,
)

from voicegw_mcp.core import outgoing
from voicegw_mcp.core.probes import ProbeResult, probe
from voicegw_mcp.core.provider_types import PROVIDER_TYPES


async def check(name, base_url, *, key=KEY, timeout_s=10.0, options=None, **more):
    more.setdefault("allow_private", True)
    return await probe(
        PROVIDER_TYPES[name],
        base_url=base_url,
        api_key=None if key is None else SecretStr(key),
        timeout_s=timeout_s,
        options=options or {},
        **more,
    )


def test_every_type_with_a_check_has_a_fake():
    assert {name for name, each in PROVIDER_TYPES.items() if each.probe is not None} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_the_right_key_is_ok_in_each_providers_own_form(name):
    with serving(provider(name)) as server:
        result = await check(name, server.url)
    assert (result.status, result.reason, result.http_status, result.checked) == ("ok", "ok", 200, "key")
    assert result.latency_ms > 0
    [(path, headers)] = server.requests
    assert KEY not in path
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert [header for header, value in headers.items() if KEY in value] == [EXPECTED[name].header.lower()]


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_a_wrong_key_is_a_bad_key_in_each_providers_own_form(name):
    with serving(provider(name)) as server:
        result = await check(name, server.url, key="wrong-key-0123456789")
    assert (result.status, result.reason) == ("failed", "bad_key")
    assert result.http_status == EXPECTED[name].bad_status
    assert "refused the key" in result.message


@pytest.mark.parametrize("respond", [never_answering, dripping, dripping_headers])
async def test_a_server_that_dawdles_is_a_timeout_after_the_time_given(respond):
    with serving(respond) as server:
        started = time.perf_counter()
        result = await check("openai", server.url, timeout_s=0.3)
        took = time.perf_counter() - started
    assert (result.status, result.reason, result.http_status) == ("failed", "timeout", None)
    assert "0.3 s" in result.message
    assert result.latency_ms > 250
    assert took < 5


async def test_of_a_body_of_a_gigabyte_only_the_beginning_is_read():
    sent = []
    with serving(endless(1 << 30, sent)) as server:
        result = await check("openai", server.url)
    assert result.reason == "ok"
    assert sum(sent) < 1 << 26


async def test_another_protocol_is_unreachable():
    with serving(not_http) as server:
        result = await check("openai", server.url)
    assert (result.reason, result.http_status) == ("unreachable", None)
    assert "not HTTP" in result.message


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


async def test_a_closed_port_is_unreachable():
    result = await check("ollama", f"http://127.0.0.1:{free_port()}/v1", key=None, allow_private=False)
    assert (result.reason, result.checked) == ("unreachable", "key")
    assert "refused the connection" in result.message


def resolving_to(monkeypatch, *texts):
    async def getaddrinfo(_host, port, **_):
        if not texts:
            raise socket.gaierror(-2, "unknown")
        return [
            (socket.AF_INET6 if ":" in text else socket.AF_INET, 1, 6, "", (text, port)) for text in texts
        ]

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)


async def test_the_next_address_is_tried_when_one_takes_no_connection(monkeypatch):
    resolving_to(monkeypatch, "127.0.0.1", "127.0.0.2", "::1")
    with serving(provider("ollama")) as server:
        assert (await check("ollama", f"http://box.example:{server.port}")).reason == "ok"
        monkeypatch.undo()
        resolving_to(monkeypatch, "127.0.0.2", "127.0.0.1")
        assert (await check("ollama", f"http://box.example:{server.port}")).reason == "ok"
        assert server.requests[-1][1]["host"] == f"box.example:{server.port}"


async def test_a_connection_that_takes_too_long_is_a_timeout_of_its_own(monkeypatch):
    import httpx2

    def stream(*_, **__):
        raise httpx2.ConnectTimeout("slow")

    monkeypatch.setattr(httpx2.AsyncClient, "stream", stream)
    result = await check("openai", "http://127.0.0.1:9")
    assert result.reason == "timeout"
    assert "No connection within 5 s" in result.message


async def test_a_name_without_an_address_is_unreachable(monkeypatch):
    resolving_to(monkeypatch)
    result = await check("openai", None)
    assert result.reason == "unreachable"
    assert "does not resolve" in result.message


async def test_a_name_that_resolves_to_a_private_address_is_not_asked(monkeypatch):
    resolving_to(monkeypatch, "8.8.8.8", "127.0.0.1")
    with serving(provider("openai")) as server:
        url = f"http://rebind.example:{server.port}"
        result = await check("openai", url, allow_private=False)
        assert (result.reason, result.latency_ms) == ("wrong_url", 0.0)
        assert "allow_private_hosts" in result.message
        assert not server.requests
        resolving_to(monkeypatch, "127.0.0.1")
        named = await check("openai", url, allow_private=False, allowed_private_hosts={"Rebind.example."})
        assert named.reason == "ok"


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://169.254.169.254/", "http://u:hunter2@x/", "http://metadata.google.internal/v1"]
)
async def test_urls_that_are_never_asked_are_wrong_urls(url):
    result = await check("ollama", url)
    assert (result.status, result.reason) == ("failed", "wrong_url")
    assert "hunter2" not in result.message


async def test_a_missing_key_is_not_configured_and_nothing_is_sent():
    with serving(provider("deepgram")) as server:
        result = await check(
            "deepgram", server.url, key=None, key_hint="run voicegw secrets set DEEPGRAM_API_KEY"
        )
        assert "run voicegw secrets set DEEPGRAM_API_KEY" in result.message
        named = await check("deepgram", server.url, key="")
    assert (result.status, result.reason, result.latency_ms) == ("failed", "not_configured", 0.0)
    assert "DEEPGRAM_API_KEY" in named.message
    assert not server.requests


@pytest.mark.parametrize("key", ["sk-abc\n", "sk-ábc", "sk abc", "sk\r\nX-Evil: 1"])
async def test_a_key_that_fits_no_header_is_a_bad_key_and_nothing_is_sent(key):
    with serving(provider("openai")) as server:
        result = await check("openai", server.url, key=key)
    assert result.reason == "bad_key"
    assert "sk" not in result.message
    assert not server.requests


async def test_types_that_may_do_without_a_key_send_none():
    for name in ("ollama", "openai_compatible"):
        with serving(answering(200)) as server:
            assert (await check(name, server.url, key=None)).reason == "ok"
        assert "authorization" not in server.requests[0][1]
    assert (await check("openai_compatible", None)).reason == "not_configured"


async def test_azure_needs_a_region_or_a_base_url(monkeypatch):
    assert (await check("azure", None)).reason == "not_configured"
    assert (await check("azure", None, options={"region": "x.evil.example/"})).reason == "not_configured"
    resolving_to(monkeypatch)
    assert "westeurope.tts.speech" in (await check("azure", None, options={"region": "westeurope"})).message


async def test_without_a_documented_check_reachability_is_checked_and_said():
    with serving(answering(404)) as server:
        result = await check("perplexity", server.url)
        assert (result.status, result.reason, result.checked) == ("ok", "ok", "reachability")
        assert "not tested" in result.message
        assert KEY not in str(server.requests)
    with serving(answering(502)) as server:
        assert (await check("perplexity", server.url)).reason == "provider_down"


async def test_without_check_and_address_nothing_is_sent_and_said_so():
    result = await check("aws", None)
    assert (result.status, result.reason, result.checked, result.latency_ms) == ("ok", "ok", "nothing", 0.0)
    assert result.message.startswith("Not tested")
    assert (await check("aws", None, key=None)).reason == "not_configured"


async def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    with serving(provider("openai")) as server:
        assert (await check("openai", server.url)).reason == "ok"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the path of a self-signed certificate for provider.test, key included."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider.test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("provider.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@pytest.fixture
def server_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_self_signed_certificate_is_unreachable_and_says_why(server_tls, monkeypatch):
    resolving_to(monkeypatch, "127.0.0.1", "127.0.0.1", "::1")
    with serving(provider("openai"), tls=server_tls) as server:
        result = await check("openai", f"https://provider.test:{server.port}")
    assert (result.reason, result.http_status) == ("unreachable", None)
    assert "certificate" in result.message
    assert not server.requests


async def test_tls_is_verified_for_the_host_name_while_the_connection_goes_to_the_address(
    server_tls, certificate, monkeypatch
):
    names = []
    server_tls.sni_callback = lambda _socket, name, _context: names.append(name)
    monkeypatch.setattr(outgoing, "_tls_context", lambda: ssl.create_default_context(cafile=certificate))
    resolving_to(monkeypatch, "127.0.0.1")
    with serving(provider("openai"), tls=server_tls) as server:
        assert (await check("openai", f"https://provider.test:{server.port}/v1")).reason == "ok"
        assert server.requests[0][1]["host"] == f"provider.test:{server.port}"
        other = await check("openai", f"https://another.test:{server.port}/v1")
    assert names == ["provider.test", "another.test"]
    assert other.reason == "unreachable"
    assert len(server.requests) == 1


async def test_https_to_a_plain_http_port_says_so():
    with serving(answering(200)) as server:
        result = await check("openai", server.url.replace("http:", "https:"))
    assert result.reason == "unreachable"
    assert "TLS" in result.message


@pytest.mark.parametrize("name", ["whisper", "kokoro", "piper"])
async def test_a_local_type_without_its_package_is_not_configured(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    result = await check(name, None, key=None)
    assert (result.status, result.reason, result.checked, result.latency_ms) == (
        "failed", "not_configured", "files", 0.0,
    )  # fmt: skip
    assert PROVIDER_TYPES[name].package in result.message


async def test_a_local_types_files_have_to_exist(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    result = await check("whisper", None, key=None)
    assert (result.status, result.checked) == ("ok", "files")
    assert "none was looked for" in result.message
    there = await check("piper", None, key=None, options={"model_path": str(tmp_path), "model_dir": 3})
    assert there.message.endswith("installed and its files exist.")
    for missing in (tmp_path / "no.onnx", "a\0b", "~nobody-here/x"):
        gone = await check("piper", None, key=None, options={"model_path": str(missing)})
        assert gone.reason == "not_configured"
        assert "model_path" in gone.message


async def test_a_local_type_behind_a_server_is_checked_for_reachability():
    with serving(answering(404)) as server:
        result = await check("kokoro", server.url, key=None, allow_private=False)
    assert (result.reason, result.checked) == ("ok", "reachability")


def test_results_are_values():
    assert ProbeResult("ok", "ok", 200, 1.0, "x") == ProbeResult("ok", "ok", 200, 1.0, "x", "nothing")


async def test_an_ipv6_address_is_written_with_brackets(monkeypatch):
    import httpx2

    seen = []

    def stream(_client, _method, url, *, headers, extensions, **_):
        seen.append((url, headers["Host"], extensions["sni_hostname"]))
        raise httpx2.ConnectError("no route")

    monkeypatch.setattr(httpx2.AsyncClient, "stream", stream)
    await check("openai_compatible", "http://[2606:4700::1111]/v1")
    assert seen == [("http://[2606:4700::1111]:80/v1/models", "[2606:4700::1111]", "2606:4700::1111")]
