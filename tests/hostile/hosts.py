"""Section ``hosts``: Host and Origin headers of every kind at every path."""

import random
from pathlib import Path

from tests.hostile.servers import TOKEN, exchange, is_typed, leaks, running
from tests.proof import Progress, Section
from tests.unit.web.test_hosts import ORIGINS_REFUSED, REFUSED

NAME = "hosts"
TITLE = "Foreign names"
CHECKED = """\
A page that a browser loads from somewhere must not reach a local gateway under a name of its own (DNS rebinding). Each variant of `Host` and of
`Origin` (other names and ports, loopback in other spellings, users, paths, lists, doubled headers, other alphabets, control characters, very long ones)
goes to each path, by GET and by POST, with the right token, to a real server. None may get further than the refusal.
"""
ROUNDS = 0
"""All variants; a short run takes so many of them at random."""

PATHS = (
    "/", "/mcp", "/mcp/", "/sse", "/messages", "/messages/", "/messages/?session_id=1", "/health", "/nothing",
    "/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp",
)  # fmt: skip
OAUTH = """\
auth:
  oauth: {issuer: "https://id.example.com", resource: "https://gateway.example.com"}
"""
Variant = list[tuple[bytes, bytes]]


def variants() -> list[Variant]:
    """Return the headers of each variant; what a blank around it only makes odd for us is left out (RFC 9110, 5.5)."""
    good = (b"Host", b"localhost")
    plain = [
        name
        for name in REFUSED
        if name is None or (name == name.strip(b" \t\r\n\x0b\x0c") and b"\n" not in name)
    ]
    origins = [name for name in ORIGINS_REFUSED if name == name.strip() and b"\n" not in name]
    found: list[Variant] = [[] if name is None else [(b"Host", name)] for name in plain]
    found += [[good, (b"Origin", name)] for name in origins]
    found += [
        [good, good],
        [good, (b"Host", b"evil.com")],
        [(b"Host", b"evil.com"), good],
        [(b"Host", b"evil.com"), (b"X-Forwarded-Host", b"localhost")],
        [(b"Host", b"evil.com"), (b"Forwarded", b"host=localhost")],
        [(b"X-Forwarded-Host", b"localhost")],
        [good, (b"Origin", b"http://localhost"), (b"Origin", b"http://localhost")],
        [good, (b"Origin", b"http://localhost"), (b"Origin", b"null")],
    ]
    return found


def run(rounds: int, seed: int, folder: Path, progress: Progress) -> Section:
    """Send the variants; ``rounds`` of them, all when it is 0."""
    section = Section(NAME)
    chosen = variants()
    if rounds:
        chosen = random.Random(seed).sample(chosen, min(rounds, len(chosen)))  # noqa: S311 - to be repeated
    counts = {"by the door (421, 403)": 0, "by the HTTP parser (400)": 0}
    with running(folder / "server", "serve", "-p", "0", auth=OAUTH) as server:
        for number, headers in enumerate(chosen):
            for path in PATHS:
                for method in ("GET", "POST"):
                    lines = [f"{method} {path} HTTP/1.1".encode(), f"Authorization: Bearer {TOKEN}".encode()]
                    lines += [name + b": " + value for name, value in headers]
                    reply = exchange(server, b"\r\n".join([*lines, b"Content-Length: 0", b"", b""]))
                    if reply.status in {421, 403} and is_typed(reply.body) and not leaks(reply.body):
                        counts["by the door (421, 403)"] += 1
                    elif reply.status == 400:
                        counts["by the HTTP parser (400)"] += 1
                    else:
                        shown = [(name, value[:60]) for name, value in headers]
                        section.violations.append(f"{method} {path} with {shown}: status {reply.status}")
            progress(number + 1, len(chosen))
        good = exchange(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if good.status != 200:
            section.violations.append(f"afterwards /health answers {good.status}")
        section.violations += server.complaints()
    section.figures += [
        ("variants", len(chosen)),
        ("paths and methods", len(PATHS) * 2),
        *((f"refused {how}", count) for how, count in counts.items()),
        ("admitted", len(section.violations)),
    ]
    return section
