import pytest

from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.web.hosts import Hosts, bind_name, is_loopback

LOCAL = Hosts.of("127.0.0.1")
NAMED = Hosts.of(
    "192.168.1.5", ["gateway.example.com", "tunnel.example.com:8443"], ["https://ops.example.com"]
)

ADMITTED = [
    b"localhost", b"localhost:8090", b"LOCALHOST:8090", b"LocalHost", b"127.0.0.1", b"127.0.0.1:1", b"127.0.0.1:65535",
    b"[::1]", b"[::1]:8090",
]  # fmt: skip
REFUSED = [
    None, b"", b" ", b":", b":8090", b"*", b"*:8090", b"*.localhost", b"null", b"-", b".", b"..",
    b"evil.com", b"evil.com:8090", b"localhost.evil.com", b"localhost.evil.com:8090", b"localhost-evil.com",
    b"evil.localhost", b"a.localhost:8090", b"localhost.localdomain", b"127.0.0.1.evil.com", b"127.0.0.1.nip.io",
    b"localhost.", b"localhost.:8090", b"127.0.0.1.", b".localhost", b"localhost..",
    b"127.1", b"127.0.1", b"127.0.0.2", b"127.0.0.1.1", b"2130706433", b"0x7f000001", b"0x7f.0.0.1", b"017700000001",
    b"0177.0.0.1", b"127.000.000.001", b"0", b"0.0.0.0", b"0.0.0.0:8090", b"0:8090",
    b"::1", b"::1:8090", b"[::]", b"[::]:8090", b"[0:0:0:0:0:0:0:1]", b"[::ffff:127.0.0.1]", b"[::1%25lo]", b"[::1%lo]",
    b"[::1", b"::1]", b"[[::1]]", b"[::1].evil.com", b"[::1]evil", b"[localhost]", b"[127.0.0.1]", b"[::0001]",
    b"user@localhost", b"localhost@evil.com", b"user:pass@localhost:8090", b"evil.com@127.0.0.1", b"@localhost",
    b"localhost:", b"localhost:0", b"localhost:65536", b"localhost:99999", b"localhost:100000", b"localhost:-1",
    b"localhost:+80", b"localhost:8o", b"localhost:80:80", b"localhost: 80", b"localhost:0x50", b"localhost:80.0",
    b" localhost", b"localhost ", b"\tlocalhost", b"localhost\n", b"localhost\r\n", b"localhost\0", b"localhost\x0b",
    b"localhost, evil.com", b"localhost,localhost", b"localhost;", b"localhost evil.com", b"localhost/", b"/localhost",
    b"localhost/path", b"localhost?x", b"localhost#x", b"localhost\\evil.com", b"http://localhost", b"//localhost",
    "löcalhost".encode(), "localhost。".encode(), "ⓛocalhost".encode(), "l\u043ecalhost".encode(), b"local\xadhost",
    "localhost:\u0661".encode(), b"\xff", b"\xb2", b"localhost:8\xb2", b"xn--lcalhost-n4a", b"%6cocalhost", b"localhost%00",
    b"a" * 10_000, b"localhost" * 1000, b"[" + b":" * 10_000 + b"]", b"1." * 5000,
]  # fmt: skip
ORIGINS_ADMITTED = [
    None, b"http://localhost", b"http://localhost:3000", b"https://localhost:3000", b"HTTP://LocalHost:3000",
    b"http://127.0.0.1", b"http://127.0.0.1:8090", b"http://[::1]", b"http://[::1]:6274",
]  # fmt: skip
ORIGINS_REFUSED = [
    b"", b"null", b"NULL", b"*", b"file://", b"file:///home/x.html", b"about:blank", b"data:text/html,x", b"blob:http://localhost",
    b"chrome-extension://abcdefgh", b"moz-extension://abc", b"vscode-webview://abc", b"app://localhost", b"capacitor://localhost",
    b"ws://localhost", b"wss://localhost", b"ftp://localhost", b"javascript://localhost", b"httpx://localhost",
    b"localhost", b"localhost:3000", b"//localhost", b"http:localhost", b"http:/localhost", b"http:///localhost", b"http://",
    b"http://evil.com", b"https://evil.com:443", b"http://localhost.evil.com", b"http://evil.localhost", b"http://localhost.",
    b"http://127.0.0.1.evil.com", b"http://127.1", b"http://2130706433", b"http://0x7f.1", b"http://0.0.0.0", b"http://0",
    b"http://127.0.0.2", b"http://[::]", b"http://[::ffff:127.0.0.1]", b"http://[0:0:0:0:0:0:0:1]", b"http://::1",
    b"http://user@localhost", b"http://localhost@evil.com", b"http://a:b@localhost", b"http://localhost:80@evil.com",
    b"http://localhost/", b"http://localhost/x", b"http://localhost?x", b"http://localhost#x", b"http://localhost\\@evil.com",
    b"http://localhost:", b"http://localhost:0", b"http://localhost:65536", b"http://localhost:x", b"http://localhost:80:80",
    b" http://localhost", b"http://localhost ", b"http://localhost\n", b"http://localhost\0", b"http://*", b"http://*.localhost",
    b"http://localhost http://evil.com", b"http://localhost, http://evil.com", b"http://evil.com http://localhost",
    "http://löcalhost".encode(), "http://l\u043ecalhost".encode(), "http\uff1a//localhost".encode(), b"http://localhost\xff",
    b"http://" + b"a" * 10_000,
]  # fmt: skip
NO_NAMES = [
    "", " ", "*", "*.example.com", ".example.com", "example.com.", "https://example.com", "example.com/", "a b", "a,b",
    "user@example.com", "example.com:", "example.com:0", "example.com:65536", "example.com:x", "exämple.com", "[::1", "::1",
    "a..b", "-a.com", "[zz]", "a" * 64, "null", "example.com:80:80", "a\nb",
]  # fmt: skip
NO_ORIGINS = [
    "", " ", "*", "null", "ops.example.com", "https://", "https://*", "https://*.example.com", "https://ops.example.com/",
    "https://ops.example.com/x", "ftp://ops.example.com", "file://", "https//ops.example.com", "https:/ops.example.com",
    "https://user@ops.example.com", "https://ops.example.com:", "https://ops.example.com:0", "https://a b", "https://a,https://b",
    "https://ops.example.com:99999", "https://exämple.com",
]  # fmt: skip


