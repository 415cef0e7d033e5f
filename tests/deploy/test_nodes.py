"""The two nodes of the compose file, started as it says over a real PostgreSQL and an S3 server, with nothing changed
but addresses: what one is told the other knows, and when one is killed the other goes on."""

import contextlib
import glob
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import openai
import yaml

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "s3"))

from bucket import Bucket
from chart import ROOT

BINARY = os.path.abspath(os.environ.get("EVERSTATE_TEST_BINARY") or ROOT / "target/debug/everstate")
SKIPS = os.environ.get("EVERSTATE_TEST_SKIP", "").split(",")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Database:
    """PostgreSQL with a directory of its own, as somebody without rights."""

    def __init__(self, name):
        self.folder = tempfile.mkdtemp()
        self.port = free_port()
        who = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        if who:
            os.chown(self.folder, 65534, 65534)
        data = f"{self.folder}/data"
        make = [self.program("initdb"), "-D", data, "-U", "everstate", "-E", "UTF8", "--auth=trust", "--no-sync"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, timeout=120, **who)
        command = [self.program("postgres"), "-D", data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        command += ["-c", f"unix_socket_directories={self.folder}"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=self.folder, **who)
        said = []
        while "ready to accept connections" not in (said or [""])[-1]:
            line = self.process.stderr.readline()
            assert line, "".join(said)
            said.append(line)
        # Read on, so that it never waits to be heard.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        command = [self.program("createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "everstate", name]
        subprocess.run(command, check=True, timeout=60)

    @staticmethod
    def program(name):
        named = os.environ.get("EVERSTATE_TEST_POSTGRES_BIN")
        folders = [named] if named else sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
        found = [f"{it}/{name}" for it in folders if os.path.exists(f"{it}/{name}")]
        found += [it for it in [shutil.which(name)] if it and not named]
        assert found, f"postgres: there is no {name}. Install it with: apt-get install postgresql-15"
        return found[0]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)


def told(text, given):
    """As compose fills in variables."""

    def one(found):
        name, how, rest = found.groups()
        assert name in given or how == ":-", f"{name}: {rest}"
        return given.get(name, rest)

    return re.sub(r"\$\{(\w+)(:[?-])([^}]*)\}", one, text)


class Node:
    def __init__(self, service, given, moved, port, folder):
        env = {name: told(value, given) for name, value in service["environment"].items()}
        words = service["command"]
        for old, new in moved.items():
            env = {name: value.replace(old, new) for name, value in env.items()}
            words = [word.replace(old, new) for word in words]
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("EVERSTATE_", "AWS_"))}
        env = plain | env | {"EVERSTATE_LISTEN": f"127.0.0.1:{port}", "EVERSTATE_LEASE_TTL_MS": "2000"}
        self.env = env
        self.errors = pathlib.Path(folder) / f"stderr-{port}"
        self.process = subprocess.Popen(
            [BINARY, *words], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=self.errors.open("w"), text=True
        )
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), self.errors.read_text()

    def client(self):
        key = self.env["EVERSTATE_ADMIN_KEY"]
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=6)

    def asks(self, *words):
        env = self.env | {"EVERSTATE_URL": self.url}
        done = subprocess.run([BINARY, *words, "--json"], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@contextlib.contextmanager
def composed():
    services = yaml.safe_load((ROOT / "examples/compose.yaml").read_text())["services"]
    names = ["EVERSTATE_ADMIN_KEY", "EVERSTATE_MASTER_KEY", "POSTGRES_PASSWORD", "S3_SECRET"]
    given = {name: secrets.token_hex(32) for name in names}
    database, bucket = Database("everstate"), Bucket()
    bucket.client.create_bucket(Bucket="everstate")
    ports = {name: free_port() for name in ("node-1", "node-2")}
    moved = {f"//{name}:7070": f"//127.0.0.1:{port}" for name, port in ports.items()}
    moved |= {"@postgres:5432": f"@127.0.0.1:{database.port}", "http://s3:8333": bucket.url}
    nodes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, port in ports.items():
                nodes.append(Node(services[name], given, moved, port, folder))
            yield nodes, bucket, given
        finally:
            for node in nodes:
                node.process.kill()
                node.process.wait()
            bucket.stop()
            database.stop()


def test_the_nodes_of_the_compose_file_share_one_state():
    if {"postgres"} & set(SKIPS):
        print("skipped: the nodes of the compose file: there is no PostgreSQL")
        return
    with composed() as ((one, other), bucket, given):
        big = os.urandom(200_000).hex()
        first = one.client().responses.create(model="rehearsal", input=big)
        assert first.status == "completed"
        items = other.client().responses.input_items.list(first.id).data
        assert "".join(part.text for item in items for part in item.content) == big
        assert any(name.startswith("prod/") and name.count("/") == 3 for name in bucket.names("everstate"))
        second = other.client().responses.create(model="rehearsal", input="on", previous_response_id=first.id)
        assert second.status == "completed"
        names = {it["name"] for it in other.asks("node", "list")["items"]}
        assert names == {"node-1", "node-2"}
        assert other.asks("doctor")["ok"]

        one.process.kill()
        one.process.wait()
        third = other.client().responses.create(model="rehearsal", input="and on", previous_response_id=second.id)
        assert third.status == "completed"
        assert other.client().responses.retrieve(first.id).output_text == first.output_text

        other.process.send_signal(signal.SIGTERM)
        assert other.process.wait(timeout=45) == 0, other.errors.read_text()
        said = one.errors.read_text() + other.errors.read_text()
        assert not [name for name, secret in given.items() if secret in said]
