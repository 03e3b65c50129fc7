"""A sample backend: answers with its name, and registers itself with weldr.

`sample_backend.py NAME ETCD [ADDRESS HOST]`: it listens on ADDRESS, and HOST is what weldr knows it by.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import weldr


class Hello(BaseHTTPRequestHandler):
    """Answers every GET with the backend's name."""

    protocol_version = "HTTP/1.1"
    name = "?"

    def do_GET(self) -> None:
        body = f"hello from {self.name}: you asked for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: weldr's log is what there is to see."""


def main() -> None:
    name, etcd, address, host = [*sys.argv[1:], "127.0.0.1", "127.0.0.1"][:4]
    Hello.name = name
    server = ThreadingHTTPServer((address, 0), Hello)
    with weldr.register("default", f"{host}:{server.server_port}", id=name, etcd=etcd):
        server.serve_forever()


if __name__ == "__main__":
    main()
