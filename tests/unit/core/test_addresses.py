import ipaddress
import socket

import anyio
import pytest

from voicegw_mcp.config.addresses import check_base_url, refusal
from voicegw_mcp.core.outgoing import resolve_checked
from voicegw_mcp.errors import InvalidInput, ProviderFailed


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "https://api.eu.deepgram.com",
        "http://127.0.0.1:11434",
        "http://localhost:11434/v1",
        "http://[::1]:8000/v1",
        "https://Api.Example.com./v1?x=1",
        "https://bücher.example/v1",
        "http://my_box:8000",
        "http://10.0.0.7",
    ],
)
def test_usual_base_urls_are_returned_unchanged(url):
    assert check_base_url(url, allow_private=True) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "ftp://example.com",
        "file:///etc/passwd",
        "wss://api.deepgram.com/v2/listen",
        "https://",
        "https:///v1",
        "https://user:hunter2@example.com",
        "https://hunter2@example.com",
        "https://example.com/#part",
        "https://example.com/#",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://example.com\\@hunter2.com",
        "https://exam\u200bple.com/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:port/",
        "https://[::1",
        "https://[fe80::1%25eth0]/",
        "https://[v1.x]/",
        "https://-bad-.com/",
        "https://a..b/",
        "https://" + "a" * 64 + ".com",
        "https://" + "ü" * 80 + ".com",
        "https://example.com/" + "a" * 3000,
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://\uff11\uff12\uff17.1/",
        "http://1.2.3.4.5/",
        "http://169.254.169.254/latest/meta-data",
        "http://metadata.google.internal/computeMetadata",
        "http://METADATA.google.internal./",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:169.254.169.254]/",
        "http://100.100.100.200/",
        "http://0.0.0.0:8080/",
        "http://224.0.0.1/",
    ],
)
def test_bad_base_urls_are_refused_even_where_private_ones_are_fine(url):
    with pytest.raises(InvalidInput) as caught:
        check_base_url(url, allow_private=True)
    assert caught.value.details["field"] == "base_url"
    assert "hunter2" not in str(caught.value.payload())


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "[::1]", "[fd12::1]", "100.64.0.1"])
def test_an_address_written_out_is_refused_where_private_ones_are_not_allowed(host):
    with pytest.raises(InvalidInput) as caught:
        check_base_url(f"http://{host}:8000", allow_private=False)
    assert "allow_private_hosts" in caught.value.hint


@pytest.mark.parametrize("text", ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"])
def test_public_addresses_are_fine(text):
    assert not refusal(ipaddress.ip_address(text), allow_private=False)


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "10.0.0.1", "172.31.0.1", "192.168.0.1", "100.64.1.1", "198.18.0.4", "::1", "fd00::1",
     "::ffff:127.0.0.1", "64:ff9b::10.0.0.1"],
)  # fmt: skip
def test_own_network_is_fine_only_when_allowed(text):
    address = ipaddress.ip_address(text)
    assert refusal(address, allow_private=False) == "loopback or private"
    assert not refusal(address, allow_private=True)


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0", "0.1.2.3", "169.254.1.1", "169.254.169.254", "192.0.0.192", "192.0.2.1", "168.63.129.16", "224.0.0.1",
     "239.1.1.1", "240.0.0.1", "255.255.255.255", "100.100.100.200", "::", "::10.0.0.1", "fe80::1", "fec0::1", "ff02::1",
     "2002:a00:1::1", "2001:0:1::1", "2001:db8::1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "fd00:ec2::254",
     "fd20:ce::254", "::ffff:0.0.0.0"],
)  # fmt: skip
def test_never_is_never(text):
    assert refusal(ipaddress.ip_address(text), allow_private=True)


def resolving_to(monkeypatch, *answers):
    calls = []

    async def getaddrinfo(host, port, **_):
        calls.append(host)
        texts = answers[min(len(calls), len(answers)) - 1]
        if isinstance(texts, Exception):
            raise texts
        return [
            (socket.AF_INET6 if ":" in text else socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port))
            for text in texts
        ]

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    return calls


async def test_a_name_gives_its_addresses_ipv4_first_and_once(monkeypatch):
    resolving_to(monkeypatch, ["2606:4700::1111", "8.8.8.8", "8.8.8.8"])
    assert await resolve_checked("Example.com.", 443, allow_private=False) == [
        "8.8.8.8",
        "2606:4700::1111",
    ]
    assert (await resolve_checked("example.com", 443, allow_private=False))[0] == "8.8.8.8"


@pytest.mark.parametrize("bad", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "fe80::1%eth0", "::1"])
async def test_one_bad_address_among_good_ones_refuses_the_name(monkeypatch, bad):
    resolving_to(monkeypatch, ["8.8.8.8", bad])
    with pytest.raises(InvalidInput):
        await resolve_checked("rebind.example", 443, allow_private=False)


async def test_link_local_is_refused_for_local_types_too(monkeypatch):
    resolving_to(monkeypatch, ["169.254.169.254"])
    with pytest.raises(InvalidInput):
        await resolve_checked("ollama.example", 80, allow_private=True)


async def test_metadata_names_are_refused_before_anything_is_resolved(monkeypatch):
    calls = resolving_to(monkeypatch, ["8.8.8.8"])
    for name in ("metadata.google.internal", "2852039166", "0xa9.254.169.254"):
        with pytest.raises(InvalidInput):
            await resolve_checked(name, 80, allow_private=True)
    assert not calls


@pytest.mark.parametrize(
    "answer", [socket.gaierror(-2, "Name or service not known"), [], UnicodeError("label")]
)
async def test_a_name_that_does_not_resolve_is_no_invalid_input(monkeypatch, answer):
    resolving_to(monkeypatch, answer)
    with pytest.raises(ProviderFailed):
        await resolve_checked("nowhere.example", 443, allow_private=True)


async def test_localhost_resolves_to_loopback():
    assert "127.0.0.1" in await resolve_checked("localhost", 80, allow_private=True)
    with pytest.raises(InvalidInput):
        await resolve_checked("localhost", 80, allow_private=False)
