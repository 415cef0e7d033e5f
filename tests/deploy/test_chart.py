"""The Helm chart: what it makes is what Kubernetes knows, and keeps its promises. Where there is a helm, it agrees."""

import json
import re
import shutil
import subprocess
import sys

import jsonschema
import kubernetes_validate
import pytest
import yaml

from chart import CHART, read, render, values

POSTGRES = read("ci/postgres.yaml")
RELEASES = {
    "default": [],
    "sqlite-named": [{"existingSecret": "everstate", "store": {"sqlite": {"existingClaim": "kept"}}}],
    "postgres": [POSTGRES],
    "postgres-plain": [{"store": {"kind": "postgres"}, "existingSecret": "everstate"}],
}
# The oldest that Chart.yaml allows, and the newest there is.
KUBERNETES = ["1.30", "1.37"]


@pytest.fixture(params=RELEASES)
def release(request):
    return RELEASES[request.param]


def kinds(objects):
    return {it["kind"]: it for it in objects}


def pod_of(objects):
    found = [it for it in objects if it["kind"] in ("Deployment", "StatefulSet")]
    assert len(found) == 1
    return found[0]["spec"]["template"]


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(release, version):
    objects, _, _ = render(*release)
    for it in objects:
        if it["kind"] == "ServiceMonitor":
            # Not Kubernetes' own: its schema is the operator's.
            assert set(it["spec"]) == {"selector", "endpoints"}
            continue
        kubernetes_validate.validate(it, version, strict=True)


