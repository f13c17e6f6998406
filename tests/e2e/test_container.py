"""What the Dockerfile and the Kubernetes manifests run, run: the wheel, their commands, their volumes, their user."""

import contextlib
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from tests.container import USER, Container, Image, Volume, may_contain, read_dockerfile
from tests.e2e.test_framework_examples import uv

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
TOKEN = "fake-token-0001"
ROTATED = "fake-token-0002"
KEY = "fake-key-0001"
SECRET = "${file:/run/secrets/voicegw"
ENDED_S = 60
READY = "claude mcp add"
URL = "http://127.0.0.1:8080/mcp"

pytestmark = pytest.mark.skipif(
    not may_contain(), reason="containers need root and namespaces, which are missing here"
)


def manifest(file, kind):
    (found,) = (
        one for one in yaml.safe_load_all((MANIFESTS / file).read_text("utf-8")) if one["kind"] == kind
    )
    return found


def pod_of(kind):
    if kind == "Deployment":
        return manifest("deployment.yaml", kind)["spec"]["template"]["spec"]
    return manifest("backup.yaml", kind)["spec"]["jobTemplate"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The wheel in an environment of its own, with the dependencies and commands of the Dockerfile."""
    folder = tmp_path_factory.mktemp("image")
    said = read_dockerfile((ROOT / "Dockerfile").read_text("utf-8"))
    uv("build", "--wheel", "--out-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    uv("venv", "--relocatable", "--python", sys.executable, folder / "env")
    constraints = ROOT / "constraints.txt"
    uv("pip", "install", "--compile-bytecode", "--python", folder / "env", "--constraint", constraints, wheel)
    environment = {}
    for name, argument in said:
        if name == "ENV":
            environment.update(part.split("=", 1) for part in shlex.split(argument))
    command = {name: json.loads(argument) for name, argument in said if name in {"ENTRYPOINT", "CMD"}}
    copied = [argument.split() for name, argument in said if name == "COPY"]
    programs = {
        Path(target).name: ROOT / source
        for *_, source, target in copied
        if target.startswith("/usr/local/bin/")
    }
    yield Image(environment, command["ENTRYPOINT"] + command["CMD"], folder / "env", programs)
    shutil.rmtree(folder)


class Node:
    """The folders that a kubelet makes for a pod's volumes."""

    def __init__(self, folder):
        self.folder = folder
        self.turns = 0
        for claim in ("voicegw-data", "voicegw-backups"):
            (folder / claim).mkdir()
            os.chown(folder / claim, 0, int(USER))  # fsGroup
            (folder / claim).chmod(0o2775)
        self.project("config", manifest("configmap.yaml", "ConfigMap")["data"], 0o644)
        self.project("secrets", {"token": TOKEN + "\n", "deepgram": KEY}, 0o440)

    def project(self, name, files, mode):
        """Write a ConfigMap or a Secret as a kubelet does: a link to a new folder takes the place of the old link."""
        self.turns += 1
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        new = folder / f"..2026_11_23_{self.turns}"
        new.mkdir()
        for file, text in files.items():
            (new / file).write_text(text)
            os.chown(new / file, 0, int(USER))
            (new / file).chmod(mode)
            with contextlib.suppress(FileExistsError):
                (folder / file).symlink_to(f"..data/{file}")
        (folder / "..data_tmp").symlink_to(new.name)
        (folder / "..data_tmp").replace(folder / "..data")

    def volumes(self, pod):
        """Return what a manifest mounts into its container; /tmp is there anyway."""
        sources = {volume["name"]: volume for volume in pod["volumes"]}
        (container,) = pod["containers"]
        found = []
        for mount in container["volumeMounts"]:
            source = sources[mount["name"]]
            if "emptyDir" in source:
                assert mount["mountPath"] == "/tmp"  # noqa: S108 - the container's own
                continue
            claim = source.get("persistentVolumeClaim")
            folder = self.folder / (claim["claimName"] if claim else mount["name"])
            found.append(Volume(folder, mount["mountPath"], not mount.get("readOnly", False)))
        return found

    @property
    def data(self):
        return self.folder / "voicegw-data"

    @property
    def backups(self):
        return self.folder / "voicegw-backups"


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.fixture
def start(image, node):
    """Start what a manifest runs; ``command`` takes the place of its own."""
    with contextlib.ExitStack() as stack:

        def start(kind="Deployment", command=None):
            pod = pod_of(kind)
            (container,) = pod["containers"]
            own = container.get("command") or image.command[:1] + container["args"]
            return stack.enter_context(Container(image, node.volumes(pod), command or own))

        yield start


def call(container, tool, *arguments, token=TOKEN):
    """Call a tool of the running server as ``kubectl exec`` would."""
    done = container.execute(
        "voicegw", "call", tool, *arguments, "--url", URL, "--token-env", "TOKEN", TOKEN=token
    )
    return json.loads(done.stdout)


def test_a_pod_takes_changes_on_its_data_volume_and_keeps_them_over_a_restart(node, start, image):
    own = pod_of("Deployment")["containers"][0]["args"]
    assert own[: len(image.command) - 1] == image.command[1:]
    server = start()
    server.output(READY)

    status = server.execute("cat", "/proc/1/status").stdout
    assert f"Uid:\t{USER}\t{USER}" in status
    assert "CapBnd:\t0000000000000000" in status
    tried = server.execute("touch", "/x", "/opt/voicegw/x", "/etc/voicegateway/x", "/run/secrets/voicegw/x")
    assert tried.stderr.count("Read-only file system") == 4

    assert call(server, "get_provider_status")["providers"]["deepgram"]["configured"] is True
    for tool, *arguments in (
        ("register_model", "modality=stt", "provider_id=deepgram", "model_name=nova-3"),
        ("add_provider", "provider_id=eu", "provider_type=deepgram", f"api_key={SECRET}/deepgram}}"),
    ):
        made = call(server, tool, *arguments)
        assert made.get("file") == "/data/voicegw.overlay.yaml", made
    thief = ("provider_id=thief", "provider_type=openai_compatible", "base_url=https://example.com")
    refused = call(server, "add_provider", *thief, f"api_key={SECRET}/token}}")
    assert "token of this gateway itself" in refused["error"]["message"]

    # `kubectl apply` of another ConfigMap and a rotated Secret are in force at the next call.
    text = manifest("configmap.yaml", "ConfigMap")["data"]["voicegw.yaml"]
    node.project("config", {"voicegw.yaml": text + "\nprojects:\n  applied: {name: Applied}\n"}, 0o644)
    assert "applied" in json.dumps(call(server, "list_projects"))
    node.project("secrets", {"token": ROTATED, "deepgram": ""}, 0o440)
    assert call(server, "get_provider_status")["error"]["details"] == {"http_status": 401}
    assert call(server, "get_provider_status", token=ROTATED)["providers"]["deepgram"]["configured"] is False

    grace_s = pod_of("Deployment")["terminationGracePeriodSeconds"]
    assert server.stop(grace_s) == 0, server.output()
    assert [word for word in ("Traceback", KEY, TOKEN, ROTATED) if word in server.output()] == []
    again = start()
    again.output(READY)
    assert "deepgram/nova-3" in json.dumps(call(again, "list_models", token=ROTATED))
    assert again.stop(grace_s) == 0


def test_the_backup_job_copies_the_store_of_a_running_pod_and_a_lost_volume_is_restored_from_it(node, start):
    server = start()
    server.output(READY)
    assert "file" in call(server, "create_project", "project_id=kept", "name=Kept")
    for day in range(10, 24):  # those of two weeks before
        for ending in ("db", "overlay.yaml"):
            (node.backups / f"voicegw-202601{day}T021700Z.{ending}").touch()
    (node.backups / "notes.txt").touch()

    job = start("CronJob")
    assert job.wait(ENDED_S) == 0, job.output()
    left = sorted(path.name for path in node.backups.glob("voicegw-*"))
    assert len(left) == 2 * 14
    assert left[0] == "voicegw-20260111T021700Z.db"
    assert (node.backups / "notes.txt").exists()
    newest, overlay = (node.backups / name for name in left[-2:])
    assert {oct(path.stat().st_mode) for path in (newest, overlay)} == {"0o100600"}

    # Refused while the server runs, though that is the first process of another container.
    restore = f"voicegw restore /backups/{newest.name} && cp /backups/{overlay.name} $VOICEGW_OVERLAY"
    early = start("CronJob", ["sh", "-c", restore])
    assert early.wait(ENDED_S) == 3, early.output()
    assert "Another process has the store" in early.output()

    assert server.stop(pod_of("Deployment")["terminationGracePeriodSeconds"]) == 0
    for path in node.data.iterdir():
        path.unlink()
    late = start("CronJob", ["sh", "-c", restore])
    assert late.wait(ENDED_S) == 0, late.output()
    again = start()
    again.output(READY)
    assert "kept" in json.dumps(call(again, "list_projects"))
    (warning,) = call(again, "get_health")["warnings"]  # so nothing of a file that differs from the journal
    assert "takes no changes here" in warning


def test_a_backup_that_fails_leaves_nothing_behind_and_takes_no_older_one_away(node, start):
    node.data.joinpath("voicegw.overlay.yaml").write_text("projects: {}\n")
    old = node.backups / "voicegw-20260101T000000Z.db"
    old.touch()
    for command, code in (
        (["voicegw-keep-backups", "/backups", "0"], 2),
        (["voicegw-keep-backups", "/backups", "some"], 2),
        (["voicegw-keep-backups", "/backups", "1"], 1),  # there is no store yet
        (["voicegw-keep-backups", "/nowhere", "1"], 1),
    ):
        job = start("CronJob", command)
        assert job.wait(ENDED_S) == code, (command, job.output())
        assert list(node.backups.iterdir()) == [old]


def test_the_example_secret_lets_nobody_in_and_probes_are_answered_by_their_own_host_name(node, start):
    node.project("secrets", manifest("secret.example.yaml", "Secret")["stringData"], 0o440)
    server = start()
    assert "Nobody may call" in server.output(READY)
    assert call(server, "get_health")["error"]["details"] == {"http_status": 401}

    said = read_dockerfile((ROOT / "Dockerfile").read_text("utf-8"))
    (check,) = (argument.partition(" CMD ")[2] for name, argument in said if name == "HEALTHCHECK")
    assert server.execute(*json.loads(check)).returncode == 0
    asleep = start(command=["sh", "-c", "echo awake; exec sleep 60"])
    asleep.output("awake")
    assert asleep.execute(*json.loads(check)).returncode == 1

    (container,) = pod_of("Deployment")["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[name]["httpGet"]
        headers = {header["name"]: header["value"] for header in asked["httpHeaders"]}
        assert probe(server, ports[asked["port"]], asked["path"], headers) == "200"
        assert probe(server, ports[asked["port"]], asked["path"], {"Host": "10.1.2.3:8080"}) == "421"


def test_a_pod_serves_the_dashboard_on_its_own_port_as_well_and_its_figures_to_who_has_a_token(start):
    server = start()
    assert "http://127.0.0.1:9090/   dashboard\n" in server.output(READY)
    (container,) = pod_of("Deployment")["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    (named,) = (port for port in manifest("service.yaml", "Service")["spec"]["ports"] if port["port"] == 9090)
    for port in (ports["http"], ports[named["targetPort"]]):
        host = {"Host": f"voicegw:{port}"}  # the Service, by its own name
        assert probe(server, port, "/", host) == "200"
        assert probe(server, port, "/v1/costs", host) == "401"
        assert probe(server, port, "/v1/costs", host | {"Authorization": f"Bearer {TOKEN}"}) == "200"
        assert probe(server, port, "/", {"Host": f"evil.example:{port}"}) == "421"


def probe(server, port, path, headers):
    code = (
        "import http.client; "
        f"c = http.client.HTTPConnection('127.0.0.1', {port}); c.request('GET', {path!r}, headers={headers!r}); "
        "print(c.getresponse().status)"
    )
    return server.execute("python", "-c", code).stdout.strip()
