"""The manifests, rendered by kustomize: valid, restrictive, and in agreement with the
code's names.
"""

import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.settings import Settings
from tests.unit.test_monitoring_files import known_metrics

ROOT = Path(__file__).parents[2]

BATCHES_IN_FLIGHT_S = 25
"""A worker on busy cores finishes its batches within this after SIGTERM."""
K8S = ROOT / "deploy" / "k8s"
KUBERNETES = "1.31"
KINDS_OF_OTHERS = {"ScaledObject", "PodMonitor"}
"""Custom resources. Their fields are compared with the references of KEDA and the operator
below.
"""

SCALED_OBJECT = {
    "scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod",
    "idleReplicaCount", "minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers",
}  # fmt: skip
PROMETHEUS_TRIGGER = {
    "serverAddress", "query", "threshold", "activationThreshold", "namespace", "ignoreNullValues",
    "queryParameters", "customHeaders", "unsafeSsl", "timeout", "authModes",
}  # fmt: skip

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is missing")

Manifest = dict[str, Any]


@cache
def rendered(overlay: str | Path) -> list[Manifest]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(K8S / overlay)], capture_output=True, text=True, check=True
    )
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@pytest.fixture(params=["cpu", "gpu"])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(request.param)


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def settings_of(manifests: list[Manifest]) -> dict[str, str]:
    """The ConfigMap that API, worker and migration read. Its name ends in a hash of its content."""
    [found] = [one for one in manifests if one["kind"] == "ConfigMap"]
    read = [
        source["configMapRef"]["name"]
        for name, pod in pods(manifests)
        if name != "matting-flower"
        for source in pod["spec"]["containers"][0]["envFrom"]
        if "configMapRef" in source
    ]
    assert read == [found["metadata"]["name"]] * 3
    data: dict[str, str] = found["data"]
    return data


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for one in manifests:
        if one["kind"] in ("Deployment", "Job"):
            yield one["metadata"]["name"], one["spec"]["template"]


def test_every_object_fits_the_schema_of_its_kind(manifests: list[Manifest]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="make deploy-check installs it")
    for one in manifests:
        if one["kind"] not in KINDS_OF_OTHERS:
            validate.validate(one, KUBERNETES, strict=True)


def test_a_wrong_field_is_noticed() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="make deploy-check installs it")
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "datum": {}}
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, KUBERNETES, strict=True)


def test_the_autoscaler_uses_known_fields_and_existing_metrics(
    manifests: list[Manifest],
) -> None:
    spec = named(manifests, "ScaledObject", "matting-worker")["spec"]
    assert set(spec) <= SCALED_OBJECT
    target = named(manifests, "Deployment", spec["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"], "two owners would fight over it"
    assert spec["minReplicaCount"] == 0
    queries = []
    for trigger in spec["triggers"]:
        assert trigger["type"] == "prometheus"
        assert set(trigger["metadata"]) <= PROMETHEUS_TRIGGER
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        queries.append(trigger["metadata"]["query"])
    asked = set(re.findall(r"\bmatting_[a-z_]+", " ".join(queries)))
    assert asked == {
        "matting_backlog_images", "matting_running_images", "matting_queue_oldest_seconds",
    }  # fmt: skip
    assert asked <= known_metrics()


def test_every_container_has_minimal_privileges(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "memory" in container["resources"]["limits"], name
            assert "memory" in container["resources"]["requests"], name
            assert re.fullmatch(r"registry\.example\.com/matting:\S+-(cpu|gpu)", container["image"])
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]], name


