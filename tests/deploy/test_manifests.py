"""What is in deploy/ is taken by Kubernetes, by the custom resources' shapes and by compose; what is broken is not."""

import checks
import pytest
from checks import DEPLOY, VERSIONS, Refused

OVERLAYS = ["kubernetes/overlays/cpu", "kubernetes/overlays/cuda"]
# Components that no overlay has, since another is in its place.
OTHERS = {"ingress-nginx", "models-pvc", "models-image-volume"}


def change(file, old, new):
    text = file.read_text()
    assert old in text, f"{file.name} has no {old}"
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", [*OVERLAYS, "kserve"])
def test_kubernetes_takes_it(folder, version, tmp_path):
    checks.check(checks.build(DEPLOY / folder), tmp_path, version)


@pytest.mark.parametrize("component", sorted(OTHERS))
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_other_components_fit_the_overlays(overlay, component, copy, tmp_path):
    change(copy / overlay / "kustomization.yaml", "components:\n", f"components:\n  - ../../components/{component}\n")
    checks.check(checks.build(copy / overlay), tmp_path)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_components_are_those_that_are_checked(overlay):
    used = (DEPLOY / overlay / "kustomization.yaml").read_text()
    components = {folder.name for folder in (DEPLOY / "kubernetes/components").iterdir()}
    assert {name for name in components if f"components/{name}\n" not in used} == OTHERS


def test_compose_takes_it():
    checks.check_compose(DEPLOY / "compose.yaml")


BASE, COMPONENTS = "kubernetes/base/", "kubernetes/components/"

# In which file of the CPU's overlay or of KServe what becomes what, and what is said of it.
BROKEN = [
    (BASE + "deployment.yaml", "enableServiceLinks", "enableServiceLink", "'enableServiceLink' was unexpected"),
    (BASE + "deployment.yaml", "sleep:\n                seconds: 5", "sleep:\n                second: 5", "'seconds' is a required property"),
    (BASE + "deployment.yaml", "failureThreshold: 60", "failureThreshold: sixty", "'sixty' is not of type 'integer'"),
    (BASE + "deployment.yaml", "readOnlyRootFilesystem", "readonlyRootFilesystem", "'readonlyRootFilesystem' was unexpected"),
    (BASE + "deployment.yaml", "apiVersion: apps/v1", "apiVersion: apps/v1beta1", "Couldn't find schema for kind Deployment"),
    (BASE + "service.yaml", "appProtocol", "appProtcol", "'appProtcol' was unexpected"),
    (BASE + "poddisruptionbudget.yaml", "maxUnavailable: 1", "maxUnavailable: [1]", "maxUnavailable"),
    (BASE + "networkpolicy.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: Ingress", "'Ingress' is not of type 'array'"),
    (BASE + "kustomization.yaml", "  - service.yaml", "  - services.yaml", "services.yaml"),
    (COMPONENTS + "gateway/httproute.yaml", "backendRequest: 0s", "backendTimeout: 0s", "'backendTimeout' was unexpected"),
    (COMPONENTS + "gateway/httproute.yaml", "request: 0s", "request: never", "'never' does not match"),
    (COMPONENTS + "gateway/httproute.yaml", "PathPrefix", "Prefix", "'Prefix' is not one of"),
    (COMPONENTS + "gateway/httproute.yaml", "port: 8080", "port: http", "'http' is not of type 'integer'"),
    (COMPONENTS + "gateway/gateway.yaml", "gatewayClassName: eg", "className: eg", "'gatewayClassName' is a required property"),
    (COMPONENTS + "gateway/gateway.yaml", "apiVersion: gateway.networking.k8s.io/v1", "apiVersion: gateway.networking.k8s.io/v1beta2",
     "Couldn't find schema for kind Gateway"),
    (COMPONENTS + "keda/scaledobject.yaml", "stabilizationWindowSeconds: 900", "stabilisationWindowSeconds: 900",
     "'stabilisationWindowSeconds' was unexpected"),
    (COMPONENTS + "keda/scaledobject.yaml", "metricType: Value", "metricType: Values", "'Values' is not one of"),
    (COMPONENTS + "keda/scaledobject.yaml", "threshold: \"0.05\"", "threshold: 0.05", "0.05 is not of type 'string'"),
    (COMPONENTS + "keda/scaledobject.yaml", "ignoreNullValues", "ignoreNull", "'ignoreNull' was unexpected"),
    (COMPONENTS + "keda/scaledobject.yaml", "scaleTargetRef:\n    name: thalweg", "scaleTargetRef: thalweg", "is not of type 'object'"),
    (COMPONENTS + "podmonitor/podmonitor.yaml", "interval: 15s", "scrapeInterval: 15s", "'scrapeInterval' was unexpected"),
    (COMPONENTS + "podmonitor/podmonitor.yaml", "  selector:", "  selectors:", "'selector' is a required property"),
    ("kserve/inferenceservice.yaml", "timeout: 0", "timeoutSeconds: 0", "'timeoutSeconds' was unexpected"),
    ("kserve/inferenceservice.yaml", "protocolVersion: v2", "protocolVersion: v3", "'v3' is not one of"),
    ("kserve/inferenceservice.yaml", "s3://models/voice", "/models/voice", "does not match"),
    ("kserve/clusterservingruntime.yaml", "readOnlyRootFilesystem", "readOnlyRootFileSystem", "'readOnlyRootFileSystem' was unexpected"),
    ("kserve/clusterservingruntime.yaml", "protocolVersions: [v2]", "protocolVersions: v2", "'v2' is not of type 'array'"),
    ("kserve/clusterservingruntime.yaml", "containers:", "container:", "'containers' is a required property"),
]


@pytest.mark.parametrize(("file", "old", "new", "said"), BROKEN, ids=[f"{file} {new}" for file, _, new, _ in BROKEN])
def test_what_is_broken_is_refused(file, old, new, said, copy, tmp_path):
    change(copy / file, old, new)
    with pytest.raises(Refused) as refused:
        checks.check(checks.build(copy / ("kserve" if file.startswith("kserve") else OVERLAYS[0])), tmp_path)
    assert said in str(refused.value)


BROKEN_COMPOSE = [
    ("stop_grace_period", "stop_grace", "'stop_grace' does not match"),
    ("read_only: true", "read_only: 1", "1 is not of type 'boolean'"),
    ("capabilities: [gpu]", "capability: [gpu]", "'capability' does not match"),
    ("volumes:\n  kernels:", "volume:\n  kernels:", "'volume' does not match"),
    ("profiles: [cpu]", "profiles: cpu", "'cpu' is not of type 'array'"),
]


@pytest.mark.parametrize(("old", "new", "said"), BROKEN_COMPOSE, ids=[new for _, new, _ in BROKEN_COMPOSE])
def test_what_is_broken_in_compose_is_refused(old, new, said, copy):
    change(copy / "compose.yaml", old, new)
    with pytest.raises(Refused) as refused:
        checks.check_compose(copy / "compose.yaml")
    assert said in str(refused.value)
