"""HAProxy before servers, as one would set it up: it asks for their health, and asks again what was refused."""

import asyncio
import socket
import subprocess
import urllib.request
from contextlib import contextmanager

from conftest import ROOT

# What may be asked again of another server: nothing that was refused or cut before its answer has had an effect.
CONFIGURATION = """\
defaults
    mode http
    timeout check 10s
    timeout connect 10s
    timeout client 90s
    timeout server 90s
    timeout tunnel 90s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response 503

frontend clients
    bind fd@{listener}
    http-request return status 200 content-type text/plain lf-string "%[nbsrv(servers)]" if {{ path /servers }}
    default_backend servers

backend servers
    balance leastconn
    option httpchk GET /v2/health/ready
    default-server check inter 200ms fall 1 rise 1
{servers}
"""


class Balancer:
    def __init__(self, port):
        self.address = f"127.0.0.1:{port}"

    def ws(self, path):
        return f"ws://{self.address}{path}"

    def http(self, path):
        return f"http://{self.address}{path}"

    async def until_up(self, count):
        while await asyncio.to_thread(self._servers) != count:
            await asyncio.sleep(0.05)

    def _servers(self):
        with urllib.request.urlopen(self.http("/servers"), timeout=10) as response:
            return int(response.read())


@contextmanager
def balanced(servers, folder):
    """HAProxy on a port that the system chose, for as long as it is needed."""
    program = subprocess.run([ROOT / "tests/find_haproxy"], check=True, capture_output=True, text=True).stdout.strip()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        lines = [f"    server s{at} {server.address}" for at, server in enumerate(servers)]
        file = folder / "haproxy.cfg"
        file.write_text(CONFIGURATION.format(listener=listener.fileno(), servers="\n".join(lines)))
        with (folder / "haproxy.log").open("w+") as log:
            process = subprocess.Popen(
                [program, "-db", "-f", file], pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )
            try:
                yield Balancer(listener.getsockname()[1])
                log.seek(0)
                assert process.poll() is None, log.read()
            finally:
                process.kill()
                process.wait()