def test_probes_use_existing_ports_and_routes(manifests: list[Manifest]) -> None:
    from api.app import create_app

    routes = set(create_app(Settings()).openapi()["paths"])
    worker = set(
        re.findall(r'case "(/\w+)"', (ROOT / "worker" / "consumer" / "probes.py").read_text())
    )
    assert worker == {"/metrics", "/healthz", "/readyz"}
    for name, answers in (
        ("matting-api", routes),
        ("matting-worker", worker),
        ("matting-flower", {"/healthcheck"}),
    ):
        [container] = named(manifests, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if kind in container:
                assert container[kind]["httpGet"]["port"] in ports
                assert container[kind]["httpGet"]["path"] in answers
    [api] = named(manifests, "Deployment", "matting-api")["spec"]["template"]["spec"]["containers"]
    assert api["readinessProbe"]["httpGet"]["path"] == "/healthz", "or zero workers stay zero"


def test_a_warming_worker_is_not_restarted_and_a_hanging_one_is(
    manifests: list[Manifest],
) -> None:
    spec = named(manifests, "Deployment", "matting-worker")["spec"]["template"]["spec"]
    [worker] = spec["containers"]
    paths = {
        kind: worker[kind]["httpGet"]["path"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    # Kubernetes uses the liveness probe only after the startup probe succeeded.
    assert paths == {
        "startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz",
    }  # fmt: skip
    patience = worker["startupProbe"]
    assert patience["periodSeconds"] * patience["failureThreshold"] >= 1_200, "TensorRT builds"


def test_a_worker_gets_enough_time_to_stop(manifests: list[Manifest]) -> None:
    spec = named(manifests, "Deployment", "matting-worker")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= 2 * BATCHES_IN_FLIGHT_S


def test_variables_are_settings_and_metrics_ports_agree(manifests: list[Manifest]) -> None:
    text = "\n".join(path.read_text() for path in K8S.rglob("*") if path.is_file())
    known = {f"MATTING_{name}".upper() for name in Settings.model_fields}
    assert set(re.findall(r"\bMATTING_[A-Z0-9_]+\b", text)) <= known
    port = int(settings_of(manifests)["MATTING_WORKER_METRICS_PORT"])
    spec = named(manifests, "Deployment", "matting-worker")["spec"]["template"]["spec"]
    assert spec["containers"][0]["ports"] == [{"name": "metrics", "containerPort": port}]
    policy = named(manifests, "NetworkPolicy", "matting-worker-in")["spec"]
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port}]


def test_every_setting_of_the_settings_file_reaches_the_pods(tmp_path: Path) -> None:
    wanted = {f"MATTING_{name}".upper(): f"value of {name}" for name in Settings.model_fields}
    (tmp_path / "mine.env").write_text("".join(f"{key}={wanted[key]}\n" for key in wanted))
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{os.path.relpath(K8S / 'cpu', tmp_path)}]\n"
        "configMapGenerator: [{ name: matting, behavior: merge, envs: [mine.env] }]\n"
    )
    assert settings_of(rendered(tmp_path)).items() >= wanted.items()


def test_services_named_matting_give_pods_no_variables(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests):
        assert pod["spec"]["enableServiceLinks"] is False, name


def test_zip_files_fit_into_the_api_s_tmp(manifests: list[Manifest]) -> None:
    spec = named(manifests, "Deployment", "matting-api")["spec"]["template"]["spec"]
    limit = spec["volumes"][0]["emptyDir"]["sizeLimit"]
    data = settings_of(manifests)
    assert limit.endswith("Gi")
    assert int(data["MATTING_ARCHIVE_DISK_BYTES"]) <= int(limit[:-2]) * 1024**3 // 2


def test_a_clip_fits_into_a_worker_s_tmp(manifests: list[Manifest]) -> None:
    most = int(settings_of(manifests)["MATTING_CLIP_DISK_BYTES"])
    for name, pod in pods(manifests):
        tmp = [one for one in pod["spec"].get("volumes", ()) if one["name"] == "tmp"]
        if "worker" in name:
            assert most < int(tmp[0]["emptyDir"]["sizeLimit"].removesuffix("Gi")) * 1024**3, name


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "triton", "local"])
def test_the_pixels_of_a_worker_fit_into_its_memory(overlay: str) -> None:
    pod = named(rendered(overlay), "Deployment", "matting-worker")["spec"]["template"]["spec"]
    [worker] = [one for one in pod["containers"] if one["name"] == "worker"]
    given = {one["name"]: one.get("value") for one in worker["env"]}
    usual = Settings.model_fields["max_decoded_pixels"].default
    pixels = int(given.get("MATTING_MAX_DECODED_PIXELS") or usual)
    limit = int(worker["resources"]["limits"]["memory"].removesuffix("Gi")) * 1024**3
    assert pixels * 10 + 1_000_000_000 <= limit
    # One photo of the largest size gets the whole budget, whatever it takes.
    assert Settings.model_fields["max_image_pixels"].default * 40 + 1_000_000_000 <= limit


