"""What `deploy/` holds is what Kubernetes, systemd and nginx take, and says what is so here."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
import yaml
from typer import Context
from typer.main import get_group

from infrawatch.cli.commands import app
from infrawatch.settings import AgentSettings, LogSettings, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VARIABLES = {
    f"INFRAWATCH_{name.upper()}"
    for kind in (Settings, AgentSettings, LogSettings)
    for name in kind.model_fields
}
GROUP = get_group(app)
COMMANDS = GROUP.list_commands(Context(GROUP))

MANIFESTS: dict[str, dict[str, Any]] = {
    document["kind"]: document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text("utf-8"))
}
PODS = [MANIFESTS[kind]["spec"]["template"] for kind in ("Deployment", "Job")]
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SYSTEMD = shutil.which("systemd-analyze")
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


def faults(value: Any, hint: Any, place: str) -> Iterator[str]:
    """How a manifest differs from the type that Kubernetes' own description gives it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = [one for one in arguments if one is not NoneType]
        found = [list(faults(value, one, place)) for one in kinds]
        yield from min(found, key=len)
    elif origin is list:
        yield from () if isinstance(value, list) else [f"{place} is no list"]
        for number, one in enumerate(value):
            yield from faults(one, arguments[0], f"{place}[{number}]")
    elif hint is dict:
        if not all(isinstance(one, str) for one in value.values()):
            yield f"{place} has values that are no text"
    elif hint in (str, int, bool, float, datetime):
        if type(value) is not hint:
            yield f"{place} is {value!r}, no {hint.__name__}"
    else:
        yield from faults_of_object(value, hint, place)


def faults_of_object(value: Any, hint: Any, place: str) -> Iterator[str]:
    fields = {name.rstrip("_"): one for name, one in get_type_hints(hint).items()}
    for name, one in fields.items():
        if name not in value and NoneType not in get_args(one):
            yield f"{place}.{name} is missing"
    for name, one in value.items():
        if name in fields:
            yield from faults(one, fields[name], f"{place}.{name}")
        else:
            yield f"{place}.{name} does not exist"


def faults_of(manifest: dict[str, Any]) -> list[str]:
    group, _, version = manifest["apiVersion"].rpartition("/")
    module = import_module(f"lightkube.models.{group.partition('.')[0] or 'core'}_{version}")
    return list(faults(manifest, getattr(module, manifest["kind"]), manifest["kind"]))


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_is_what_kubernetes_describes(kind: str) -> None:
    assert faults_of(MANIFESTS[kind]) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"replicas": "two"}, "Deployment.spec.replicas is 'two', no int"),
        ({"replica": 2}, "Deployment.spec.replica does not exist"),
        ({"template": {"spec": {}}}, "Deployment.spec.template.spec.containers is missing"),
        ({"selector": {"matchLabels": {"a": 1}}}, "spec.selector.matchLabels has values that"),
    ],
)
def test_a_manifest_that_kubernetes_would_refuse_is_found(
    change: dict[str, Any], fault: str
) -> None:
    manifest = MANIFESTS["Deployment"]
    [found] = faults_of(manifest | {"spec": manifest["spec"] | change})
    assert fault in found


def test_kubernetes_gets_everything_that_a_service_needs() -> None:
    assert set(MANIFESTS) == {
        *("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"),
        *("Job", "NetworkPolicy"),
    }


@pytest.mark.parametrize("pod", PODS)
def test_pods_run_without_privileges(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    [container] = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in spec["volumes"]}


@pytest.mark.parametrize("pod", PODS)
def test_pods_call_commands_and_set_variables_that_exist(pod: dict[str, Any]) -> None:
    [container] = pod["spec"]["containers"]
    assert container["args"][0] in COMMANDS
    assert VARIABLES.issuperset(one["name"] for one in container["env"])


