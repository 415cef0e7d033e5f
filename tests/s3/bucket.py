"""An S3 server on loopback with one bucket. Started as a program it says where, and ends with its input.

It gives out ten keys a page, so that a listing of more has to ask again. After `strict`, only its own key is let in.
"""

import json
import logging
import os
import sys

os.environ["MOTO_S3_DEFAULT_MAX_KEYS"] = "10"
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000000000"
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ["NO_PROXY"] = "*"

import boto3
import requests
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)

BUCKET = "ours"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}


class Bucket:
    def __init__(self):
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        # All servers of a process share what they know: this one begins with nothing.
        requests.post(f"{self.url}/moto-api/reset-auth", data="1000000000", timeout=10).raise_for_status()
        requests.post(f"{self.url}/moto-api/reset", timeout=10).raise_for_status()
        anybody = {"aws_access_key_id": "first", "aws_secret_access_key": "first"}
        iam = self.speaks("iam", **anybody)
        iam.create_user(UserName="everstate")
        iam.put_user_policy(UserName="everstate", PolicyName="all", PolicyDocument=json.dumps(POLICY))
        made = iam.create_access_key(UserName="everstate")["AccessKey"]
        self.key, self.secret = made["AccessKeyId"], made["SecretAccessKey"]
        iam.create_role(RoleName="pod", AssumeRolePolicyDocument=json.dumps(POLICY))
        iam.put_role_policy(RoleName="pod", PolicyName="all", PolicyDocument=json.dumps(POLICY))
        role = "arn:aws:iam::123456789012:role/pod"
        # A key that is good for an hour, with its token.
        self.temporary = self.speaks("sts", **anybody).assume_role(RoleArn=role, RoleSessionName="tests")["Credentials"]
        self.client = self.speaks("s3", aws_access_key_id=self.key, aws_secret_access_key=self.secret)
        self.client.create_bucket(Bucket=BUCKET)

    def speaks(self, service, **key):
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1", **key)

    def strict(self):
        requests.post(f"{self.url}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()

    def names(self, bucket=BUCKET):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [it["Key"] for page in pages for it in page.get("Contents", [])]

    def stop(self):
        self.server.stop()


if __name__ == "__main__":
    bucket = Bucket()
    if "strict" in sys.argv:
        bucket.strict()
    print(json.dumps({"url": bucket.url, "bucket": BUCKET, "key": bucket.key, "secret": bucket.secret}), flush=True)
    sys.stdin.read()
    # Nothing of it outlives the test.
    os._exit(0)