def test_selectors_find_their_pods(manifests: list[Manifest]) -> None:
    labels = [pod["metadata"]["labels"] for _, pod in pods(manifests)]
    for one in manifests:
        spec = one.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector"))
        wanted = (selector or {}).get("matchLabels", selector or {})
        if one["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
            wanted = {key: value for key, value in wanted.items() if isinstance(value, str)}
            assert any(wanted.items() <= found.items() for found in labels), one["metadata"]


def test_network_policies_deny_everything_that_they_do_not_name(manifests: list[Manifest]) -> None:
    nothing = named(manifests, "NetworkPolicy", "matting-nothing")["spec"]
    assert nothing["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(nothing)
    assert not [one for one in manifests if one["kind"] == "Secret"], "secrets are made by hand"
    [flower] = named(manifests, "Deployment", "matting-flower")["spec"]["template"]["spec"][
        "containers"
    ]
    names = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in flower["env"]}
    needed = {name for name, one in names.items() if not one.get("optional")}
    assert needed == {"FLOWER_BASIC_AUTH", "MATTING_REDIS_URL"}, "no password, no Flower"
    assert set(names) - needed == {
        "MATTING_REDIS_SENTINEL_MASTER", "MATTING_REDIS_SENTINEL_PASSWORD",
    }, "no key of S3, no password else"  # fmt: skip
    reached = {
        one["metadata"]["name"]
        for one in manifests
        if one["kind"] == "NetworkPolicy" and one["spec"].get("ingress")
    }
    assert reached == {"matting-api-in", "matting-worker-in"}, "Flower by port-forward only"


def addresses(
    policy: Manifest,
) -> Iterator[tuple[ipaddress.IPv4Network, list[ipaddress.IPv4Network]]]:
    """The networks that a policy allows as destinations, each with its exceptions."""
    for rule in policy["spec"].get("egress", ()):
        assert rule.get("to"), "a rule that names no peer leads everywhere"
        assert rule.get("ports"), "a rule that names no port leads to every one"
        for peer in rule["to"]:
            block = peer.get("ipBlock")
            if block and ":" not in block["cidr"]:
                taken = [ipaddress.IPv4Network(one) for one in block.get("except", ())]
                yield ipaddress.IPv4Network(block["cidr"]), taken


def test_outgoing_traffic_has_named_destinations(manifests: list[Manifest]) -> None:
    policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    documentation = ipaddress.IPv4Network("192.0.2.0/24")
    for policy in policies:
        name = policy["metadata"]["name"]
        for network, taken in addresses(policy):
            if name == "matting-web-out":
                for inside in PRIVATE:
                    covered = any(ipaddress.IPv4Network(inside).subnet_of(one) for one in taken)
                    assert covered, f"the web leads into {inside}"
            elif name == "matting-parts-outside":
                assert network.subnet_of(documentation), "it leads nowhere until it is filled in"
            else:
                assert str(network) == "169.254.20.10/32", "the node's cache of names"
    web = named(manifests, "NetworkPolicy", "matting-web-out")["spec"]
    assert {port["port"] for rule in web["egress"] for port in rule["ports"]} == {80, 443}
    [who] = web["podSelector"]["matchExpressions"]
    assert who["values"] == ["api", "worker"]


def test_the_ingress_uses_tls_and_hides_internal_routes(tmp_path: Path) -> None:
    here = tmp_path / "own"
    here.mkdir()
    (here / "kustomization.yaml").write_text(
        f"resources: [{os.path.relpath(K8S / 'cpu', here)}]\n"
        f"components: [{os.path.relpath(K8S / 'ingress', here)}]\n"
    )
    manifests = rendered(here)
    ingress = named(manifests, "Ingress", "matting-api")
    validate = pytest.importorskip("kubernetes_validate", reason="make deploy-check installs it")
    validate.validate(ingress, KUBERNETES, strict=True)
    [rule] = ingress["spec"]["rules"]
    [tls] = ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]
    service = named(manifests, "Service", "matting-api")
    ports = {port["name"] for port in service["spec"]["ports"]}
    paths = {}
    for path in rule["http"]["paths"]:
        backend = path["backend"]["service"]
        assert (backend["name"], backend["port"]["name"] in ports) == ("matting-api", True)
        paths[path["path"]] = path["pathType"]

    def shown(route: str) -> bool:
        parts = route.split("/")
        return any(
            route == path or (kind == "Prefix" and parts[: path.count("/") + 1] == path.split("/"))
            for path, kind in paths.items()
        )

    from api.app import create_app

    routes = set(create_app(Settings()).openapi()["paths"])
    # pages, and the files that /docs loads
    routes |= {
        "/",
        "/console/jobs",
        "/console/static/page.js",
        "/static-offline-docs/swagger-ui.css",
    }
    inside = {"/metrics", "/readyz"}
    assert {route for route in routes if not shown(route)} == inside
    size = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert size == "1g"
    assert Settings().max_request_bytes == 1024**3


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_every_component_fits_every_overlay(overlay: str, tmp_path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="make deploy-check installs it")
    components = sorted(
        path.parent.name
        for path in K8S.glob("*/kustomization.yaml")
        if "kind: Component" in path.read_text()
    )
    used = (K8S / overlay / "kustomization.yaml").read_text()
    more = [one for one in components if f"\n  - ../{one}" not in used]
    assert {"ingress", "irsa", "prepull", "spot"} <= set(more)
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{os.path.relpath(K8S / overlay, tmp_path)}]\n"
        f"components: [{', '.join(os.path.relpath(K8S / one, tmp_path) for one in more)}]\n"
    )
    manifests = rendered(tmp_path)
    for one in manifests:
        if one["kind"] not in KINDS_OF_OTHERS:
            validate.validate(one, KUBERNETES, strict=True)
    spec = named(manifests, "Deployment", "matting-worker")["spec"]["template"]["spec"]
    assert spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    # an added list must not have replaced what the overlay needs
    taints = {one["key"] for one in spec["tolerations"]}
    assert taints >= {"nvidia.com/gpu", "cloud.google.com/gke-spot"}
    assert spec["topologySpreadConstraints"]