def test_selectors_of_kubernetes_find_the_servers_and_not_the_migration() -> None:
    servers, migration = (pod["metadata"]["labels"].items() for pod in PODS)
    selectors = [
        MANIFESTS["Service"]["spec"]["selector"],
        *(
            MANIFESTS[kind]["spec"]["selector"]["matchLabels"]
            for kind in ("Deployment", "PodDisruptionBudget")
        ),
    ]
    for selector in selectors:
        assert selector.items() <= servers
        assert not selector.items() <= migration
    policy = MANIFESTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items()
    assert policy <= servers
    assert policy <= migration


def test_kubernetes_probes_what_the_server_has_on_the_port_it_listens_to() -> None:
    [container] = PODS[0]["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness")}
    assert {probe["path"] for probe in probes.values()} == {"/livez"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["readinessProbe"]["timeoutSeconds"] > 3  # our own checks take that long
    assert ports == {"http": Settings(_env_file=None).port}
    assert MANIFESTS["Service"]["spec"]["ports"][0]["targetPort"] == "http"


def test_kubernetes_waits_longer_than_a_server_drains() -> None:
    [container] = PODS[0]["spec"]["containers"]
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = Settings(_env_file=None).drain_deadline.total_seconds()
    assert PODS[0]["spec"]["terminationGracePeriodSeconds"] > before + drain


@pytest.mark.skipif(SYSTEMD is None, reason="NOT TESTED: no systemd-analyze here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = Path(sys.executable)
    for unit in UNITS:
        text = unit.read_text("utf-8").replace("/opt/infrawatch/bin/infrawatch", str(program))
        (tmp_path / unit.name.replace("@", "@8001")).write_text(text)
    assert SYSTEMD is not None
    verified = subprocess.run(
        [SYSTEMD, "verify", *tmp_path.iterdir()], capture_output=True, text=True, check=False
    )
    ours = [line for line in verified.stderr.splitlines() if str(tmp_path) in line]
    assert (ours, verified.returncode) == ([], 0)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_call_commands_and_set_variables_that_exist(unit: Path) -> None:
    text = unit.read_text("utf-8")
    called = re.findall(r"^Exec\w+=\S+/infrawatch (\S+)", text, re.MULTILINE)
    assert called
    assert set(COMMANDS).issuperset(called)
    assert VARIABLES.issuperset(re.findall(r"^Environment=(\w+)=", text, re.MULTILINE))


def test_the_environment_of_systemd_has_variables_that_exist() -> None:
    text = (DEPLOY / "systemd" / "infrawatch.env").read_text("utf-8")
    names = re.findall(r"^(?:# )?(\w+)=", text, re.MULTILINE)
    assert len(names) > 3
    assert VARIABLES.issuperset(names)


@pytest.mark.skipif(NGINX is None, reason="NOT TESTED: no nginx here; `make peers` installs it")
@pytest.mark.parametrize("upstream", ["upstream.conf", "upstream.compose.conf"])
def test_nginx_takes_its_configuration(upstream: str, tmp_path: Path) -> None:
    text = (DEPLOY / "nginx" / upstream).read_text("utf-8")
    # What only a newer nginx knows than Debian's, and names that only Docker knows.
    text = text.replace("resolver 127.0.0.11 valid=5s;", "").replace("api:8000 resolve", "[::1]:1")
    (tmp_path / "upstream.conf").write_text(text)
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; include {DEPLOY}/nginx/infrawatch.conf;"
        f" include {tmp_path}/upstream.conf; }}\n"
    )
    assert NGINX is not None
    tested = subprocess.run([NGINX, "-t", "-c", main], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr


def test_nginx_answers_with_our_problem_when_no_server_does() -> None:
    text = (DEPLOY / "nginx" / "infrawatch.conf").read_text("utf-8")
    found = re.search(r"return 503 '(.*)';", text)
    assert found is not None
    problem = json.loads(found[1])
    assert (problem["status"], problem["code"]) == (503, "unavailable")
