"""The Dockerfile and what is in deploy/ for compose, Kubernetes and systemd, read by the linters of those who run them."""

import re
import subprocess
from pathlib import Path

import compose_spec
import kubernetes_validate
import pytest
import yaml
from tests.container import USER, read_dockerfile
from tests.e2e.conftest import BIN, WAIT_S
from tests.programs import program_of

from voicegw_mcp.config.schema import Dashboard, Serve, Settings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "deploy" / "docker" / "compose.yaml"
MANIFESTS = ROOT / "deploy" / "kubernetes"
UNITS = ROOT / "deploy" / "systemd"
MOST_EXPOSED = {"voicegw.service": 15, "voicegw-backup.service": 10}
"""Ten times what ``systemd-analyze security`` may rate a unit: 0 is sealed, 100 is open."""


def objects():
    """Return every Kubernetes object, by file."""
    paths = (path for path in sorted(MANIFESTS.glob("*.yaml")) if path.name != "kustomization.yaml")
    return [(path.name, one) for path in paths for one in yaml.safe_load_all(path.read_text("utf-8"))]


def object_of(kind):
    (found,) = (one for _, one in objects() if one["kind"] == kind)
    return found


def pods():
    server = object_of("Deployment")["spec"]["template"]
    return [server, object_of("CronJob")["spec"]["jobTemplate"]["spec"]["template"]]


def instruction(name):
    (found,) = (argument for own, argument in read_dockerfile(DOCKERFILE.read_text("utf-8")) if own == name)
    return found


def test_hadolint_finds_nothing_in_the_dockerfile():
    done = subprocess.run(
        [BIN / "hadolint", "--no-color", DOCKERFILE],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_number_and_is_ended_by_the_signal_that_the_server_knows():
    assert instruction("USER") == f"{USER}:{USER}"
    assert instruction("STOPSIGNAL") == "SIGTERM"
    copied = [line.split() for line in DOCKERFILE.read_text("utf-8").splitlines() if line.startswith("COPY ")]
    sources = {word for _, *words, _ in copied for word in words if not word.startswith("--")}
    let_in = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert sources - {"/opt/voicegw"} == {line[1:] for line in let_in if line.startswith("!")}
    assert {"*", "**/secrets.env", "**/*.db"} <= {*let_in}


def test_the_compose_file_is_one_and_takes_everything_from_the_container_that_it_does_not_need():
    text = COMPOSE.read_text("utf-8")
    compose_spec.PyCompose.from_yaml(text).validate()
    with pytest.raises(ValueError, match="readonly"):
        compose_spec.PyCompose.from_yaml(text.replace("read_only", "readonly"))
    file = yaml.safe_load(text)
    service = file["services"]["voicegw"]
    assert (service["read_only"], service["cap_drop"], service["user"]) == (True, ["ALL"], f"{USER}:{USER}")
    assert service["security_opt"] == ["no-new-privileges:true"]
    exposed = [int(port) for port in instruction("EXPOSE").split()]
    assert exposed == [Serve().port, Dashboard().port]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in exposed]
    assert (COMPOSE.parent / service["build"]["context"]).resolve() == ROOT
    volumes = dict(volume.split(":", 1) for volume in service["volumes"])
    assert volumes["data"] == instruction("VOLUME")
    assert volumes["./config"] == "/etc/voicegateway:ro"


def test_kubernetes_leads_to_every_port_of_the_image():
    (container,) = pods()[0]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert [str(port) for port in ports.values()] == instruction("EXPOSE").split()
    led = {port["targetPort"]: port["port"] for port in object_of("Service")["spec"]["ports"]}
    assert led == ports
    (rule,) = object_of("NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == {*ports}


def test_the_configurations_are_valid_and_name_the_secrets_that_are_mounted():
    for text, mounted in (
        (
            (COMPOSE.parent / "config" / "voicegw.yaml").read_text("utf-8"),
            {
                secret["target"]
                for secret in yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]["voicegw"]["secrets"]
            },
        ),
        (
            object_of("ConfigMap")["data"]["voicegw.yaml"],
            {f"/run/secrets/voicegw/{name}" for name in object_of("Secret")["stringData"]},
        ),
    ):
        Settings.model_validate(yaml.safe_load(text))
        assert {*re.findall(r"\$\{file:([^}]+)\}", text)} == mounted


