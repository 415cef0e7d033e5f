"""A server whose blobs are in a bucket: big messages, and what clients see when the bucket cannot be reached."""

import base64
import datetime
import http.server
import json
import os
import pathlib
import select
import socket
import subprocess
import sys
import threading

import openai
import pytest

sys.path.append(str(pathlib.Path(__file__).parent.parent / "sdk"))

from bucket import BUCKET, Bucket
from server import BINARY, KEY, Server

BIG = 1_000_000


@pytest.fixture(scope="module")
def bucket():
    bucket = Bucket()
    bucket.strict()
    yield bucket
    bucket.stop()


class Road:
    """Leads to the bucket. Closed, it cuts off whoever is under way and whoever comes."""

    def __init__(self, bucket):
        self.to = ("127.0.0.1", int(bucket.url.rsplit(":", 1)[1]))
        self.open = True
        self.under_way = set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.pass_on, args=(client,), daemon=True).start()

    def pass_on(self, client):
        with client:
            if not self.open:
                return
            with socket.create_connection(self.to) as server:
                self.under_way.add(client)
                ways = {client: server, server: client}
                while self.open:
                    for side in select.select(list(ways), [], [])[0]:
                        try:
                            data = side.recv(65536)
                            ways[side].sendall(data)
                        except OSError:
                            data = b""
                        if not data:
                            self.under_way.discard(client)
                            return

    def close(self):
        self.open = False
        for client in list(self.under_way):
            client.shutdown(socket.SHUT_RDWR)


def place(bucket, prefix, url=None, options=""):
    return f"s3://{BUCKET}/{prefix}?endpoint={url or bucket.url}&allow_http=true{options}"


def keys(bucket, secret=None):
    return {"AWS_ACCESS_KEY_ID": bucket.key, "AWS_SECRET_ACCESS_KEY": secret or bucket.secret}


def said(client, response):
    items = client.responses.input_items.list(response.id).data
    return "".join(part.text for item in items for part in item.content)


def text(n):
    """Hardly shrinks."""
    return os.urandom(n // 2).hex()


def test_a_big_message_lives_in_the_bucket_and_comes_back(bucket):
    server = Server(env=keys(bucket) | {"EVERSTATE_BLOBS": place(bucket, "first")})
    big = text(BIG)
    response = server.client().responses.create(model="rehearsal", input=big)
    assert response.status == "completed"
    blobs = [name for name in bucket.names() if name.startswith("first/") and name.count("/") == 3]
    assert blobs, bucket.names()
    for name in blobs:
        sealed = bucket.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        assert big[:64].encode() not in sealed
    told = server.own("/doctor")["store"]
    assert told["blobs"] == f"s3://{BUCKET}/first at {bucket.url}" and told["blobs_down"] is None
    assert bucket.secret not in json.dumps(server.own("/config")) + json.dumps(server.own("/doctor"))
    server.kill()
    server.start()
    assert said(server.client(), response) == big
    server.stop()
    server.home.cleanup()


def test_without_the_bucket_big_messages_wait_and_small_ones_go_on(bucket):
    road = Road(bucket)
    blobs = place(bucket, "second", road.url, "&timeout_s=2&retries_max=1")
    server = Server(env=keys(bucket) | {"EVERSTATE_BLOBS": blobs})
    client = server.client(max_retries=0)
    big = text(BIG)
    before = client.responses.create(model="rehearsal", input=big)
    road.close()
    with pytest.raises(openai.APIStatusError) as refused:
        client.responses.create(model="rehearsal", input=text(BIG))
    assert refused.value.status_code == 503, refused.value
    assert refused.value.response.headers["x-should-retry"] == "true"
    assert bucket.secret not in str(refused.value)
    assert client.responses.create(model="rehearsal", input="hello").status == "completed"
    assert "cannot use s3://" in server.own("/doctor")["store"]["blobs_down"]
    road.open = True
    after = client.responses.create(model="rehearsal", input=big, previous_response_id=before.id)
    assert after.status == "completed"
    assert said(client, before) == big
    server.stop()
    assert bucket.secret not in (server.dir / "stderr").read_text()
    server.home.cleanup()


HUGE = """
[[offers]]
model = "huge"
provider = "rehearsal"
context_tokens = 1_000_000_000
[limits]
bytes_max = 1_000_000_000
tokens_max = 1_000_000_000
"""


def test_a_very_big_message_leaves_no_parts_behind(bucket):
    server = Server(HUGE, env=keys(bucket) | {"EVERSTATE_BLOBS": place(bucket, "third")})
    big = "data:image/png;base64," + base64.b64encode(os.urandom(9 * BIG)).decode()
    seen = {"type": "input_image", "image_url": big, "detail": "low"}
    response = server.client().responses.create(model="huge", input=[{"role": "user", "content": [seen]}])
    item = server.client().responses.input_items.list(response.id).data[0]
    assert item.content[0].image_url == big
    sizes = [it["Size"] for it in bucket.client.list_objects_v2(Bucket=BUCKET, Prefix="third/")["Contents"]]
    assert max(sizes) > 9 * BIG
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket=BUCKET)
    server.stop()
    server.home.cleanup()


