"""Calls to Huawei Cloud with nothing but Python: signed by AK/SK, or with a token of IAM."""

import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from urllib.parse import parse_qsl, quote, unquote, urlsplit

TIMEOUT = 60  # seconds for an answer
HIDDEN = "***"
SECRETS = {"X-Auth-Token", "X-Security-Token", "Authorization", "X-Apig-AppCode"}


class Failed(Exception):
    """What went wrong, in a sentence."""


def sign(method, url, headers, body, access_key, secret_key, now=None):
    """The headers with those that `SDK-HMAC-SHA256` adds. All that are given are signed, and must be sent."""
    parts = urlsplit(url)
    time = (now or datetime.now(timezone.utc)).strftime("%Y%m%dT%H%M%SZ")
    headers = {**headers, "Host": parts.netloc, "X-Sdk-Date": time}
    signed = {name.lower(): value.strip() for name, value in headers.items()}
    names = ";".join(sorted(signed))
    path = "/".join(quote(unquote(part), safe="~") for part in parts.path.split("/")).rstrip("/") + "/"
    query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    request = "\n".join([
        method,
        path,
        "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in query),
        *(f"{name}:{signed[name]}" for name in sorted(signed)),
        "",
        names,
        hashlib.sha256(body).hexdigest(),
    ])
    text = "\n".join(["SDK-HMAC-SHA256", time, hashlib.sha256(request.encode()).hexdigest()])
    signature = hmac.new(secret_key.encode(), text.encode(), "sha256").hexdigest()
    headers["Authorization"] = f"SDK-HMAC-SHA256 Access={access_key}, SignedHeaders={names}, Signature={signature}"
    return headers


def variables(*names):
    """The variables of the environment, if none is missing."""
    values = [os.environ.get(name, "") for name in names]
    return values if all(values) else None


class Cloud:
    """One region, as one user. A dry run prints its calls and sends none; answers are then what the caller says."""

    def __init__(self, region, iam=None, modelarts=None, dry_run=False):
        self.region = region
        self.iam = iam or f"https://iam.{region}.myhuaweicloud.com"
        self.modelarts = modelarts or f"https://modelarts.{region}.myhuaweicloud.com"
        self.dry_run = dry_run
        self.project = os.environ.get("HW_PROJECT_ID")
        self.token, self.keys = None, variables("HW_ACCESS_KEY", "HW_SECRET_KEY")
        if self.keys is None:
            self.token = os.environ.get("HW_AUTH_TOKEN") or self._log_in()
        if self.project is None:
            self.project = self._find_project()

    def _log_in(self):
        """A token of IAM, which lasts for 24 hours. Services take those of a project, and none of a domain."""
        user = variables("HW_DOMAIN_NAME", "HW_USER_NAME", "HW_USER_PASSWORD")
        if user is None:
            raise Failed(
                "set HW_ACCESS_KEY and HW_SECRET_KEY, or HW_AUTH_TOKEN, or HW_DOMAIN_NAME, HW_USER_NAME and HW_USER_PASSWORD"
            )
        domain, name, password = user
        person = {"domain": {"name": domain}, "name": name, "password": password}
        identity = {"methods": ["password"], "password": {"user": person}}
        body = {"auth": {"identity": identity, "scope": {"project": {"name": self.region}}}}
        assumed = {"X-Subject-Token": "TOKEN"}, {"token": {"project": {"id": "{project_id}"}}}
        headers, answer = self.send("POST", f"{self.iam}/v3/auth/tokens", body, assumed)
        self.project = self.project or answer["token"]["project"]["id"]
        return headers["X-Subject-Token"]

    def _find_project(self):
        url = f"{self.iam}/v3/projects?name={quote(self.region, safe='')}"
        _, answer = self.send("GET", url, assumed=({}, {"projects": [{"id": "{project_id}"}]}))
        if not answer["projects"]:
            raise Failed(f"the account has no project in {self.region}")
        return answer["projects"][0]["id"]

    def call(self, method, path, body=None, assumed=None):
        """A call of ModelArts' API; the path is that behind the project."""
        version, rest = path.split("/", 1)
        url = f"{self.modelarts}/{version}/{self.project}/{rest}"
        return self.send(method, url, body, ({}, assumed or {}))[1]

    def authorise(self, method, url, headers, body):
        if self.keys is None:
            return {**headers, "X-Auth-Token": self.token} if self.token else headers
        if self.project:
            headers = {**headers, "X-Project-Id": self.project}
        if temporary := os.environ.get("HW_SECURITY_TOKEN"):
            headers = {**headers, "X-Security-Token": temporary}
        return sign(method, url, headers, body, *self.keys)

    def send(self, method, url, body=None, assumed=None):
        data = b"" if body is None else json.dumps(body).encode()
        headers = self.authorise(method, url, {"Content-Type": "application/json"}, data)
        if self.dry_run:
            show(method, url, headers, body)
            return assumed
        request = urllib.request.Request(url, data or None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return answer.headers, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise Failed(f"{method} {url}: {error.code} {error.read(4096).decode(errors='replace')}") from None
        except (OSError, ValueError) as error:
            raise Failed(f"{method} {url}: {error}") from None

    def wait(self, path, field, wanted, seconds, poll):
        """What the path tells once its field has the value that is wanted."""
        deadline, told = time.monotonic() + seconds, None
        while True:
            answer = self.call("GET", path, assumed={field: wanted})
            status = answer.get(field)
            if status != told and not self.dry_run:
                print(f"{path}: {status}", file=sys.stderr)
                told = status
            if status == wanted:
                return answer
            if any(word in str(status).lower() for word in ("fail", "error", "stopped")):
                why = answer.get("failure_reason") or answer.get("error_msg") or "the console has its events and logs"
                raise Failed(f"{path} is {status}: {why}")
            if time.monotonic() > deadline:
                raise Failed(f"{path} is still {status} after {seconds} seconds")
            time.sleep(poll)


def show(method, url, headers, body):
    """A call as it would be sent, without its secrets."""
    print(method, url)
    for name, value in headers.items():
        print(f"{name}: {HIDDEN if name in SECRETS else value}")
    if body is not None:
        print("\n" + json.dumps(without_passwords(body), indent=2))
    print()


def without_passwords(value):
    match value:
        case dict():
            hidden = {name for name, member in value.items() if name == "password" and isinstance(member, str)}
            return {name: HIDDEN if name in hidden else without_passwords(member) for name, member in value.items()}
        case list():
            return [without_passwords(member) for member in value]
        case _:
            return value
