"""A real server process over a directory of its own, the official client against it, and helpers that fail clearly.

Nothing here sleeps: whatever has to be waited for says so itself.
"""

import contextlib
import http.server
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.request

import openai

KEY = "an-admin-key-for-tests"
BINARY = os.environ.get("EVERSTATE_TEST_BINARY") or os.environ.get("EVERSTATE_BIN") or "target/debug/everstate"


# Databases, one for each server, where these tests are to go through many nodes; else each has a file of its own.
STORES = [it for it in os.environ.get("EVERSTATE_TEST_STORES", "").split(",") if it]
N_NODES = int(os.environ.get("EVERSTATE_TEST_NODES", "2")) if STORES else 1


class Server:
    """`everstate serve`. Stopped or killed, it can be started again over the same directory and port.

    With STORES it is several nodes on one database, and each connection goes to one of them at random."""

    def __init__(self, config="", port=0, env=None):
        self.env = env or {}
        self.home = tempfile.TemporaryDirectory()
        self.dir = pathlib.Path(self.home.name)
        (self.dir / "everstate.toml").write_text(config)
        self.port = port
        self.store = STORES.pop() if STORES else f"sqlite:{self.dir}/state.db"
        self.ports = [port if N_NODES == 1 else 0] * N_NODES
        self.start()

    def start(self):
        plain = ("OPENAI_", "EVERSTATE_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
        env = {name: value for name, value in os.environ.items() if not name.startswith(plain)}
        env |= {"EVERSTATE_ADMIN_KEY": KEY, "RUST_LOG": "warn"} | self.env
        if N_NODES > 1:
            env |= {"EVERSTATE_STORE": self.store, "EVERSTATE_MASTER_KEY": "00" * 32, "EVERSTATE_LEASE_TTL_MS": "2000"}
        self.processes = []
        for n, port in enumerate(self.ports):
            command = [os.path.abspath(BINARY), "serve", "--listen", f"127.0.0.1:{port}"]
            command += ["--node-name", f"n{n}"] if N_NODES > 1 else ["--store", self.store]
            self.processes.append(
                subprocess.Popen(
                    command, cwd=self.dir, env=env, stdout=subprocess.PIPE, stderr=open(self.dir / "stderr", "ab"),
                    text=True,
                )
            )
        urls = [process.stdout.readline().strip() for process in self.processes]
        for url in urls:
            assert url.startswith("http://"), f"did not start: {url!r}\n{(self.dir / 'stderr').read_text()}"
        self.ports = [int(url.rsplit(":", 1)[1]) for url in urls]
        self.process = self.processes[0]
        if N_NODES == 1:
            self.url, self.port = urls[0], self.ports[0]
        elif not self.port:
            self.port = relay(self)
            self.url = f"http://127.0.0.1:{self.port}"
        if N_NODES > 1:
            self.settle()

    def settle(self):
        """Waits until the nodes share what there is."""
        while True:
            nodes = self.own("/nodes")["items"]
            calm = all(it["buckets_moving"] == 0 and it["lag"] == 0 for it in nodes)
            if calm and sum(it["state"] == "alive" for it in nodes) == N_NODES:
                return

    def kill(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            assert process.wait(timeout=60) == 0
        return self

    def client(self, base_url=None, **more):
        return openai.OpenAI(
            base_url=f"{base_url or self.url}/v1", api_key=KEY, _strict_response_validation=True, **more
        )

    def own(self, path, body=None, method=None):
        """Asks /everstate/v1."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/everstate/v1{path}", data=data, method=method)
        request.add_header("Authorization", f"Bearer {KEY}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            return json.load(answer)

    def n_sessions(self):
        return len(self.own("/sessions")["items"])


def relay(server):
    """A port on which each connection is passed on to one of the server's nodes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def run():
        while True:
            client, _ = listener.accept()
            try:
                node = socket.create_connection(("127.0.0.1", random.choice(server.ports)))
            except OSError:
                client.close()
                continue
            for ends in ((client, node), (node, client)):
                threading.Thread(target=pass_on, args=ends, daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


@contextlib.contextmanager
def serving(config=""):
    server = Server(config)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
        server.home.cleanup()


class Bank:
    """Something outside that can be paid. `hold` keeps its answers back until it is set."""

    def __init__(self):
        bank = self
        self.paid = []
        self.keys = []
        self.arrived = threading.Semaphore(0)
        self.hold = threading.Event()
        self.hold.set()

        class Counter(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length") or 0))
                bank.keys.append(self.headers.get("idempotency-key"))
                if bank.keys[-1] not in bank.keys[:-1]:
                    bank.paid.append(self.path)
                bank.arrived.release()
                bank.hold.wait()
                body = json.dumps({"receipt": f"re_{len(bank.paid)}"}).encode()
                with contextlib.suppress(OSError):
                    self.send_response(200)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counter)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def tool(self, name="pay", safety="idempotent", approval=False):
        return (
            f'[[tools]]\nname = "{name}"\ndescription = "Pays an order."\nmethod = "POST"\n'
            f'url = "http://127.0.0.1:{self.server.server_port}/pay/{{order}}"\n'
            f'safety = "{safety}"\napproval = {str(approval).lower()}\nallow_private = true\n'
        )


class Dropper:
    """Passes requests on and drops the first `n_drops` answers: the client sees a lost connection, the server a success."""

    def __init__(self, port, n_drops=1):
        self.to = ("127.0.0.1", port)
        self.n_left = n_drops
        self.heads = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.pass_on, args=(client,), daemon=True).start()

    def pass_on(self, client):
        with client, socket.create_connection(self.to) as server:
            request = self.whole_request(client)
            if not request:
                return
            self.heads.append(request.split(b"\r\n\r\n")[0].decode().lower())
            drops = self.n_left > 0
            self.n_left -= drops
            server.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            while chunk := server.recv(65536):
                if not drops:
                    client.sendall(chunk)

    @staticmethod
    def whole_request(client):
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = client.recv(65536)
            if not chunk:
                return b""
            data += chunk
        head, body = data.split(b"\r\n\r\n", 1)
        found = re.search(rb"(?i)content-length: *(\d+)", head)
        while len(body) < int(found[1] if found else 0):
            body += client.recv(65536)
        head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head)
        return head + b"\r\n\r\n" + body
