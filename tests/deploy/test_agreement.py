"""Manifests, images and server agree; and where one of them is changed alone, that is seen."""

import agreement
import pytest
import yaml
from agreement import Pods
from checks import DEPLOY
from test_manifests import BASE, COMPONENTS, change

IMAGES = {
    "kubernetes/overlays/cpu": "Dockerfile",
    "kubernetes/overlays/cuda": "Dockerfile.cuda",
    "kserve": "Dockerfile",
}


@pytest.mark.parametrize(("folder", "dockerfile"), IMAGES.items(), ids=list(IMAGES))
def test_manifests_agree_with_images_and_server(folder, dockerfile, settings):
    Pods(DEPLOY, folder, dockerfile, settings).check()


@pytest.mark.parametrize("component", ["ingress-nginx", "models-image-volume", "models-pvc"])
def test_the_other_components_agree_too(component, copy, settings):
    overlay = "kubernetes/overlays/cuda"
    change(copy / overlay / "kustomization.yaml", "components:\n", f"components:\n  - ../../components/{component}\n")
    pods = Pods(copy, overlay, IMAGES[overlay], settings)
    pods.check()
    assert pods.of("Ingress") if component == "ingress-nginx" else not pods.spec["initContainers"]


def test_compose_agrees_with_images_and_server(settings):
    agreement.check_compose(DEPLOY / "compose.yaml", settings)


def test_compose_mounts_what_is_there():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    sources = [volume.split(":")[0] for name in ("prometheus", "grafana") for volume in services[name]["volumes"]]
    sources = [source for source in sources if source.startswith("./")]
    assert len(sources) == 5 and all((DEPLOY / source).exists() for source in sources)
    # Whom Prometheus asks is the server by its name there, at the only port that it has.
    assert "thalweg:8080" in (DEPLOY / "prometheus/prometheus.yml").read_text()


DEPLOYMENT, TOML, CUDA = BASE + "deployment.yaml", BASE + "thalweg.toml", "kubernetes/overlays/cuda/deployment.yaml"
RUNTIME, SERVICE = "kserve/clusterservingruntime.yaml", "kserve/inferenceservice.yaml"

