"""HTTP server on 127.0.0.1 that serves files with ranges and ETags, and fails on demand."""

import hashlib
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Publisher(ThreadingHTTPServer):
    """Server of a data publisher.

    Attributes:
        files: Path of an address -> bytes or Path of the content.
        faults: Path -> iterator, one fault or None per request.
        asked: All requests (path, headers).
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.asked = {}, {}, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def share(self, folder, below=""):
        """Serve every file of a folder."""
        folder = Path(folder)
        self.files |= {
            f"{below}/{path.relative_to(folder).as_posix()}": path
            for path in folder.rglob("*")
            if path.is_file()
        }

    def handle_error(self, request, client_address):
        """A client that goes away is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.path, dict(self.headers)))
        fault = next(iter(self.server.faults.get(path, ())), None)
        if fault is not None:
            fault(self)
        elif path in self.server.files:
            self.serve()
        else:
            self.answer(404)

    def content(self):
        content = self.server.files[unquote(urlsplit(self.path).path)]
        return content if isinstance(content, bytes) else content.read_bytes()

    def serve(self, data=None, ranges=True, upto=None, pause=0.0, version=True):
        """Answer with a file, or the rest of it where a range is requested.

        Args:
            data: Content, by default that of the requested file.
            ranges: Whether ranges are supported.
            upto: Number of bytes after which the connection ends.
            pause: Seconds before every byte or chunk.
            version: Whether an ETag is sent.
        """
        data = self.content() if data is None else data
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        wanted = self.headers.get("Range") if ranges else None
        if wanted and self.headers.get("If-Range", tag) == tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.answer(416, {"Content-Range": f"bytes */{len(data)}"})
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            start = 0
            self.send_response(200)
        if version:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        rest = data[start:] if upto is None else data[start : start + upto]
        size = 1 if pause >= 0.05 else 1 << 14
        for start in range(0, len(rest), size):
            self.wfile.write(rest[start : start + size])
            self.wfile.flush()
            time.sleep(pause)
        self.close_connection = upto is not None

    def answer(self, status, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Silent."""


def always(fault):
    while True:
        yield fault


def status(code, headers=None):
    return lambda handler: handler.answer(code, headers)


def cut(upto, **options):
    return lambda handler: handler.serve(upto=upto, **options)


def slow(pause):
    return lambda handler: handler.serve(pause=pause)


def other(data):
    return lambda handler: handler.serve(data)


@contextmanager
def publisher():
    server = Publisher()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sums(folder):
    """Write folder/SHA256SUMS as sha256sum would."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  "
        f"./{path.relative_to(folder).as_posix()}\n"
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != "SHA256SUMS"
    ]
    (Path(folder) / "SHA256SUMS").write_text("".join(lines))