@pytest.mark.parametrize("header", ADMITTED)
def test_loopback_names_are_let_in_with_any_port(header):
    assert LOCAL.admits_host(header)
    assert NAMED.admits_host(header)


@pytest.mark.parametrize("header", REFUSED)
def test_no_other_host_is_let_in(header):
    assert not LOCAL.admits_host(header)
    assert not NAMED.admits_host(header)
    assert not Hosts.of("0.0.0.0").admits_host(header)


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (b"192.168.1.5", True),
        (b"192.168.1.5:8090", True),
        (b"192.168.1.50", False),
        (b"gateway.example.com", True),
        (b"Gateway.Example.COM:9000", True),
        (b"gateway.example.com.", False),
        (b"x.gateway.example.com", False),
        (b"gateway.example.com.evil.com", False),
        (b"gatewayXexample.com", False),
        (b"example.com", False),
        (b"tunnel.example.com:8443", True),
        (b"tunnel.example.com:8444", False),
        (b"tunnel.example.com", False),
        (b"ops.example.com", False),
    ],
)
def test_added_names_are_let_in_exactly_as_written(header, admitted):
    assert NAMED.admits_host(header) is admitted
    assert not LOCAL.admits_host(header)


@pytest.mark.parametrize("header", ORIGINS_ADMITTED)
def test_no_page_and_pages_from_loopback_may_call(header):
    assert LOCAL.admits_origin(header)
    assert NAMED.admits_origin(header)


@pytest.mark.parametrize("header", ORIGINS_REFUSED)
def test_no_other_page_may_call(header):
    assert not LOCAL.admits_origin(header)
    assert not NAMED.admits_origin(header)


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (b"https://ops.example.com", True),
        (b"HTTPS://Ops.Example.com", True),
        (b"http://ops.example.com", False),
        (b"https://ops.example.com:8443", False),
        (b"https://ops.example.com.evil.com", False),
        (b"https://x.ops.example.com", False),
        (b"https://gateway.example.com", False),
        (b"https://192.168.1.5", False),
    ],
)
def test_added_origins_may_call_with_their_scheme_and_port_only(header, admitted):
    assert NAMED.admits_origin(header) is admitted
    assert not LOCAL.admits_origin(header)


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_typo_in_allowed_host_is_refused_and_named(name):
    if name == "null":  # a host may be called that
        assert Hosts.of("127.0.0.1", [name]).admits_host(b"null")
        return
    with pytest.raises(InvalidInput) as caught:
        Hosts.of("127.0.0.1", ["good.example.com", name])
    assert caught.value.details["field"] == "--allowed-host"


@pytest.mark.parametrize("origin", NO_ORIGINS)
def test_a_typo_in_allowed_origin_is_refused_and_named(origin):
    with pytest.raises(InvalidInput) as caught:
        Hosts.of("127.0.0.1", (), ["https://good.example.com", origin])
    assert caught.value.details["field"] == "--allowed-origin"


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "[::]", "*", "", " 0.0.0.0 "])
def test_listening_on_every_address_admits_loopback_names_only(bind):
    hosts = Hosts.of(bind, [], [])
    assert bind_name(bind) is None
    assert hosts == Hosts.of("127.0.0.1")
    assert hosts.origins == frozenset()


@pytest.mark.parametrize(
    ("bind", "name"),
    [
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("LOCALHOST", "localhost"),
        ("fe80::1", "[fe80::1]"),
        ("Box", "box"),
    ],
)
def test_a_bound_address_is_reached_by_its_name(bind, name):
    assert bind_name(bind) == name
    assert Hosts.of(bind).admits_host(f"{name}:8090".encode())


@pytest.mark.parametrize(
    "bind",
    ["localhost", "LocalHost", "127.0.0.1", " 127.0.0.1 ", "127.0.0.2", "127.255.255.255", "::1", "[::1]"],
)
def test_loopback_addresses_are_known(bind):
    assert is_loopback(bind)


@pytest.mark.parametrize(
    "bind",
    [
        "0.0.0.0", "::", "[::]", "*", "", "192.168.1.5", "10.0.0.1", "128.0.0.1", "1127.0.0.1", "127.0.0.1.evil.com", "127.1",
        "2130706433", "localhost.", "localhost.evil.com", "evil.localhost", "::ffff:127.0.0.1", "::2", "fe80::1", "127.0.0.1:80",
        "127.0.0.1\n0.0.0.0",
    ],
)  # fmt: skip
def test_any_other_address_counts_as_reachable(bind):
    assert not is_loopback(bind)
