"""A plain HTTP server on loopback, in threads, for as long as a test needs it."""

import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer


class Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Say nothing: clients that go away are what many tests are about."""


@contextmanager
def listening(handler, released, *, tls=None):
    """Serve by a ``BaseHTTPRequestHandler`` class on a free port, which is yielded.

    ``released`` is set at the end: a handler that never answers waits for it. ``tls`` is an ``SSLContext``.
    """
    server = Listener(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        released.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
