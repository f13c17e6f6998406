"""A receiver of webhooks on loopback, which verifies signatures by what the specification says and not by our code."""

import base64
import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.listener import listening

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes ...").decode()


@dataclass
class Received:
    """One request: its headers by lower-case name, its body as it came, and what that says."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self):
        return self.headers["webhook-id"]

    @property
    def event(self):
        return json.loads(self.body)

    def verify(self, secret=SECRET):
        key = (
            base64.b64decode(secret.removeprefix("whsec_"))
            if secret.startswith("whsec_")
            else secret.encode()
        )
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert self.headers["webhook-signature"] == f"v1,{expected}"
        assert self.headers["content-type"] == "application/json"


@dataclass
class Receiver:
    """``answers`` are (status, headers) in order, the last one again and again; ``hang`` takes requests and says nothing."""

    port: int = 0
    answers: list = field(default_factory=lambda: [(200, {})])
    received: list = field(default_factory=list)
    hang: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    def wait_for(self, count, bound_s=30):
        """Return when so many requests have come."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.received) >= count, bound_s), self.received
        return self.received

    @property
    def events(self):
        return [each.event["type"] for each in self.received]


@contextmanager
def receiving(*answers, hang=False):
    """Run a receiver on a free port."""
    receiver = Receiver(hang=hang)
    if answers:
        receiver.answers = [answer if isinstance(answer, tuple) else (answer, {}) for answer in answers]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            found = Received({name.lower(): value for name, value in self.headers.items()}, body)
            with receiver.arrived:
                status, headers = receiver.answers[min(len(receiver.received), len(receiver.answers) - 1)]
                receiver.received.append(found)
                receiver.arrived.notify_all()
            if receiver.hang:
                receiver.released.wait(30)
                return
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_):
            pass

    with listening(Handler, receiver.released) as receiver.port:
        yield receiver
