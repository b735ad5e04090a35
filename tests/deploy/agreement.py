"""What has to agree between the manifests, the images, and the server: its ports, paths, variables, times and sizes."""

import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import checks
import yaml

MIB = 1 << 20
# docs/OPERATIONS.md: what an idle stream takes.
CONNECTION = 25 << 10
# The process with the bundled models, ONNX Runtime included.
PROCESS = 64 * MIB
# Descriptors that are not WebSockets: libraries, listeners, probes.
SPARE_FILES = 256
# For the last close frames and the end of the process.
CLOSING = 5


def image(dockerfile):
    """The variables, user and port of an image."""
    text = re.sub(r"\\\n", " ", (checks.ROOT / dockerfile).read_text())
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    variables = [word.split("=", 1) for line in lines if line.startswith("ENV ") for word in line.split()[1:]]
    [user] = [line.split()[1] for line in lines if line.startswith("USER ")]
    [port] = [line.split()[1] for line in lines if line.startswith("EXPOSE ")]
    return dict(variables), tuple(map(int, user.split(":"))), int(port)


def amount(text):
    """A size as Kubernetes or the server writes it, in bytes."""
    number, unit = re.fullmatch(r"(\d+)(|Mi|Gi|MiB|GiB)", str(text)).groups()
    return int(number) << {"": 0, "Mi": 20, "Gi": 30}[unit.removesuffix("B")]


@dataclass
class Settings:
    """The settings of `thalweg serve`, as its help tells them."""

    help: str

    @cached_property
    def variables(self):
        return set(re.findall(r"\[env: (THALWEG_\w+)=", self.help))

    def default(self, key):
        flag = key.replace("_", "-")
        return re.search(rf"--{flag} .*?\[default: ([^\]]+)\]", self.help, re.DOTALL)[1]