def test_the_overlay_for_trying_is_valid_and_complete() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="make deploy-check installs it")
    manifests = rendered("local")
    for one in manifests:
        validate.validate(one, KUBERNETES, strict=True)
        assert one["metadata"]["namespace"] == "matting"
    parts = named(manifests, "Deployment", "parts")["spec"]["template"]["spec"]["containers"]
    served = {port["port"] for port in named(manifests, "Service", "parts")["spec"]["ports"]}
    assert {port["containerPort"] for one in parts for port in one["ports"]} == served
    compose = (ROOT / "docker-compose.yml").read_text()
    assert {one["image"] for one in parts} <= {
        service["image"] for service in yaml.safe_load(compose)["services"].values()
    }, "the releases that compose runs"


def test_a_role_takes_the_place_of_the_access_key(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{os.path.relpath(K8S / 'cpu', tmp_path)}]\n"
        f"components: [{os.path.relpath(K8S / 'irsa', tmp_path)}]\n"
    )
    manifests = rendered(tmp_path)
    account = named(manifests, "ServiceAccount", "matting")
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].startswith("arn:aws:")
    accounts = {name: pod["spec"].get("serviceAccountName") for name, pod in pods(manifests)}
    assert accounts == {
        "matting-api": "matting", "matting-worker": "matting", "matting-migrate": "matting",
        "matting-flower": None,
    }  # fmt: skip
    validate = pytest.importorskip("kubernetes_validate", reason="make deploy-check installs it")
    for one in manifests:
        if one["kind"] not in KINDS_OF_OTHERS:
            validate.validate(one, KUBERNETES, strict=True)


