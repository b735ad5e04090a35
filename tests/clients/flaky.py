"""An HTTP server that does to each request for a file what a script says, and well when the script is over."""

import email.utils
import hashlib
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WELL = ("well",)
HANG = ("hang",)


def cut(count):
    """Only so many bytes of the body, then the connection ends."""
    return ("cut", count)


def status(code):
    return ("status", code)


def instead(body):
    """Other bytes, under the same name and with the same ETag, as a broken proxy has them."""
    return ("instead", body)


class Flaky:
    def __init__(self, files=(), script=(), upstream=None):
        self.files = dict(files)
        self.upstream = upstream
        self.asked = []
        """What came: path without query, and the headers that matter, of each request."""
        self.on_request = lambda: None
        self.hangs = threading.Event()
        """Set once a request has been left without an answer."""
        self._script = queue.Queue()
        self.then(*script)
        self._over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server._answer(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def then(self, *script):
        for step in script:
            self._script.put(step)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, path=""):
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def ranges(self, end):
        """The `Range` of each request for a file whose name ends so."""
        return [headers.get("Range") for path, headers in self.asked if path.endswith(end)]

    def _answer(self, handler):
        path = handler.path.split("?")[0]
        self.asked.append((path, {name.title(): value for name, value in handler.headers.items()}))
        if path.endswith(".sha256") or "list-type=2" in handler.path or path.endswith("/"):
            step = WELL
        else:
            try:
                step = self._script.get_nowait()
            except queue.Empty:
                step = WELL
        self.on_request()
        kind, *argument = step
        if kind == "hang":
            self.hangs.set()
            self._over.wait()
            handler.close_connection = True
            return
        code, headers, body = self._content(handler, path)
        if kind == "status":
            code, headers, body = argument[0], {}, b""
        elif kind == "instead":
            code, body = 200, argument[0]
            headers.pop("Content-Range", None)
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        try:
            handler.wfile.write(body[: argument[0]] if kind == "cut" else body)
        except OSError:
            pass  # Who had enough has gone.
        handler.close_connection = True

    def _content(self, handler, path):
        if self.upstream:
            return self.upstream(handler.path, handler.headers)
        if path not in self.files:
            return 404, {}, b""
        body = self.files[path]
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        headers = {"ETag": etag, "Last-Modified": email.utils.formatdate(0, usegmt=True)}
        if handler.headers.get("If-None-Match") == etag:
            return 304, headers, b""
        wanted = handler.headers.get("Range")
        if wanted and handler.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return 416, headers | {"Content-Range": f"bytes */{len(body)}"}, b""
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return 206, headers, body[start:]
        return 200, headers, body
