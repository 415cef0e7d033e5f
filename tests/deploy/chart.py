"""Renders the chart: its values laid over each other and held against their schema, its templates run by Go."""

import copy
import functools
import json
import os
import pathlib
import subprocess
import sys

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy/helm/everstate"


def read(path):
    return yaml.safe_load((CHART / path).read_text())


def laid_over(below, above):
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return copy.deepcopy(above)
    both = {name: laid_over(below[name], above[name]) if name in below else above[name] for name in above}
    return {**below, **both}


def values(*layers):
    whole = functools.reduce(laid_over, layers, read("values.yaml"))
    jsonschema.validate(whole, json.loads((CHART / "values.schema.json").read_text()))
    return whole


def render(*layers, release="prod"):
    """The objects that an installation would make, in the order of their files."""
    chart = read("Chart.yaml")
    data = {
        "Values": values(*layers),
        "Release": {"Name": release, "Namespace": "agents", "Service": "Helm"},
        "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": str(chart["appVersion"])},
    }
    files = {path.name: path.read_text() for path in sorted((CHART / "templates").iterdir())}
    out = run_go(json.dumps({"files": files, "data": data}))
    notes = out.pop("NOTES.txt")
    assert "<no value>" not in notes + "".join(out.values())
    texts = [out[name] for name in sorted(out)]
    return [it for text in texts for it in yaml.safe_load_all(text) if it], texts, notes


@functools.cache
def renderer():
    """Built once for a run; Go keeps what it compiled below `target/`."""
    go = pathlib.Path(sys.executable).parent / "go"
    home = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "tools/go"
    env = os.environ | {
        "GOCACHE": str(home / "cache"),
        "GOPATH": str(home / "path"),
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
        "GOFLAGS": "",
    }
    binary = home / "render"
    source = pathlib.Path(__file__).parent / "render.go"
    subprocess.run([go, "build", "-o", binary, source], env=env, check=True, timeout=300)
    return binary


def run_go(text):
    done = subprocess.run([renderer()], input=text, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return json.loads(done.stdout)