def test_the_documented_command_makes_one_rule_of_the_alerts() -> None:
    [command] = re.findall(
        r"^(\{ printf .*?; \}) \| kubectl", (K8S / "README.md").read_text(), re.M | re.S
    )
    done = subprocess.run(
        ["bash", "-euc", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rule = yaml.safe_load(done.stdout)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    alerts = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    assert rule["spec"] == alerts


def test_alerts_use_the_scraped_job_names(manifests: list[Manifest]) -> None:
    jobs = {
        rule["replacement"]
        for one in manifests
        if one["kind"] == "PodMonitor"
        for point in one["spec"]["podMetricsEndpoints"]
        for rule in point["relabelings"]
        if rule["targetLabel"] == "job"
    }
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert jobs | {"matting-triton"} == {one["job_name"] for one in config["scrape_configs"]}


@pytest.mark.parametrize("overlay", ["gpu", "triton"])
def test_workers_of_one_overlay_share_a_volume_of_models(overlay: str) -> None:
    spec = named(rendered(overlay), "Deployment", "matting-worker")["spec"]["template"]["spec"]
    [models] = [one for one in spec["volumes"] if one["name"] == "models"]
    assert models == {"name": "models", "persistentVolumeClaim": {"claimName": "matting-models"}}


def test_workers_of_the_triton_overlay_reach_the_server_and_nobody_else_does() -> None:
    manifests = rendered("triton")
    validate = pytest.importorskip("kubernetes_validate", reason="make deploy-check installs it")
    for one in manifests:
        if one["kind"] not in KINDS_OF_OTHERS:
            validate.validate(one, KUBERNETES, strict=True)
    test_selectors_find_their_pods(manifests)
    test_services_named_matting_give_pods_no_variables(manifests)
    spec = named(manifests, "Deployment", "matting-triton")["spec"]["template"]["spec"]
    [server], [repository] = spec["containers"], spec["initContainers"]
    for container in (server, repository):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert server["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert repository["command"][:3] == ["matting", "models", "export-triton"]
    claims = {one["name"]: one.get("persistentVolumeClaim") for one in spec["volumes"]}
    pods = named(manifests, "Deployment", "matting-worker")["spec"]["template"]["spec"]
    [worker] = pods["containers"]
    assert repository["envFrom"] == worker["envFrom"], "the same settings name the same models"
    assert {one["mountPath"] for one in repository["volumeMounts"]} >= {"/models"}
    assert claims["models"] in [one.get("persistentVolumeClaim") for one in pods["volumes"]]
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    service = named(manifests, "Service", "matting-triton")["spec"]
    assert (service["clusterIP"], service["ports"][0]["port"]) == ("None", ports["grpc"])
    env = {one["name"]: one["value"] for one in worker["env"]}
    assert env["MATTING_DEVICE"] == "triton"
    assert env["MATTING_TRITON_URL"] == f"grpc://matting-triton:{ports['grpc']}"
    assert "nvidia.com/gpu" not in worker["resources"]["limits"]
    policy = named(manifests, "NetworkPolicy", "matting-triton-in")["spec"]
    allowed = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert allowed == [ports["grpc"], ports["metrics"]]
    triggers = named(manifests, "ScaledObject", "matting-worker")["spec"]["triggers"]
    assert [one["type"] for one in triggers] == ["prometheus", "prometheus", "cpu"]
    monitors = {one["metadata"]["name"] for one in manifests if one["kind"] == "PodMonitor"}
    assert "matting-triton" in monitors
