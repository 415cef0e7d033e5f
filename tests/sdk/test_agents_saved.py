"""Saved agents: made, read, changed, listed, deleted; and what a session makes of them."""

import openai
import pytest

import play
from play import CONFIG, NONE, WEATHER, sessions_of, status_error, told, until
from server import Dropper, serving


@pytest.fixture(scope="module")
def server():
    with serving(CONFIG) as server:
        yield server


@pytest.fixture
def client(server):
    return server.client()


def test_made_read_changed_deleted(client):
    agents = client.beta.agents
    made = agents.create(
        model="rehearsal",
        name="Clerk",
        instructions="Be kind.",
        metadata={"team": "orders"},
        tools=[WEATHER],
        reasoning={"effort": "low"},
        compaction={"async": True},
        experimental={"time_awareness": True},
        multi_agent={"enabled": False},
        service_tier="flex",
        text={"verbosity": "low"},
    )
    assert (made.object, made.model, made.name, made.instructions) == ("agent", "rehearsal", "Clerk", "Be kind.")
    assert made.metadata == {"team": "orders"}
    [tool] = made.tools
    assert (tool.type, tool.name, tool.parameters) == ("function", "weather", WEATHER["parameters"])
    assert (tool.defer_loading, made.service_tier) == (False, "flex")
    assert (made.reasoning.effort, made.reasoning.summary) == ("low", None)
    assert (made.text.format.type, made.text.verbosity) == ("text", "low")
    assert made.compaction.async_ is True and made.experimental.time_awareness is True
    assert made.created_at == made.updated_at
    assert agents.retrieve(made.id).model_dump() == made.model_dump()

    changed = agents.update(made.id, instructions=None, name="Chief", reasoning={"effort": "high"})
    assert (changed.id, changed.name, changed.instructions) == (made.id, "Chief", None)
    assert changed.reasoning.effort == "high"
    # What was left out stays.
    assert changed.model_dump(include={"metadata", "text", "compaction"}) == made.model_dump(
        include={"metadata", "text", "compaction"}
    )
    assert [it.to_dict() for it in changed.tools] == [it.to_dict() for it in made.tools]
    assert agents.update(made.id, tools=None).tools == []
    assert agents.retrieve(made.id).tools == []

    gone = agents.delete(made.id)
    assert gone.model_dump() == {"id": made.id, "deleted": True, "object": "agent.deleted"}
    for call in (agents.retrieve, agents.delete, agents.update):
        status_error(lambda: call(made.id), 404)
    assert made.id not in [it.id for it in agents.list()]


def test_defaults_are_filled_in(client):
    made = client.beta.agents.create(model="rehearsal")
    assert (made.name, made.instructions, made.metadata, made.tools) == (None, None, {}, [])
    assert made.multi_agent.enabled is False
    assert (made.service_tier, made.text.verbosity, made.text.format.type) == ("auto", "medium", "text")
    assert made.compaction.async_ is False and made.experimental.time_awareness is False


def test_lists_in_both_orders_page_by_page(client):
    made = [client.beta.agents.create(model="rehearsal", name=f"n{n}").id for n in range(5)]
    for order, wanted in (("asc", made), ("desc", made[::-1])):
        page = client.beta.agents.list(limit=2, order=order)
        assert len(page.data) == 2 and page.has_more is True
        found = [it.id for it in page]
        assert [it for it in found if it in made] == wanted
        assert len(found) == len(set(found))
    after = client.beta.agents.list(order="asc", after=made[2])
    assert [it.id for it in after] == made[3:]
    # The newest first, unless something else is asked for.
    assert [it.id for it in client.beta.agents.list(limit=1).data] == made[-1:]


