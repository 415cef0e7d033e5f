"""The committed list of what the official SDK can ask for is that of the SDK that is installed."""

import sdk_types


def test_the_committed_types_are_those_of_the_sdk():
    again = "tests/sdk/sdk_types.py --write, run with the interpreter of target/tools/venv, writes them anew"
    assert sdk_types.PLACE.read_text() == sdk_types.written(), again


def test_the_types_are_all_there():
    told = sdk_types.told()
    operations = {f"{it['method']} {it['path']}": it for it in told["operations"]}
    doors = [it for it in operations if it.split(" ")[1].split("/")[1] in ("agents", "vaults")]
    assert len(doors) == 57
    assert operations["POST /agents/sessions/{session_id}/events"]["headers"] == ["Idempotency-Key"]
    assert operations["GET /vaults"]["query"] == {"ref": "VaultListParams"}
    types = told["types"]
    assert types["AgentToolConfigParamFunction"]["async?"] == "boolean"  # Python cannot say it so.
    assert types["AgentCreateParams"]["model"] == "string"  # Required, though the class says nothing is.
    assert set(types["CredentialUpdateParams"]) == {"auth?", "metadata?"}  # The vault is in the address.
    for fields in types.values():
        for kind in fields.values():
            for name in refs(kind):
                assert name in types


def refs(kind):
    if isinstance(kind, dict):
        if "ref" in kind:
            yield kind["ref"]
        for inner in kind.values():
            yield from refs(inner)
    elif isinstance(kind, list):
        for inner in kind:
            yield from refs(inner)