class Metadata:
    """Gives a container its credentials, to whoever has its token. They are good for a short while."""

    def __init__(self, bucket, token):
        metadata = self
        self.asked = 0

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                metadata.asked += 1
                knows = self.headers.get("authorization") == token
                # Renewed some minutes before its end.
                end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)
                key = bucket.temporary
                body = {"AccessKeyId": key["AccessKeyId"], "SecretAccessKey": key["SecretAccessKey"]}
                body |= {"Token": key["SessionToken"], "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")}
                body = json.dumps(body).encode()
                self.send_response(200 if knows else 401)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/credentials"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_a_container_has_credentials_that_are_renewed(bucket, tmp_path):
    metadata = Metadata(bucket, "a-token-of-this-pod")
    (tmp_path / "token").write_text("a-token-of-this-pod")
    env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": metadata.url}
    env |= {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token")}
    server = Server(env=env | {"EVERSTATE_BLOBS": place(bucket, "pod")})
    before = metadata.asked
    assert before > 0
    big = text(BIG)
    response = server.client().responses.create(model="rehearsal", input=big)
    assert said(server.client(), response) == big
    assert metadata.asked > before
    server.stop()
    server.home.cleanup()


def run(folder, command, blobs, env):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("EVERSTATE_", "AWS_"))}
    env = plain | env | {"EVERSTATE_ADMIN_KEY": KEY, "EVERSTATE_BLOBS": blobs, "EVERSTATE_LISTEN": "127.0.0.1:0"}
    done = subprocess.run(
        [os.path.abspath(BINARY), *command], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("what", ["bucket", "key", "credentials"])
def test_what_does_not_work_is_named_at_the_start(bucket, tmp_path, what):
    blobs, env = place(bucket, "a"), keys(bucket)
    if what == "bucket":
        blobs, why = blobs.replace(BUCKET, "theirs"), "NoSuchBucket"
    elif what == "key":
        env, why = keys(bucket, "hush"), "SignatureDoesNotMatch"
    else:
        # Nobody answers there either.
        closed = "http://127.0.0.1:9"
        blobs += "&timeout_s=1&retries_max=0"
        env, why = {"AWS_METADATA_ENDPOINT": closed}, "cannot use s3://"
    for command in (["serve"], ["doctor"]):
        code, told = run(tmp_path, command, blobs, env)
        assert code != 0 and why in told, told
        assert "hush" not in told and bucket.key not in told, told


def test_the_rules_in_the_docs_are_accepted(bucket):
    page = (pathlib.Path(__file__).parent.parent.parent / "docs/blobs.md").read_text()
    role, lifecycle = [json.loads(block.split("```")[0]) for block in page.split("```json")[1:]]
    assert {action for it in role["Statement"] for action in it["Action"]} == {
        "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"
    }  # fmt: skip
    bucket.client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=lifecycle)
    kept = bucket.client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert [rule["ID"] for rule in kept] == [rule["ID"] for rule in lifecycle["Rules"]]
    # Nothing that is current ever goes by a rule.
    assert all(set(rule.get("Expiration", {})) <= {"ExpiredObjectDeleteMarker"} for rule in lifecycle["Rules"])