class Pods:
    """The pods of a Deployment or of KServe's runtime, and what stands around them."""

    def __init__(self, deploy, folder, dockerfile, settings):
        self.objects = checks.build(deploy / folder)
        self.image, self.user, self.port = image(dockerfile)
        self.settings = settings
        if deployments := self.of("Deployment"):
            self.spec = deployments[0]["spec"]["template"]["spec"]
            [self.container] = self.spec["containers"]
            self.pod_security = self.spec["securityContext"]
        else:
            [runtime], [service] = self.of("ClusterServingRuntime"), self.of("InferenceService")
            self.spec = service["spec"]["predictor"]
            [self.container] = runtime["spec"]["containers"]
            self.pod_security = self.container["securityContext"]

    def of(self, kind):
        return [thing for thing in self.objects if thing["kind"] == kind]

    @property
    def variables(self):
        """With the image's, as the process has them."""
        own = {}
        for variable in self.container["env"]:
            reference = variable.get("valueFrom", {}).get("resourceFieldRef", {}).get("resource")
            own[variable["name"]] = variable["value"] if reference is None else self.resource(reference)
        return self.image | own

    def resource(self, reference):
        part, name = reference.split(".")
        return str(self.container["resources"][part][name])

    @property
    def config(self):
        return next((thing["data"]["thalweg.toml"] for thing in self.of("ConfigMap")), "")

    def setting(self, key):
        """As the server finds it: a variable, else the file, else the default."""
        file = tomllib.loads(self.config)
        return self.variables.get(f"THALWEG_{key.upper()}") or file.get(key) or self.settings.default(key)

    @property
    def ports(self):
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    def check_ports(self):
        listen = int(self.setting("listen").rsplit(":", 1)[1])
        assert self.ports["http"] == listen == self.port
        if "metrics" in self.ports:
            assert self.ports["metrics"] == int(self.setting("metrics_listen").rsplit(":", 1)[1])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = self.container[probe]["httpGet"]["port"]
            assert port in self.ports or port in self.ports.values(), f"{probe} asks {port}"
        for service in self.of("Service"):
            [port] = service["spec"]["ports"]
            assert port["targetPort"] == "http" and port["port"] == listen
            assert port["appProtocol"] == "kubernetes.io/ws"
            for route in self.of("HTTPRoute"):
                [backend] = route["spec"]["rules"][0]["backendRefs"]
                assert (backend["name"], backend["port"]) == (service["metadata"]["name"], port["port"])
        for monitor in self.of("PodMonitor"):
            assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} == {"metrics"}
        for policy in self.of("NetworkPolicy"):
            named = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
            assert named == set(self.ports)

    def check_names(self):
        """What selects pods selects these, and what scales scales this."""
        for deployment in self.of("Deployment"):
            labels = deployment["spec"]["template"]["metadata"]["labels"].items()
            selectors = [deployment["spec"]["selector"]["matchLabels"]]
            selectors += [thing["spec"]["selector"] for thing in self.of("Service")]
            selectors += [thing["spec"]["selector"]["matchLabels"] for thing in self.of("PodDisruptionBudget")]
            selectors += [thing["spec"]["selector"]["matchLabels"] for thing in self.of("PodMonitor")]
            selectors += [thing["spec"]["podSelector"]["matchLabels"] for thing in self.of("NetworkPolicy")]
            selectors += [spread["labelSelector"]["matchLabels"] for spread in self.spec["topologySpreadConstraints"]]
            assert len(selectors) == 7 and all(selector and selector.items() <= labels for selector in selectors)
            assert self.spec["serviceAccountName"] == self.of("ServiceAccount")[0]["metadata"]["name"]
            assert "replicas" not in deployment["spec"], "KEDA decides"
        targets = {thing["metadata"]["name"] for thing in self.of("Deployment")}
        targets |= {f"{thing['metadata']['name']}-predictor" for thing in self.of("InferenceService")}
        assert {thing["spec"]["scaleTargetRef"]["name"] for thing in self.of("ScaledObject")} == targets
        for service in self.of("InferenceService"):
            assert service["spec"]["predictor"]["model"]["runtime"] == self.of("ClusterServingRuntime")[0]["metadata"]["name"]
            assert service["spec"]["predictor"]["timeout"] == 0

    def check_settings(self):
        own = {name for name in self.variables if name.startswith("THALWEG_") and name != "THALWEG_CONFIG"}
        assert own <= self.settings.variables, own - self.settings.variables
        # A variable goes before the file, so that what both say is lost there.
        both = own & {f"THALWEG_{key.upper()}" for key in tomllib.loads(self.config)}
        assert not both, both
        assert self.spec["enableServiceLinks"] is False

    def check_drain(self):
        pause = self.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed = pause + int(self.setting("grace_period")) + CLOSING
        assert self.spec["terminationGracePeriodSeconds"] >= needed, needed

    def check_probes(self):
        for thing in self.of("Deployment"):
            startup = self.container["startupProbe"]
            assert thing["spec"]["progressDeadlineSeconds"] > startup["periodSeconds"] * startup["failureThreshold"]
        # A run that is given up, and its model's load, are no reason to restart all.
        liveness = self.container["livenessProbe"]
        assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 2 * int(self.setting("run_timeout"))

    def check_sizes(self):
        connections = int(self.setting("max_connections"))
        needed = PROCESS + amount(self.setting("max_request_memory")) + connections * CONNECTION
        memory = self.container["resources"]
        assert memory["limits"]["memory"] == memory["requests"]["memory"]
        assert amount(memory["limits"]["memory"]) >= needed, needed

    def check_security(self):
        assert (self.pod_security["runAsUser"], self.pod_security["runAsGroup"]) == self.user
        assert self.pod_security["runAsNonRoot"] is True
        assert self.pod_security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert self.spec["automountServiceAccountToken"] is False
        for container in [self.container, *self.spec.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}

    def check_volumes(self):
        """Models are mounted where the server looks for them, to be read; what it writes can be written."""
        mounts = {mount["mountPath"]: mount for mount in self.container.get("volumeMounts", [])}
        if self.of("InferenceService"):
            assert self.setting("model_repository") == "/mnt/models"
            return
        models = mounts[self.setting("model_repository")]
        assert models["readOnly"] is True
        for container in self.spec.get("initContainers", []):
            assert container["command"][2] == self.setting("model_repository") + "/."
            assert container["volumeMounts"] == [{"name": models["name"], "mountPath": container["command"][3]}]
        assert str(Path(self.variables["THALWEG_CONFIG"]).parent) in mounts
        if cache := self.image.get("THALWEG_KERNEL_CACHE"):
            assert cache == self.image["CUDA_CACHE_PATH"] and not mounts[cache].get("readOnly")
            assert self.container["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in self.spec["volumes"]}

    def check_gateways(self):
        """Nothing between ends a socket that lives: a time-out is never, or longer than the pings are apart."""
        for route in self.of("HTTPRoute"):
            for rule in route["spec"]["rules"]:
                assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
        for ingress in self.of("Ingress"):
            said = ingress["metadata"]["annotations"]
            for name in ("proxy-read-timeout", "proxy-send-timeout"):
                assert int(said[f"nginx.ingress.kubernetes.io/{name}"]) >= 4 * int(self.setting("ping_interval"))
            body = said["nginx.ingress.kubernetes.io/proxy-body-size"].replace("m", "MiB")
            assert amount(body) >= amount(self.setting("max_message_size"))

    def check(self):
        for name in sorted(dir(self)):
            if name.startswith("check_"):
                getattr(self, name)()


def check_compose(file, settings):
    compose = yaml.safe_load(file.read_text())
    servers = [service for service in compose["services"].values() if service["image"].startswith("thalweg")]
    assert len(servers) == 2
    for server in servers:
        variables, _, port = image(server["build"].get("dockerfile", "Dockerfile"))
        assert server["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert {name for name in server["environment"]} <= settings.variables
        grace = int(server["stop_grace_period"].removesuffix("s"))
        assert grace >= int(settings.default("grace_period")) + CLOSING
        assert server["ulimits"]["nofile"] >= int(settings.default("max_connections")) + SPARE_FILES
        targets = [volume.rsplit(":ro", 1)[0].rsplit(":", 1)[1] for volume in server["volumes"]]
        assert targets[0] == variables["THALWEG_MODEL_REPOSITORY"] and server["volumes"][0].endswith(":ro")
        assert targets[1:] == [variables[name] for name in ("THALWEG_KERNEL_CACHE",) if name in variables]
