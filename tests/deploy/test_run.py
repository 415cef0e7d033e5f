"""What the files of deploy/ start is started, with nothing changed but where things lie."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest
import yaml

from chart import ROOT, read, render

BINARY = os.path.abspath(os.environ.get("EVERSTATE_TEST_BINARY") or ROOT / "target/debug/everstate")
BIN = pathlib.Path(sys.executable).parent
KEY = "an-admin-key-for-tests"
UNIT = ROOT / "deploy/systemd/everstate.service"


def lint(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def run(command, env, folder):
    """Starts a server as told and answers what its probes say; then tells it to stop."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("EVERSTATE_", "AWS_"))}
    env = plain | {"EVERSTATE_ADMIN_KEY": KEY} | env | {"EVERSTATE_LISTEN": "127.0.0.1:0"}
    errors = folder / "stderr"
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=errors.open("w"), text=True)
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), errors.read_text()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        told = {}
        for path in ("/livez", "/readyz", "/metrics"):
            with opener.open(url + path) as answer:
                told[path] = answer.status
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) == 0, errors.read_text()
        return told
    finally:
        process.kill()
        process.wait()


FINE = {"/livez": 200, "/readyz": 200, "/metrics": 200}


# ---- the image ---------------------------------------------------------------------------------


def dockerfile():
    """The last stage: its instructions by name, the newest last."""
    text = (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ")
    last = text.rsplit("\nFROM ", 1)[1]
    told = {}
    for line in last.splitlines()[1:]:
        if line and not line.startswith("#"):
            name, rest = line.split(None, 1)
            told.setdefault(name, []).append(rest)
    return told


def test_the_dockerfile_is_tidy():
    lint(BIN / "hadolint", "--strict-labels", "deploy/Dockerfile")


def test_the_image_is_for_nobody_in_particular():
    told = dockerfile()
    assert told["USER"] == ["65532:65532"]
    assert told["EXPOSE"] == ["7070"] and told["STOPSIGNAL"] == ["SIGTERM"]
    assert json.loads(told["VOLUME"][0]) == ["/var/lib/everstate"] == told["WORKDIR"]
    # Nothing is run in the last stage: it has no shell.
    assert "RUN" not in told


def test_what_the_image_is_built_from_is_let_in(tmp_path):
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    members = re.search(r"members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(), re.S)[1]
    for member in re.findall(r'"([^"]+)"', members):
        assert "!" + member.removesuffix("/*") in ignored, member
    # What is let in is a workspace.
    for name in ignored:
        if name.startswith("!"):
            there = ROOT / name[1:]
            copy = shutil.copytree if there.is_dir() else shutil.copy
            (tmp_path / name[1:]).parent.mkdir(exist_ok=True)
            copy(there, tmp_path / name[1:])
    command = ["cargo", "metadata", "--offline", "--no-deps", "--format-version=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_image_runs_what_it_says(tmp_path):
    told = dockerfile()
    env = dict(pair.split("=", 1) for pair in shlex.split(told["ENV"][0]))
    assert env["EVERSTATE_LISTEN"] == "0.0.0.0:7070"
    state = tmp_path / "state"
    env = {name: value.replace("/var/lib/everstate", str(state)) for name, value in env.items()}
    if not os.path.exists(env["SSL_CERT_FILE"]):
        del env["SSL_CERT_FILE"]
    command = json.loads(told["ENTRYPOINT"][0]) + json.loads(told["CMD"][0])
    assert command[0] == "/usr/local/bin/everstate"
    assert run([BINARY, *command[1:]], env, tmp_path) == FINE
    # All it writes is in the volume.
    assert {it.name for it in tmp_path.iterdir()} == {"state", "stderr"}


# ---- systemd -----------------------------------------------------------------------------------


def systemd(*arguments):
    tool = shutil.which("systemd-analyze")
    if tool is None and "systemd" in os.environ.get("EVERSTATE_TEST_SKIP", ""):
        print("skipped: the unit of systemd: there is no systemd-analyze")
        return
    assert tool, "systemd-analyze: checks the unit. Install it with: apt-get install systemd"
    lint(tool, *arguments)


def unit(name):
    lines = UNIT.read_text().splitlines()
    return [line.split("=", 1)[1] for line in lines if line.startswith(f"{name}=")]


def test_the_unit_is_known_to_systemd(tmp_path):
    # The program has to be there for this.
    there = tmp_path / UNIT.name
    there.write_text(UNIT.read_text().replace("/usr/local/bin/everstate serve", f"{BINARY} serve"))
    systemd("verify", "--man=no", there)
    # Of 100; what is left is that it speaks to the network.
    systemd("security", "--offline=true", "--threshold=15", there)


def test_the_unit_runs_what_it_says(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/everstate.toml").write_text("[server]\n")
    moved = {"/etc/everstate": f"{tmp_path}/etc", "/var/lib/everstate": f"{tmp_path}/lib"}

    def here(text):
        for old, new in moved.items():
            text = text.replace(old, new)
        return text

    command = shlex.split(here(unit("ExecStart")[0]))
    assert command[0] == "/usr/local/bin/everstate"
    env = dict(here(it).split("=", 1) for it in unit("Environment"))
    assert run([BINARY, *command[1:]], env, tmp_path) == FINE
    assert int(unit("TimeoutStopSec")[0]) > 32
    assert unit("StateDirectory") == ["everstate"] and (tmp_path / "lib/state.db").exists()


# ---- Kubernetes --------------------------------------------------------------------------------


def container(*layers):
    objects, _, _ = render(*layers)
    pods = [it for it in objects if it["kind"] in ("Deployment", "StatefulSet")]
    config = next(it for it in objects if it["kind"] == "ConfigMap")["data"]["everstate.toml"]
    return pods[0]["spec"]["template"]["spec"]["containers"][0], config


def test_a_pod_runs_what_it_says(tmp_path):
    told, config = container()
    (tmp_path / "everstate.toml").write_text(config)
    env = {it["name"]: it["value"] for it in told["env"] if "value" in it}
    env = {name: value.replace("/var/lib/everstate", f"{tmp_path}/lib") for name, value in env.items()}
    args = [it.replace("/etc/everstate", str(tmp_path)) for it in told["args"]]
    answered = run([BINARY, *args], env, tmp_path)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert answered[told[probe]["httpGet"]["path"]] == 200


def flags_of(args):
    return {it.split("=", 1)[0] for it in args if it.startswith("--")}


def test_serve_knows_the_flags_of_nodes():
    told, _ = container(read("ci/postgres.yaml"))
    services = yaml.safe_load((ROOT / "examples/compose.yaml").read_text())["services"]
    nodes = [it["command"] for name, it in services.items() if name.startswith("node-")]
    help_ = subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True, timeout=30).stdout
    for args in [told["args"], *nodes]:
        assert args[0] == "serve"
        assert flags_of(args) <= set(re.findall(r"--[a-z-]+", help_)), args


# ---- files of YAML -----------------------------------------------------------------------------


def test_the_compose_file_is_one():
    lint(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "examples/compose.yaml")


def test_nodes_of_the_compose_file_are_equal():
    services = yaml.safe_load((ROOT / "examples/compose.yaml").read_text())["services"]
    nodes = {name: it for name, it in services.items() if name.startswith("node-")}
    assert len(nodes) == 2
    for name, it in nodes.items():
        assert it["read_only"] and it["user"] == "65532:65532" and it["cap_drop"] == ["ALL"]
        assert it["stop_grace_period"] == "45s"
        assert it["command"] == ["serve", f"--node-name={name}", f"--advertise=http://{name}:7070"]
        assert it["environment"]["EVERSTATE_STORE"].startswith("postgres://")
        assert it["environment"]["EVERSTATE_BLOBS"].startswith("s3://")
        assert set(it["depends_on"]) <= set(services)


def test_yaml_is_tidy():
    rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable, "
    rules += "comments: {min-spaces-from-content: 1}, brackets: {max-spaces-inside: 1}, truthy: {check-keys: false}}}"
    chart = "deploy/helm/everstate"
    files = ["examples/compose.yaml", f"{chart}/Chart.yaml", f"{chart}/values.yaml", f"{chart}/ci/postgres.yaml"]
    lint(sys.executable, "-m", "yamllint", "--strict", "-d", rules, *files)
