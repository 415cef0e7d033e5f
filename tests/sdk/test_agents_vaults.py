"""Vaults and credentials: what is secret goes in and never comes out."""

import os
import pathlib

import pytest

from play import CONFIG, NONE, rested, sessions_of, status_error
from server import Dropper, serving

SECRETS = [f"a-secret-that-nobody-may-read-{n}" for n in range(8)]
OAUTH = {
    "type": "mcp_oauth",
    "mcp_server_url": "https://mcp.example.com/mcp",
    "access_token": SECRETS[0],
    "expires_at": "2031-01-01T00:00:00Z",
    "refresh": {
        "client_id": "us",
        "refresh_token": SECRETS[1],
        "token_endpoint": "https://login.example.com/token",
        "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": SECRETS[2]},
        "scope": "read",
    },
}
BEARER = {"type": "static_bearer", "mcp_server_url": "https://mcp.example.com/mcp", "token": SECRETS[3]}
VARIABLE = {
    "type": "environment_variable",
    "secret_name": "SERVICE_API_KEY",
    "secret_value": SECRETS[4],
    "networking": {"type": "limited", "allowed_hosts": ["api.example.com"]},
}


@pytest.fixture(scope="module")
def server():
    with serving(CONFIG) as server:
        yield server


@pytest.fixture
def client(server):
    return server.client()


def no_secret_in(*what):
    for one in what:
        text = one if isinstance(one, str) else one.model_dump_json()
        assert not [secret for secret in SECRETS if secret in text]


def test_vaults(client):
    vaults = client.beta.agents.vaults
    made = [vaults.create(name=f"v{n}", metadata={"shelf": "vaults", "n": str(n % 2)}) for n in range(4)]
    assert (made[0].object, made[0].name, made[0].metadata) == ("vault", "v0", {"shelf": "vaults", "n": "0"})
    assert vaults.retrieve(made[0].id).model_dump() == made[0].model_dump()
    ids = [it.id for it in made]
    assert [it.id for it in vaults.list(order="asc", limit=3, metadata={"shelf": "vaults"})] == ids
    assert [it.id for it in vaults.list(metadata={"shelf": "vaults"})] == ids[::-1]
    assert [it.id for it in vaults.list(order="asc", metadata={"shelf": "vaults", "n": "1"})] == ids[1::2]
    assert [it.id for it in vaults.list(order="asc", after=ids[1], metadata={"shelf": "vaults"})] == ids[2:]
    assert [it.id for it in vaults.list(status="active", metadata={"shelf": "vaults"})] == ids[::-1]
    changed = vaults.update(ids[0], name="renamed", metadata={"shelf": "other"})
    assert (changed.name, changed.metadata) == ("renamed", {"shelf": "other"})
    assert [it.id for it in vaults.list(metadata={"shelf": "vaults"})] == ids[:0:-1]
    assert vaults.delete(ids[0]).model_dump() == {"id": ids[0], "deleted": True, "object": "vault.deleted"}
    for call in (vaults.retrieve, vaults.delete, vaults.update, vaults.credentials.list):
        status_error(lambda: call(ids[0]), 404)
    assert vaults.create(name="  spaced  ").name == "spaced"
    for bad in ({"name": "x" * 257}, {"metadata": {"k" * 65: "v"}}):
        status_error(lambda: vaults.create(**bad), 400)


