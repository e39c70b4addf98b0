"""An object store on this machine, spoken to over real S3, and a line to it that can be cut."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "canary-5ecret",
    "AWS_SESSION_TOKEN": "canary-t0ken",
    "AWS_DEFAULT_REGION": "us-east-1",
}
ENDPOINT = "AWS_ENDPOINT_URL"


@contextmanager
def served() -> Iterator[str]:
    """Moto's server on the loopback for the length of the block, and its endpoint."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - a second, for these tests alone

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, ENDPOINT: f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        yield f"http://{host}:{port}"
    server.stop()


class Line(socketserver.ThreadingTCPServer):
    """Passes bytes on to a server, but breaks its first connections.

    cuts   how many of them are broken once they have carried `after` bytes
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, endpoint: str, cuts: int, after: int) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self.behind, self.cuts, self.after = (host, int(port)), cuts, after
        super().__init__(("127.0.0.1", 0), _Pass)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def open(self) -> Iterator[Line]:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()


class _Pass(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        line: Line = self.server  # type: ignore[assignment]
        left = line.after if line.cuts > 0 else None
        with socket.create_connection(line.behind) as behind:
            back = threading.Thread(target=_pump, args=(behind, self.request, None), daemon=True)
            back.start()
            if _pump(self.request, behind, left):
                line.cuts -= 1
                self.request.close()
                return
            back.join()


def _pump(source: socket.socket, to: socket.socket, left: int | None) -> bool:
    """Pass bytes on until the source ends, or more than `left` came: then True."""
    with suppress(OSError):
        while data := source.recv(2**14):
            if left is not None:
                left -= len(data)
                if left < 0:
                    return True
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    return False
