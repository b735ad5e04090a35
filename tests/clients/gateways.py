"""nginx and HAProxy as one sets them up for WebSockets, with no more time for silence than they are given."""

import subprocess
from contextlib import contextmanager

from conftest import ROOT

# The time-outs are nginx' own where none are said: 60 s.
NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    {time_outs}
{servers}
}}
"""
NGINX_SERVER = """\
    server {{
        listen unix:{socket};
        location / {{
            proxy_pass http://{address};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
    }}
"""
# Without a time-out for tunnels, WebSockets have those of client and server.
HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client {seconds}s
    timeout server {seconds}s
{servers}
"""
HAPROXY_SERVER = """\
listen {name}
    bind unix@{socket}
    server {name} {address}
"""
# What a gateway has that nobody told otherwise: nginx by itself, HAProxy by the file that Debian installs.
DEFAULTS = {"nginx": 60, "haproxy": 50}


def configured(gateway, servers, folder, seconds):
    if gateway == "nginx":
        time_outs = "" if seconds == DEFAULTS[gateway] else f"proxy_read_timeout {seconds}s; proxy_send_timeout {seconds}s;"
        parts = [NGINX_SERVER.format(socket=socket, address=server.address) for socket, server in servers.values()]
        return NGINX.format(folder=folder, time_outs=time_outs, servers="".join(parts))
    parts = [HAPROXY_SERVER.format(name=name, socket=socket, address=server.address)
             for name, (socket, server) in servers.items()]
    return HAPROXY.format(seconds=seconds, servers="".join(parts))


@contextmanager
def before(gateway, seconds, folder, **servers):
    """A gateway before servers: the path of a socket for each of their names."""
    program = subprocess.run([ROOT / f"tests/find_{gateway}"], check=True, capture_output=True, text=True).stdout.strip()
    servers = {name: (folder / f"{name}.socket", server) for name, server in servers.items()}
    file, log = folder / f"{gateway}.conf", folder / "log"
    file.write_text(configured(gateway, servers, folder, seconds))
    command = [program, "-e", log, "-p", folder, "-c", file] if gateway == "nginx" else [program, "-db", "-f", file]
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            yield {name: str(socket) for name, (socket, _) in servers.items()}, process
            assert process.poll() is None, (folder / "said").read_text()
        finally:
            process.kill()
            process.wait()
