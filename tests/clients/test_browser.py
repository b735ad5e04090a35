"""The page of the README, opened as a file in Chromium."""

import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT, TALK_SECONDS
from readme import blocks

FLAGS = [
    "--headless", "--dump-dom", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--no-first-run",
]


@pytest.fixture
def hold():
    """An address whose `/held` is answered once somebody has asked for `/seen`."""
    seen = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/seen":
                seen.set()
            seen.wait(TALK_SECONDS)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        seen.set()
        http.shutdown()


def until_lines(count, hold):
    """Keeps a page loading until it shows so many lines: the browser tells of a page when it has loaded."""
    return f"""
        <img src="{hold}/held">
        <script>
          new MutationObserver((_, observer) => {{
            if (document.querySelectorAll("li").length < {count}) return;
            observer.disconnect();
            fetch("{hold}/seen", {{ mode: "no-cors" }});
          }}).observe(document, {{ childList: true, subtree: true }});
        </script>"""


def test_the_page_shows_content_types(server, hold, tmp_path):
    [(page, _)] = blocks("html", server)
    file = tmp_path / "page.html"
    file.write_text(page + until_lines(2, hold))
    browser = subprocess.check_output([ROOT / "tests/find_browser"], text=True).strip()
    command = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * TALK_SECONDS)
    lines = [line.rsplit(", ", 1) for line in re.findall(r"<li>(.*?)</li>", done.stdout)]
    assert [kind for kind, _ in lines] == ["html, text/html", "python, text/x-python"], done.stderr
    assert all(0.5 < float(score) <= 1 for _, score in lines)