# What is changed, and which check has to see it.
CHANGED = [
    (DEPLOYMENT, "containerPort: 8080", "containerPort: 8000", "check_ports"),
    (DEPLOYMENT, "port: metrics\n            periodSeconds: 10", "port: admin\n            periodSeconds: 10", "check_ports"),
    (TOML, "0.0.0.0:9090", "0.0.0.0:9091", "check_ports"),
    (BASE + "service.yaml", "appProtocol: kubernetes.io/ws", "appProtocol: kubernetes.io/h2c", "check_ports"),
    (BASE + "service.yaml", "targetPort: http", "targetPort: metrics", "check_ports"),
    (COMPONENTS + "gateway/httproute.yaml", "port: 8080", "port: 80", "check_ports"),
    (COMPONENTS + "podmonitor/podmonitor.yaml", "port: metrics", "port: http", "check_ports"),
    (BASE + "networkpolicy.yaml", "port: metrics", "port: 9091", "check_ports"),
    (COMPONENTS + "keda/scaledobject.yaml", "scaleTargetRef:\n    name: thalweg", "scaleTargetRef:\n    name: server", "check_names"),
    (BASE + "poddisruptionbudget.yaml", "  selector:\n    matchLabels:\n      app.kubernetes.io/name: thalweg\n", "", "check_names"),
    (BASE + "networkpolicy.yaml", "podSelector:\n    matchLabels:\n      app.kubernetes.io/name: thalweg\n", "podSelector: {}\n", "check_names"),
    (COMPONENTS + "keda/kustomization.yaml", "path: /spec/replicas", "path: /spec/progressDeadlineSeconds", "check_names"),
    (COMPONENTS + "podmonitor/podmonitor.yaml", "app.kubernetes.io/name: thalweg", "app: thalweg", "check_names"),
    (SERVICE, "runtime: thalweg", "runtime: triton", "check_names"),
    (SERVICE, "timeout: 0", "timeout: 60", "check_names"),
    (DEPLOYMENT, "THALWEG_THREADS", "THALWEG_THREAD", "check_settings"),
    (DEPLOYMENT, "enableServiceLinks: false", "enableServiceLinks: true", "check_settings"),
    (TOML, "grace_period", 'listen = "0.0.0.0:80"\ngrace_period', "check_settings"),
    (RUNTIME, "THALWEG_LOG_FORMAT", "THALWEG_LOGS", "check_settings"),
    (SERVICE, "enableServiceLinks: false", "enableServiceLinks: true", "check_settings"),
    (TOML, "grace_period = 60", "grace_period = 61", "check_drain"),
    (DEPLOYMENT, "seconds: 5", "seconds: 6", "check_drain"),
    (DEPLOYMENT, "terminationGracePeriodSeconds: 70", "terminationGracePeriodSeconds: 60", "check_drain"),
    (SERVICE, "terminationGracePeriodSeconds: 70", "terminationGracePeriodSeconds: 30", "check_drain"),
    (DEPLOYMENT, "failureThreshold: 60", "failureThreshold: 150", "check_probes"),
    (DEPLOYMENT, "failureThreshold: 18", "failureThreshold: 3", "check_probes"),
    (TOML, "max_connections = 16384", "max_connections = 65536", "check_sizes"),
    (TOML, "max_request_memory = \"1GiB\"", "max_request_memory = \"2GiB\"", "check_sizes"),
    (DEPLOYMENT, "limits: {memory: 2Gi}", "limits: {memory: 1Gi}", "check_sizes"),
    (DEPLOYMENT, "runAsGroup: 100", "runAsGroup: 1000", "check_security"),
    (DEPLOYMENT, "drop: [ALL]", "drop: [NET_RAW]", "check_security"),
    (DEPLOYMENT, "automountServiceAccountToken: false", "automountServiceAccountToken: true", "check_security"),
    (RUNTIME, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "check_security"),
    (DEPLOYMENT, "mountPath: /home/mind/model", "mountPath: /models", "check_volumes"),
    (DEPLOYMENT, "/home/mind/model/.", "/models/.", "check_volumes"),
    (DEPLOYMENT, "/etc/thalweg/thalweg.toml", "/etc/thalweg.toml", "check_volumes"),
    (CUDA, "/var/cache/thalweg", "/var/cache", "check_volumes"),
    (RUNTIME, "/mnt/models", "/models", "check_volumes"),
    (COMPONENTS + "gateway/httproute.yaml", "request: 0s", "request: 60s", "check_gateways"),
]


@pytest.mark.parametrize(("file", "old", "new", "check"), CHANGED, ids=[f"{file} {new}" for file, _, new, _ in CHANGED])
def test_what_is_changed_alone_is_seen(file, old, new, check, copy, settings):
    change(copy / file, old, new)
    folder = "kserve" if file.startswith("kserve") else "kubernetes/overlays/cuda" if file == CUDA else "kubernetes/overlays/cpu"
    with pytest.raises((AssertionError, KeyError)):
        getattr(Pods(copy, folder, IMAGES[folder], settings), check)()


CHANGED_COMPOSE = [
    ("stop_grace_period: 70s", "stop_grace_period: 10s"),
    ("nofile: 32768", "nofile: 1024"),
    ("127.0.0.1:8080:8080", "127.0.0.1:8080:80"),
    ("THALWEG_LOG_FORMAT", "THALWEG_LOGS"),
    ("models}:/home/mind/model:ro", "models}:/models:ro"),
    ("kernels:/var/cache/thalweg", "kernels:/var/cache"),
]


@pytest.mark.parametrize(("old", "new"), CHANGED_COMPOSE, ids=[new for _, new in CHANGED_COMPOSE])
def test_what_is_changed_alone_in_compose_is_seen(old, new, copy, settings):
    change(copy / "compose.yaml", old, new)
    with pytest.raises(AssertionError):
        agreement.check_compose(copy / "compose.yaml", settings)
