"""What this release does not serve says so at once, in the API's own shape, and is not asked for twice."""

import openai
import pytest

from play import CONFIG
from server import serving


@pytest.fixture(scope="module")
def client():
    with serving(CONFIG) as server:
        yield server.client()


TARGET = {"type": "new_session", "agent": {"model": "rehearsal"}, "environment": {"type": "none"}, "input": "x"}
HOSTED = {"type": "openai_hosted"}


def operations(client):
    agents = client.beta.agents
    once = {"type": "once", "name": "n", "run_at": 1, "target": TARGET}
    yield lambda: agents.automations.create(**once)
    yield lambda: agents.automations.retrieve("a")
    yield lambda: agents.automations.update("a", name="n")
    yield lambda: agents.automations.list()
    yield lambda: agents.automations.delete("a")
    yield lambda: agents.automations.pause("a")
    yield lambda: agents.automations.resume("a")
    yield lambda: agents.automations.invocations.create("a")
    yield lambda: agents.automations.invocations.retrieve("i", automation_id="a")
    yield lambda: agents.automations.invocations.list("a")
    yield lambda: agents.environments.create(environment=HOSTED)
    yield lambda: agents.environments.retrieve("e")
    yield lambda: agents.environments.list()
    yield lambda: agents.environments.files.create("e", type="inline", path="/a", data="")
    yield lambda: agents.environments.files.list("e")
    yield lambda: agents.environments.templates.create(name="n")
    yield lambda: agents.environments.templates.retrieve("t")
    yield lambda: agents.environments.templates.update("t", name="n")
    yield lambda: agents.environments.templates.list()
    yield lambda: agents.environments.templates.delete("t")
    yield lambda: agents.sessions.artifacts.retrieve("a", session_id="s")
    yield lambda: agents.sessions.artifacts.list("s")
    yield lambda: agents.sessions.artifacts.delete("a", session_id="s")
    yield lambda: agents.sessions.artifacts.content("a", session_id="s")


def test_what_is_not_available_yet(client):
    n = 0
    for operation in operations(client):
        with pytest.raises(openai.APIStatusError) as error:
            operation()
        n += 1
        assert (error.value.status_code, error.value.code) == (501, "not_available_yet")
        assert error.value.response.headers["x-should-retry"] == "false"
        assert error.value.request.headers["x-stainless-retry-count"] == "0"
        assert "not available yet" in error.value.message
    assert n == 24