@pytest.mark.parametrize(
    ("file", "one"), objects(), ids=lambda value: value if isinstance(value, str) else value["kind"]
)
def test_kubernetes_knows_every_field_of_a_manifest(file, one):
    kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    assert "namespace" not in one["metadata"], file


def test_a_misspelt_field_of_a_manifest_would_be_found():
    one = object_of("Deployment")
    one["spec"]["template"]["spec"]["automountServiceAccountTokens"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_holds_every_manifest_but_the_example_of_a_secret():
    kustomization = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text("utf-8"))
    assert {*kustomization["resources"]} == {file for file, _ in objects()} - {"secret.example.yaml"}
    (image,) = kustomization["images"]
    assert {pod["spec"]["containers"][0]["image"] for pod in pods()} == {image["name"]}
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert image["newTag"] == version[1]
    assert not any(object_of("Secret")["stringData"].values())


def test_what_the_objects_say_of_each_other_is_there():
    names = {(one["kind"], one["metadata"]["name"]) for _, one in objects()}
    for pod in pods():
        spec = pod["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in names
        for volume in spec["volumes"]:
            named = [
                *(("ConfigMap", volume[key]["name"]) for key in ("configMap",) if key in volume),
                *(("Secret", volume[key]["secretName"]) for key in ("secret",) if key in volume),
                *(
                    ("PersistentVolumeClaim", volume[key]["claimName"])
                    for key in ("persistentVolumeClaim",)
                    if key in volume
                ),
            ]
            assert {*named} <= names
        assert {mount["name"] for mount in spec["containers"][0]["volumeMounts"]} == {
            volume["name"] for volume in spec["volumes"]
        }
    server, backup = (pod["metadata"]["labels"].items() for pod in pods())
    chosen = object_of("Service")["spec"]["selector"].items()
    assert chosen <= server
    assert not chosen <= backup  # the job's pod gets no requests
    assert object_of("Deployment")["spec"]["selector"]["matchLabels"].items() <= server
    assert object_of("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= server & backup
    (asked,) = pods()[1]["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert asked["labelSelector"]["matchLabels"].items() <= server
    assert object_of("Service")["metadata"]["name"] in pods()[0]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("pod", pods(), ids=["server", "backup"])
def test_a_pod_has_no_right_that_it_does_not_need(pod):
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {spec["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {int(USER)}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]


def test_one_server_at_a_time_has_the_store():
    server, backup = object_of("Deployment")["spec"], object_of("CronJob")["spec"]
    assert (server["replicas"], server["strategy"]) == (1, {"type": "Recreate"})
    assert backup["concurrencyPolicy"] == "Forbid"


def analyze(folder, *arguments):
    done = subprocess.run(
        [program_of("systemd", "systemd-analyze"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def units(tmp_path):
    """The units, with a program in place of ours that is installed here."""
    for path in UNITS.iterdir():
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text("utf-8"), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text)
    return tmp_path


def test_systemd_knows_every_line_of_the_units(units):
    for path in UNITS.iterdir():
        assert analyze(units, "verify", f"./{path.name}") == (0, ""), path.name
    broken = units / "voicegw.service"
    broken.write_text(broken.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert "ProtectSytem" in analyze(units, "verify", "./voicegw.service")[1]


@pytest.mark.parametrize(("name", "most"), MOST_EXPOSED.items())
def test_systemd_finds_the_units_sealed(units, name, most):
    code, told = analyze(units, "security", "--offline=true", f"--threshold={most}", f"./{name}")
    assert code == 0, told


def test_the_units_keep_the_store_where_the_backup_looks_for_it():
    server, backup = (
        {*re.findall(r"^Environment=(VOICEGW_.+)$", (UNITS / name).read_text("utf-8"), re.MULTILINE)}
        for name in MOST_EXPOSED
    )
    assert server == backup
    assert "VOICEGW_DB_PATH=/var/lib/voicegw/voicegw.db" in server