def test_names_and_labels_fit_together(release):
    objects, _, _ = render(*release)
    names = [(it["kind"], it["metadata"]["name"]) for it in objects]
    assert len(names) == len(set(names))
    pod = pod_of(objects)
    labels = pod["metadata"]["labels"].items()
    for it in objects:
        spec = it.get("spec", {})
        selector = {"Service": spec.get("selector"), "NetworkPolicy": spec.get("podSelector", {}).get("matchLabels")}
        selector = selector.get(it["kind"]) or spec.get("selector", {}).get("matchLabels")
        if it["kind"] in ("Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment", "StatefulSet"):
            assert selector and selector.items() <= labels, it["kind"]
        assert len(it["metadata"]["name"]) <= 52
    claims = {it["metadata"]["name"] for it in objects if it["kind"] == "PersistentVolumeClaim"} | {"kept"}
    for volume in pod["spec"]["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in names
    mounted = {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_a_pod_may_do_little_and_gets_time_to_end(release):
    objects, _, _ = render(*release)
    spec = pod_of(objects)["spec"]
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not spec["automountServiceAccountToken"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    # 30 seconds for what is under way, 2 for last words.
    assert spec["terminationGracePeriodSeconds"] > pause + 32
    assert container["resources"]["limits"]["memory"]


def test_no_secret_is_in_an_object(release):
    _, texts, _ = render(*release)
    assert not re.search(r"(SECRET|PASSWORD|TOKEN|_KEY)\b(?!\")", "".join(texts).replace("env:OPENAI_API_KEY", ""))


def test_one_node_over_sqlite():
    objects, _, notes = render()
    deployment = kinds(objects)["Deployment"]["spec"]
    assert deployment["replicas"] == 1 and deployment["strategy"] == {"type": "Recreate"}
    assert kinds(objects)["PersistentVolumeClaim"]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert set(kinds(objects)) == {"ConfigMap", "Deployment", "PersistentVolumeClaim", "Service", "ServiceAccount"}
    assert "One node over SQLite" in notes
    objects, _, _ = render(*RELEASES["sqlite-named"])
    assert "PersistentVolumeClaim" not in kinds(objects)


def test_several_nodes_over_postgres():
    objects, _, notes = render(POSTGRES)
    nodes = kinds(objects)["StatefulSet"]["spec"]
    assert nodes["replicas"] == 3 and nodes["podManagementPolicy"] == "Parallel"
    headless = [it for it in objects if it["kind"] == "Service" and it["spec"].get("clusterIP") == "None"]
    assert [it["metadata"]["name"] for it in headless] == [nodes["serviceName"]]
    assert headless[0]["spec"]["publishNotReadyAddresses"]
    args = nodes["template"]["spec"]["containers"][0]["args"]
    assert "--node-name=$(POD_NAME)" in args
    assert f"--advertise=http://$(POD_NAME).{nodes['serviceName']}.$(POD_NAMESPACE).svc:7070" in args
    assert kinds(objects)["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    spread = nodes["template"]["spec"]["topologySpreadConstraints"]
    assert [it["topologyKey"] for it in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert {"NetworkPolicy", "ServiceMonitor"} <= set(kinds(objects))
    assert "3 nodes over PostgreSQL" in notes


def test_a_long_name_is_cut():
    objects, _, _ = render(release="a-release-with-a-name-that-is-far-too-long-for-a-label")
    assert all(len(it["metadata"]["name"]) <= 52 for it in objects)
    objects, _, _ = render(release="everstate")
    assert kinds(objects)["Service"]["metadata"]["name"] == "everstate"


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 3},
        {"store": {"kind": "mysql"}},
        {"store": {"kind": "postgres"}},
        {"store": {"kind": "postgres"}, "blobs": "s3://ours"},
        {"blobs": "s3://key:secret@ours"},
        {"blobs": "gs://ours"},
        {"env": {"OPENAI_API_KEY": "sk-1"}},
        {"drain": {"graceSeconds": 10}},
        {"replicas": 0},
        {"store": {"sqlite": {"size": "lots"}}},
    ],
    ids=json.dumps,
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(jsonschema.ValidationError):
        values(wrong)


def test_templates_refuse_by_themselves_what_the_schema_would():
    # As where somebody skips the schema.
    import chart

    whole = values() | {"store": {"kind": "postgres", "sqlite": {}}}
    files = {path.name: path.read_text() for path in (CHART / "templates").iterdir()}
    about = {"Release": {"Name": "a", "Namespace": "b", "Service": "Helm"}}
    about["Chart"] = {"Name": "everstate", "Version": "1", "AppVersion": "1"}
    with pytest.raises(ValueError, match="existingSecret: over PostgreSQL"):
        chart.run_go(json.dumps({"files": files, "data": about | {"Values": whole}}))


def test_the_schema_is_one():
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    assert set(read("values.yaml")) | {"global"} == set(schema["properties"])


def test_the_chart_is_of_this_release():
    cargo = (CHART.parent.parent.parent / "Cargo.toml").read_text()
    version = re.search(r'(?m)^version = "(.*)"', cargo)[1]
    assert (read("Chart.yaml")["version"], read("Chart.yaml")["appVersion"]) == (version, version)


def test_what_is_rendered_is_tidy(tmp_path, release):
    _, texts, _ = render(*release)
    path = tmp_path / "rendered.yaml"
    path.write_text("\n---\n".join(text.strip("\n") for text in texts if text.strip()) + "\n")
    # Lines may be long, and documents begin as their files do.
    rules = "{extends: relaxed, rules: {line-length: disable, empty-lines: disable, indentation: disable, "
    rules += "document-start: disable, trailing-spaces: disable, key-duplicates: {}}}"
    subprocess.run([sys.executable, "-m", "yamllint", "--strict", "-d", rules, path], check=True)


def test_helm_agrees(release, tmp_path):
    helm = shutil.which("helm")
    if helm is None:
        print("skipped: helm is not on the PATH: what it renders was not compared with what our renderer does")
        return
    layers = tmp_path / "values.yaml"
    layers.write_text(yaml.safe_dump(values(*release)))
    subprocess.run([helm, "lint", "--strict", CHART, "-f", layers], check=True, timeout=60)
    command = [helm, "template", "prod", CHART, "--namespace", "agents", "-f", layers]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    theirs = [it for it in yaml.safe_load_all(text) if it]
    ours, _, _ = render(*release)
    order = lambda it: (it["kind"], it["metadata"]["name"])
    assert sorted(theirs, key=order) == sorted(ours, key=order)
