"""A collector on loopback: takes OTLP over HTTP, as the specification has it, and gives the spans."""

import gzip
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from tests.listener import listening


@dataclass
class Receiver:
    """``hang`` takes requests and says nothing until it is released."""

    hang: bool = False
    port: int = 0
    requests: list = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def variables(self):
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}"}

    @property
    def bodies(self):
        return b"".join(body for _, body in self.requests)

    def exported(self):
        """Return (resource attributes, span) of all spans."""
        found = []
        for path, body in self.requests:
            assert path == "/v1/traces"
            for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = attributes_of(each.resource)
                found += [(resource, span) for scope in each.scope_spans for span in scope.spans]
        return found


def attributes_of(holder):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes}


@contextmanager
def receiving(*, hang=False):
    """Run a receiver on a free port."""
    receiver = Receiver(hang)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.requests.append((self.path, body))
            if receiver.hang:
                receiver.released.wait(60)
                return
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with listening(Handler, receiver.released) as receiver.port:
        yield receiver