def test_credentials_of_every_kind(client):
    vault = client.beta.agents.vaults.create(name="keys")
    credentials = client.beta.agents.vaults.credentials
    made = [
        credentials.create(vault.id, name=auth["type"], auth=auth, metadata={"n": str(n)})
        for n, auth in enumerate((OAUTH, BEARER, VARIABLE))
    ]
    no_secret_in(*made)
    oauth, bearer, variable = made
    assert (oauth.object, oauth.vault_id, oauth.name, oauth.metadata) == ("vault.credential", vault.id, "mcp_oauth", {"n": "0"})
    assert (oauth.auth.mcp_server_url, oauth.auth.refresh.client_id) == (OAUTH["mcp_server_url"], "us")
    assert oauth.auth.refresh.token_endpoint_auth.type == "client_secret_basic"
    assert bearer.auth.to_dict() == {"type": "static_bearer", "mcp_server_url": BEARER["mcp_server_url"]}
    assert (variable.auth.secret_name, variable.auth.networking.to_dict()) == ("SERVICE_API_KEY", VARIABLE["networking"])
    for one in made:
        assert credentials.retrieve(one.id, vault_id=vault.id).model_dump() == one.model_dump()
    ids = [it.id for it in made]
    assert [it.id for it in credentials.list(vault.id, order="asc", limit=2)] == ids
    assert [it.id for it in credentials.list(vault.id, metadata={"n": "1"})] == ids[1:2]
    no_secret_in(credentials.with_raw_response.list(vault.id).http_response.text)

    turned = credentials.update(bearer.id, vault_id=vault.id, auth={"type": "static_bearer", "token": SECRETS[5]})
    assert turned.updated_at >= bearer.updated_at and turned.auth.to_dict() == bearer.auth.to_dict()
    rotated = credentials.update(
        oauth.id,
        vault_id=vault.id,
        auth={"type": "mcp_oauth", "access_token": SECRETS[6], "refresh": {"refresh_token": SECRETS[7], "scope": "write"}},
    )
    assert rotated.auth.refresh.scope == "write"
    no_secret_in(turned, rotated)
    # A credential keeps its kind.
    status_error(
        lambda: credentials.update(bearer.id, vault_id=vault.id, auth={"type": "mcp_oauth", "access_token": "x"}), 400
    )
    other = client.beta.agents.vaults.create(name="other")
    status_error(lambda: credentials.retrieve(bearer.id, vault_id=other.id), 404)
    gone = credentials.delete(bearer.id, vault_id=vault.id)
    assert gone.model_dump() == {"id": bearer.id, "deleted": True, "object": "vault.credential.deleted"}
    status_error(lambda: credentials.retrieve(bearer.id, vault_id=vault.id), 404)


def test_what_is_wrong_is_named_and_not_repeated(client):
    vault = client.beta.agents.vaults.create(name="wrong")
    credentials = client.beta.agents.vaults.credentials
    for auth in (
        BEARER | {"mcp_server_url": "http://mcp.example.com"},
        BEARER | {"token": ""},
        BEARER | {"token": [SECRETS[0]]},
        VARIABLE | {"secret_name": "1 BAD"},
        VARIABLE | {"secret_value": f"{SECRETS[0]}\nx"},
        OAUTH | {"expires_at": "tomorrow"},
        {"type": "password", "password": SECRETS[0]},
    ):
        error = status_error(lambda: credentials.create(vault.id, name="x", auth=auth), 400)
        assert error.param.startswith("auth"), error
        no_secret_in(error.response.text)
    assert list(credentials.list(vault.id)) == []


def test_a_session_names_its_vaults(client):
    vault = client.beta.agents.vaults.create(name="keys")
    session = rested(client, vault_ids=[vault.id])
    assert session.vault_ids == [vault.id]
    status_error(
        lambda: sessions_of(client).create(
            environment=NONE, agent={"model": "rehearsal"}, input="x", vault_ids=["vault_nobody"]
        ),
        404,
    )


def test_nothing_secret_is_on_the_disk_as_it_was_sent(server, client):
    vault = client.beta.agents.vaults.create(name="keys")
    for auth in (OAUTH, BEARER, VARIABLE):
        client.beta.agents.vaults.credentials.create(vault.id, name="x", auth=auth)
    for folder, _, files in os.walk(server.dir):
        for name in files:
            data = (pathlib.Path(folder) / name).read_bytes()
            assert not [it for it in SECRETS if it.encode() in data], name


def test_a_lost_answer_makes_no_second_vault(server, client):
    vaults = len(list(client.beta.agents.vaults.list()))
    dropping = server.client(Dropper(server.port).url)
    vault = dropping.beta.agents.vaults.create(name="v")
    assert len(list(client.beta.agents.vaults.list())) == vaults + 1
    dropping = server.client(Dropper(server.port).url)
    dropping.beta.agents.vaults.credentials.create(vault.id, name="x", auth=BEARER)
    assert len(list(client.beta.agents.vaults.credentials.list(vault.id))) == 1
