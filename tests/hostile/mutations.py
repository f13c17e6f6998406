"""Valid JSON-RPC frames, and what a seeded mutator makes of them."""

import copy
import json
import random
from typing import Any

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "hostile", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "hostile", "version": "1"},
}
VALID: list[tuple[str, dict[str, Any]]] = [
    ("initialize", INITIALIZE),
    ("server/discover", {}),
    ("ping", {}),
    ("tools/list", {}),
    ("tools/list", {"cursor": "x"}),
    ("tools/call", {"name": "get_health", "arguments": {}}),
    ("tools/call", {"name": "get_costs", "arguments": {"period": "today", "project_id": "support-line"}}),
    ("tools/call", {"name": "get_latency_stats", "arguments": {"period": "7d"}}),
    ("tools/call", {"name": "get_logs", "arguments": {"limit": 5, "status": "error", "min_cost_usd": 0.5}}),
    ("tools/call", {"name": "list_models", "arguments": {"modality": "stt", "limit": 2}}),
    ("tools/call", {"name": "get_project", "arguments": {"project_id": "support-line"}}),
    ("tools/call", {"name": "create_project", "arguments": {"project_id": "x", "name": "X", "tags": ["a"], "daily_budget": 1, "dry_run": True}}),
    ("tools/call", {"name": "add_provider", "arguments": {"provider_id": "y", "provider_type": "groq", "api_key": "${GROQ_API_KEY}", "dry_run": True}}),
    ("tools/call", {"name": "delete_model", "arguments": {"model_id": "deepgram/nova-3"}}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "voicegw://config"}),
    ("resources/read", {"uri": "voicegw://logs"}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "review_costs", "arguments": {"period": "7d"}}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "project", "value": "s"}}),
    ("logging/setLevel", {"level": "debug"}),
    ("resources/subscribe", {"uri": "voicegw://logs"}),
    ("notifications/initialized", {}),
    ("notifications/cancelled", {"requestId": 1, "reason": "x"}),
    ("notifications/progress", {"progressToken": 1, "progress": 0.5}),
]  # fmt: skip
ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 1e308, -1e-308, 2**31, 2**63, 2**64, -(2**63) - 1, 10**300, "", " ", "\0", "\x1b[2J", "\ud800", "\u202e",
    "null", "NaN", "../../etc/passwd", "${DEEPGRAM_API_KEY}", "${file:/etc/passwd}", "x" * 10_000, "'; DROP TABLE requests; --", "{{7*7}}", "%s%n",
    "😀" * 50, [], {}, [[]], [{}], {"": ""}, {"a": {"a": {"a": {}}}}, [None] * 100, ["x"] * 1000, {"__proto__": {"x": 1}}, {"$ref": "#"},
]  # fmt: skip
RAW = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999999",
    b"9" * 5000,
    b"0" * 50 + b"1",
    b"\xff",
    b'"\xc0\x80"',
    b'"\\ud800"',
    b"'x'",
    b"",
    b"/**/1",
    b"[1,]",
]
IDS = [None, True, -1, 1.5, 2**63, 10**300, "", "x" * 5000, [], {}, [1], {"a": 1}, "\ud800", 0]


def frame(method: str, parameters: dict[str, Any], number: object, *, modern: bool) -> dict[str, Any]:
    """Return a valid frame; a notification has no id."""
    content = {**copy.deepcopy(parameters), **({"_meta": copy.deepcopy(META)} if modern else {})}
    asked = {} if method.startswith("notifications/") else {"id": number}
    return {"jsonrpc": "2.0", **asked, "method": method, "params": content}


def mutated(draw: random.Random, number: int, *, modern: bool) -> tuple[str, str, bytes]:
    """Return the method and name of the frame it was, and the bytes of what became of it."""
    method, parameters = draw.choice(VALID)
    message: Any = frame(method, parameters, number, modern=modern)
    name = str(parameters.get("name", parameters.get("uri", "")))
    for _ in range(draw.choice((0, 1, 1, 2, 5))):
        message = draw.choice(STRUCTURES)(draw, message)
    data = json.dumps(message).encode()
    for _ in range(draw.choice((0, 0, 0, 1, 3))):
        data = draw.choice(BYTES)(draw, data)
    return method, name, data


