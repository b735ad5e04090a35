"""IAM and ModelArts as their references describe them, on a local port: enough for a model and a service to come up."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

ACCESS_KEY, SECRET_KEY = "QTWAOYTTINDUT2QVKYUC", "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"
PASSWORD, TOKEN = "correct horse battery staple", "MIIthis-is-a-token"
PROJECT, MODEL, SERVICE = "0605767b5780d5762fc5c0118072a564", "7feb7235-ed9c-48ae-9833-2876b2458445", "10eb0091-887f-4839-9929-cbc884f1e20e"
ADDRESS = f"https://0a1b2c.apig.cn-north-4.huaweicloudapis.com/v1/infers/{SERVICE}"


class Credentials:
    ak, sk = ACCESS_KEY, SECRET_KEY


def signature(method, url, headers, body):
    """What Huawei's own SDK makes of a request: its `Authorization`."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    path = unquote(parts.path) or "/"
    request = SdkRequest(method, parts.scheme, parts.netloc, path, None, query, dict(headers), body)
    return Signer(Credentials).sign(request).header_params["Authorization"]


def is_signed(method, url, headers, body):
    """Whether the headers hold the signature of those that it names."""
    given = {name.lower(): value for name, value in headers.items()}
    authorization = given.get("authorization", "")
    if "SignedHeaders=" not in authorization:
        return False
    names = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    return {"host", "x-sdk-date"} <= set(names) and authorization == signature(method, url, {name: given[name] for name in names}, body)


class Cloud:
    """What came in, and what is answered: each status is told once, the last one for ever."""

    def __init__(self):
        self.calls = []
        self.statuses = {"model": ["publishing", "published"], "v1": ["deploying", "running"], "v2": ["DEPLOYING", "RUNNING"]}
        self.refuse = None

    def status(self, of):
        left = self.statuses[of]
        return left.pop(0) if len(left) > 1 else left[0]

    def answer(self, method, path, query, headers, body, url, raw):
        self.calls.append((method, path + (f"?{query}" if query else ""), body, dict(headers)))
        if self.refuse:
            return self.refuse, {}, {"error_code": "ModelArts.0401", "error_msg": "The token is not valid."}
        if (method, path) == ("POST", "/v3/auth/tokens"):
            user = body["auth"]["identity"]["password"]["user"]
            if (user["name"], user["password"], user["domain"]["name"]) != ("someone", PASSWORD, "somewhere"):
                return 401, {}, {"error": {"code": 401, "message": "The username or password is wrong."}}
            if body["auth"]["scope"] != {"project": {"name": "cn-north-4"}}:
                return 400, {}, {"error": {"code": 400, "message": "the scope is not a project's"}}
            return 201, {"X-Subject-Token": TOKEN}, {"token": {"project": {"id": PROJECT, "name": "cn-north-4"}}}
        if headers.get("X-Auth-Token") != TOKEN and not is_signed(method, url, headers, raw):
            return 401, {}, {"error_code": "APIGW.0301", "error_msg": "Incorrect IAM authentication information"}
        match (method, path):
            case "GET", "/v3/projects":
                return 200, {}, {"projects": [{"id": PROJECT, "name": query.removeprefix("name=")}]}
            case "POST", p if p == f"/v1/{PROJECT}/models":
                return 200, {}, {"model_id": MODEL}
            case "GET", p if p == f"/v1/{PROJECT}/models/{MODEL}":
                return 200, {}, {"model_id": MODEL, "model_status": self.status("model")}
            case "POST", p if p == f"/v1/{PROJECT}/services":
                return 200, {}, {"service_id": SERVICE, "resource_ids": ["INF-1"]}
            case "GET", p if p == f"/v1/{PROJECT}/services/{SERVICE}":
                return 200, {}, {"service_id": SERVICE, "status": self.status("v1"), "access_address": ADDRESS}
            case "POST", p if p == f"/v2/{PROJECT}/services":
                return 200, {}, {"id": SERVICE, "name": body["name"], "status": "DEPLOYING"}
            case "GET", p if p == f"/v2/{PROJECT}/services/{SERVICE}":
                places = [{"type": "PUBLIC", "urls": [ADDRESS]}]
                return 200, {}, {"id": SERVICE, "status": self.status("v2"), "predict_url": places, "failure_reason": "no node is left"}
            case "GET", p if p in (f"/v1/{PROJECT}/services/specifications", f"/v2/{PROJECT}/services/flavors"):
                return 200, {}, {"specifications": [{"specification": "modelarts.vm.cpu.2u"}]}
            case _:
                return 404, {}, {"error_msg": f"no {method} {path}"}


@contextmanager
def running():
    cloud = Cloud()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def serve(self):
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            url = f"http://{self.headers['Host']}{self.path}"
            status, headers, body = cloud.answer(
                self.command, parts.path, parts.query, self.headers, json.loads(raw) if raw else None, url, raw
            )
            self.send_response(status)
            content = json.dumps(body).encode()
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = serve

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    yield cloud
    server.shutdown()
    server.server_close()
