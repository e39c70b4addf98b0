"""A line to PostgreSQL that can be cut around a COMMIT."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from tempfile import mkdtemp
from typing import Literal

from sqlalchemy import make_url

Cut = Literal["before", "after", ""]
NAME = ".s.PGSQL.5432"


class Line:
    """A socket that passes everything on to a server's, and is asked about each COMMIT by its
    number: cut it "before" the server reads it, "after" the server has answered it, or not."""

    def __init__(self, server: Path, folder: Path, ask: Callable[[int], Cut]) -> None:
        self.server, self.ask, self.commits, self.cuts = server, ask, 0, 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / NAME))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(str(self.server / NAME))
            while True:
                ready, _, _ = select([near, far], [], [])
                for one in ready:
                    told = one.recv(1 << 16)
                    if not told or not self._forward(told, one, (near, far)):
                        return

    def _forward(
        self, told: bytes, one: socket.socket, pair: tuple[socket.socket, socket.socket]
    ) -> bool:
        near, far = pair
        cut: Cut = ""
        if one is near and b"COMMIT" in told:
            self.commits += 1
            cut = self.ask(self.commits)
        self.cuts += cut != ""
        if cut != "before":
            (far if one is near else near).sendall(told)
        if cut == "after":
            far.recv(1 << 16)  # the answer, which nobody gets
        return cut == ""


@contextmanager
def cut_line(url: str, ask: Callable[[int], Cut]) -> Iterator[tuple[str, Line]]:
    """The address of a line to the server at `url`, and the line."""
    address = make_url(url)
    folder = Path(mkdtemp(prefix="coclimb-line-"))
    line = Line(Path(str(address.query["host"])), folder, ask)
    try:
        yield str(address.update_query_dict({"host": str(folder)})), line
    finally:
        line.close()
        (folder / NAME).unlink()
        folder.rmdir()