def test_a_session_runs_a_saved_agent_as_it_stood(client):
    agent = client.beta.agents.create(model="rehearsal", tools=[WEATHER], instructions="Be kind.")
    session = sessions_of(client).create(environment=NONE, agent_id=agent.id, input="hello")
    assert (session.agent.id, session.agent.model) == (agent.id, "rehearsal")
    assert [it.name for it in session.agent.tools] == ["weather"]
    until(client, session.id, "idle")
    client.beta.agents.update(agent.id, instructions="Be short.", tools=[])
    kept = sessions_of(client).retrieve(session.id)
    assert (kept.agent.instructions, [it.name for it in kept.agent.tools]) == ("Be kind.", ["weather"])
    later = sessions_of(client).create(environment=NONE, agent_id=agent.id, input="hello")
    assert (later.agent.instructions, later.agent.tools) == ("Be short.", [])
    over = sessions_of(client).create(
        environment=NONE, agent_id=agent.id, agent={"instructions": "Be long."}, input="hello"
    )
    assert (over.agent.id, over.agent.instructions, over.agent.model) == (agent.id, "Be long.", "rehearsal")
    assert [it.id for it in sessions_of(client).list(agent_id=agent.id, order="asc")] == [session.id, later.id, over.id]
    client.beta.agents.delete(agent.id)
    # Its sessions go on.
    until(client, over.id, "idle")
    sessions_of(client).events.create(over.id, events=[play.message("more")])
    until(client, over.id, "idle")
    assert [row for row, _ in told(client, over.id)] == ["user", "assistant"] * 2
    status_error(lambda: sessions_of(client).create(environment=NONE, agent_id=agent.id, input="hello"), 404)


# Kept with an agent; refused, by name, when a session would use them.
UNUSABLE = {
    "mcp": {
        "type": "mcp",
        "server_label": "deep",
        "transport": {"type": "http", "server_url": "https://mcp.example.com/mcp", "headers": {}},
    },
    "web_search": {"type": "web_search"},
    "computer_use": {"type": "computer_use"},
    "automations": {"type": "automations"},
    "programmatic_tool_calling": {"type": "programmatic_tool_calling"},
    "defer_loading": WEATHER | {"defer_loading": True},
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_tools_that_cannot_be_run_yet_are_kept_and_refused_where_they_would_be_used(client, name):
    tool = UNUSABLE[name]
    agent = client.beta.agents.create(model="rehearsal", tools=[tool])
    assert agent.tools[0].to_dict() | tool == agent.tools[0].to_dict()
    before = len(list(sessions_of(client).list()))
    error = status_error(
        lambda: sessions_of(client).create(environment=NONE, agent_id=agent.id, input="hello"), 400
    )
    assert error.code == "unsupported", error
    assert "not available yet" in error.message
    error = status_error(
        lambda: sessions_of(client).create(
            environment=NONE, agent={"model": "rehearsal", "tools": [tool]}, input="hello"
        ),
        400,
    )
    assert (error.code, error.param.startswith("agent.tools[0]")) == ("unsupported", True)
    assert len(list(sessions_of(client).list())) == before


def test_what_is_wrong_is_named(client):
    agents = client.beta.agents
    for bad, param in (
        ({"model": ""}, "model"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"reasoning": {"effort": "endless"}}, "reasoning.effort"),
        ({"service_tier": "first"}, "service_tier"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "function", "name": "a b", "description": "", "parameters": {}}]}, "tools[0].name"),
    ):
        error = status_error(lambda: agents.create(**({"model": "rehearsal"} | bad)), 400, openai.BadRequestError)
        assert error.param.startswith(param), (bad, error)
    large = WEATHER | {"description": "x" * (3 << 20)}
    error = status_error(lambda: agents.create(model="rehearsal", tools=[large]), 400)
    assert error.param == "tools"
    status_error(lambda: agents.retrieve("agent_nobody"), 404)


def test_a_lost_answer_makes_no_second_agent(server, client):
    agents = len(list(client.beta.agents.list()))
    server.client(Dropper(server.port).url).beta.agents.create(model="rehearsal")
    assert len(list(client.beta.agents.list())) == agents + 1