def _odd(draw: random.Random) -> Any:
    return copy.deepcopy(draw.choice(ODD))  # later mutations change what is inside


def _places(message: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) in a message."""
    found: list[tuple[Any, Any]] = []
    left = [message]
    while left:
        value = left.pop()
        keys = (
            list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
        )
        found += [(value, key) for key in keys]
        left += [value[key] for key in keys]
    return found


def _swap(draw: random.Random, message: Any) -> Any:
    places = _places(message)
    if not places:
        return _odd(draw)
    container, key = draw.choice(places)
    container[key] = _odd(draw)
    return message


def _drop(draw: random.Random, message: Any) -> Any:
    places = _places(message)
    if places:
        container, key = draw.choice(places)
        del container[key]
    return message


def _rename(draw: random.Random, message: Any) -> Any:
    places = [(container, key) for container, key in _places(message) if isinstance(container, dict)]
    if places:
        container, key = draw.choice(places)
        container[draw.choice([key.upper(), f"{key} ", f"{key}\0", "", "__class__", "id", "method", "é"])] = (
            container.pop(key)
        )
    return message


def _add(draw: random.Random, message: Any) -> Any:
    places = [container for container, _ in _places(message) if isinstance(container, dict)]
    if places:
        draw.choice(places)[
            draw.choice(["result", "error", "id", "extra", "arguments", "_meta", "cursor", "confirm"])
        ] = _odd(draw)
    return message


def _other_id(draw: random.Random, message: Any) -> Any:
    if isinstance(message, dict):
        message["id"] = copy.deepcopy(draw.choice(IDS))
    return message


def _other_version(draw: random.Random, message: Any) -> Any:
    if isinstance(message, dict):
        message["jsonrpc"] = draw.choice(["1.0", "2", 2.0, None, "", "2.0 "])
    return message


def _nest(draw: random.Random, message: Any) -> Any:
    value: Any = 1
    for _ in range(draw.choice((10, 40))):  # deeper ones are made of bytes: json and copy recurse
        value = draw.choice(([value], {"a": value}))
    places = _places(message)
    if places:
        container, key = draw.choice(places)
        container[key] = value
    return message


def _batch(draw: random.Random, message: Any) -> Any:
    return [copy.deepcopy(message) for _ in range(draw.choice((0, 1, 2, 50)))]


def _answer(draw: random.Random, message: Any) -> Any:
    number = message.get("id") if isinstance(message, dict) else 1
    return draw.choice(
        [
            {"jsonrpc": "2.0", "id": number, "result": _odd(draw)},
            {
                "jsonrpc": "2.0",
                "id": number,
                "error": {"code": _odd(draw), "message": _odd(draw)},
            },
        ]
    )


STRUCTURES = (_swap, _swap, _swap, _drop, _rename, _add, _other_id, _other_version, _nest, _batch, _answer)


def _flip(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _insert(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.randbytes(draw.choice((1, 2, 30))) + data[at:]


def _double_key(draw: random.Random, data: bytes) -> bytes:
    key = draw.choice([b'"id":7,', b'"method":"ping",', b'"params":{},', b'"jsonrpc":"2.0",', b'"name":"x",'])
    return data.replace(b"{", b"{" + key, draw.choice((1, 2)))


def _raw_value(draw: random.Random, data: bytes) -> bytes:
    head, colon, tail = data.rpartition(b": ") if draw.random() < 0.5 else data.partition(b": ")
    return head + colon + draw.choice(RAW) + tail[draw.randrange(len(tail) + 1) :]


def _deep(draw: random.Random, data: bytes) -> bytes:
    depth = draw.choice((300, 3000))
    return draw.choice([b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth, data + b"]" * depth])


def _recode(draw: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    return draw.choice(
        [
            text.encode("utf-16"),
            text.encode("utf-32"),
            b"\xef\xbb\xbf" + data,
            data + b"\0",
            b"\r\n" + data,
            data + data,
        ]
    )


BYTES = (_flip, _flip, _cut, _insert, _double_key, _raw_value, _deep, _recode)
