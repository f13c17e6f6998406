"""An authorization server on loopback, with keys made on the spot: metadata, keys, tokens for client credentials."""

import base64
import hashlib
import hmac
import json
import threading
import time
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tests.listener import listening

RESOURCE = "http://127.0.0.1:8090"
CLIENT = ("ci", "fake-client-secret")
METADATA = "/.well-known/oauth-authorization-server"


@cache
def rsa_key(name="one", bits=2048):  # noqa: ARG001 - another name is another key
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(curve=ec.SECP256R1):
    return ec.generate_private_key(curve())


@cache
def ed_key():
    return ed25519.Ed25519PrivateKey.generate()


ALGORITHMS = {
    rsa.RSAPublicKey: jwt.algorithms.RSAAlgorithm,
    ec.EllipticCurvePublicKey: jwt.algorithms.ECAlgorithm,
    ed25519.Ed25519PublicKey: jwt.algorithms.OKPAlgorithm,
}


def jwk(key, key_id, **more):
    """The public half of a key as a JWK."""
    public = key.public_key()
    algorithm = next(value for kind, value in ALGORITHMS.items() if isinstance(public, kind))
    return {**algorithm.to_jwk(public, as_dict=True), "kid": key_id, **more}


def encoded(part):
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def shared_secret_token(claims, key, key_id="one"):
    """A token signed with the public key as if it were a secret; jwt itself refuses to make one."""
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = encoded({"alg": "HS256", "typ": "JWT", "kid": key_id}) + b"." + encoded(claims)
    return head + b"." + encoded(hmac.digest(pem, head, hashlib.sha256))


class AuthorizationServer:
    """What it answers can be changed by the tests: ``replies`` holds a function of the handler by path."""

    def __init__(self, port, released):
        self.issuer = f"http://127.0.0.1:{port}"
        self.keys = [jwk(rsa_key(), "one")]
        self.asked = []
        self.scope = "voicegw.read"
        self.subject = "ada"
        self.released = released
        self.replies = {METADATA: self.metadata, "/jwks": lambda _: {"keys": self.keys}}

    def metadata(self, _handler=None):
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }

    def claims(self, **changed):
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": RESOURCE,
            "sub": self.subject,
            "client_id": "ci",
            "scope": self.scope,
            "iat": now,
            "exp": now + 300,
        }
        return {name: value for name, value in {**claims, **changed}.items() if value is not None}

    def token(self, key=None, key_id="one", algorithm="RS256", headers=None, **changed):
        """A token as bytes; a claim that is None is left out."""
        named = {"kid": key_id} if key_id is not None else {}
        made = jwt.encode(self.claims(**changed), key or rsa_key(), algorithm, {**named, **(headers or {})})
        return made.encode()

    def grant(self, handler):
        """The token endpoint: client credentials for the resource that is asked for."""
        length = int(handler.headers["content-length"])
        form = {name: values[0] for name, values in parse_qs(handler.rfile.read(length).decode()).items()}
        basic = "Basic " + base64.b64encode(":".join(CLIENT).encode()).decode()
        if handler.headers["authorization"] != basic or form["grant_type"] != "client_credentials":
            return 401, {"error": "invalid_client"}
        token = self.token(aud=form["resource"].rstrip("/"), scope=form.get("scope", "")).decode()
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": form.get("scope", ""),
        }


@contextmanager
def authorization_server():
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            server.asked.append(self.path)
            self.close_connection = True
            self.reply(server.replies.get(self.path, lambda _: (404, {})))

        def do_POST(self):
            server.asked.append(self.path)
            self.close_connection = True
            self.reply(server.grant if self.path == "/token" else lambda _: (404, {}))

        def reply(self, function):
            try:
                answer = function(self)
                if answer is not None:
                    status, content = answer if isinstance(answer, tuple) else (200, answer)
                    body = content if isinstance(content, bytes) else json.dumps(content).encode()
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Connection", "close")
                    if status in {301, 302, 307, 308}:
                        self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    released = threading.Event()
    with listening(Handler, released) as port:
        server = AuthorizationServer(port, released)
        yield server
