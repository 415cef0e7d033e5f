"""The official client's own helpers, as they come: they decide in what order things have to be told."""

import pydantic
import pytest
from openai.lib.beta.agents._result import AgentTurnResultError

from play import (
    AGENT, CONFIG, NONE, TOOLS, Handlers, began, kinds, message, rested, run, sessions_of, told, turns, until,
)
from server import KEY, serving

import openai


@pytest.fixture(scope="module")
def server():
    with serving(CONFIG) as server:
        yield server


@pytest.fixture
def client(server):
    return server.client(timeout=30)


@pytest.fixture
def later(server):
    """The asynchronous client."""
    return openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key=KEY, timeout=30, _strict_response_validation=True
    )


class Reading(pydantic.BaseModel):
    city: str
    degrees: int


ASKED = [("weather", {"city": "Paris"}), ("clock", {"zone": "Europe/Paris"})]
TOLD = 'All told: {"time":"12:00"}'


def well_told(events, session_id):
    """What has to hold of every stream of one turn."""
    assert len({event.event_id for event in events}) == len(events)
    kind = kinds(events)
    assert kind.index("turn.created") < kind.index("turn.completed") < len(kind) - 1
    assert kind[-1] == "idle"
    [created] = [event for event in events if event.type.endswith("turn.created")]
    assert created.turn.subagent_id is None and created.turn_id == created.turn.id
    assert "subagent_id" in created.turn.to_dict()
    for event in events:
        session = getattr(event, "session", None)
        assert (session.id if session else event.session_id) == session_id
        if session and not event.type.endswith("requires_action"):
            assert session.required_actions == []
    done = [event for event in events if event.type.endswith("item.done")]
    assert all(getattr(event.item, "role", "assistant") == "assistant" for event in done)
    places = [event.output_index for event in done]
    assert places == sorted(places) and len(set(places)) == len(places)
    # Deltas add up to what they are deltas of.
    for event in done:
        if event.item.type == "message":
            deltas = [it.delta for it in events if it.type.endswith("output_text.delta") and it.item_id == event.item.id]
            assert "".join(deltas) == "".join(part.text for part in event.item.content)
    for event in events:
        if event.type.endswith("item.added") and event.item.type == "function_call":
            assert event.item.arguments, "a call is told with its arguments"
    completed = next(event for event in events if event.type.endswith("turn.completed"))
    assert completed.turn.status == "completed" and completed.turn.session_id == session_id


def test_three_turns_in_a_row_with_two_tools_one_after_the_other(client):
    session = rested(client)
    for _ in range(3):
        handlers = Handlers()
        with sessions_of(client).stream(session.id, input="two tools", tool_handlers=handlers) as stream:
            result = stream.with_result_collection().get_final_result()
        assert handlers.asked == ASKED
        assert result.output_text == TOLD
        assert (result.turn.status, result.session_id) == ("completed", session.id)
        assert len(result.messages) == 1 and result.messages[0].phase == "final_answer"
    assert [it.status for it in turns(client, session.id)] == ["completed"] * 4
    rows = told(client, session.id)[2:]
    one = [
        ("user", "two tools"), ("assistant", "Let me look."), ("function_call", "weather"),
        ("function_call_output", "sunny"), ("function_call", "clock"), ("function_call_output", '{"time":"12:00"}'),
        ("assistant", TOLD),
    ]
    assert rows == one * 3


def test_every_event_of_a_turn_with_tools(client):
    session = rested(client)
    with sessions_of(client).stream(session.id, input="two tools", tool_handlers=Handlers()) as stream:
        events = list(stream)
    # A snapshot from before the turn may come first.
    well_told(events, session.id)
    messages = [event.item for event in events if event.type.endswith("item.done") and event.item.type == "message"]
    assert [it.phase for it in messages] == ["commentary", "final_answer"]
    actions = [event.session.required_actions for event in events if event.type.endswith("requires_action")]
    assert [[it.name for it in some] for some in actions] == [["weather"], ["clock"]]


def test_reasoning_is_told_as_it_comes(client):
    session = rested(client)
    with sessions_of(client).stream(session.id, input="slow") as stream:
        events = list(stream)
    well_told(events, session.id)
    thought = "".join(it.delta for it in events if it.type.endswith("reasoning_summary_text.delta"))
    [reasoning] = [it.item for it in events if it.type.endswith("item.done") and it.item.type == "reasoning"]
    assert thought == reasoning.summary[0].text == "Let me think about it."
    kind = kinds(events)
    for first, then in (
        ("turn.reasoning_summary_part.added", "turn.reasoning_summary_text.delta"),
        ("turn.reasoning_summary_text.delta", "turn.reasoning_summary_text.done"),
        ("turn.reasoning_summary_text.done", "turn.reasoning_summary_part.done"),
        ("turn.reasoning_summary_part.done", "turn.content_part.added"),
        ("turn.content_part.added", "turn.output_text.delta"),
        ("turn.output_text.delta", "turn.output_text.done"),
        ("turn.output_text.done", "turn.content_part.done"),
        ("turn.content_part.done", "turn.completed"),
    ):
        assert kind.index(first) < kind.index(then)


def test_a_created_stream_ends_by_itself(client):
    events = list(began(client, "hello", stream=True))
    assert kinds(events)[0] == "created"
    well_told(events, events[0].session.id)
    assert "hello" in told(client, events[0].session.id)[-1][1]
    # Its own result call, with tools.
    handlers = Handlers()
    stream = sessions_of(client).create(
        environment=NONE, agent=AGENT, input="two tools", stream=True, tool_handlers=handlers
    )
    result = stream.get_final_result()
    assert (handlers.asked, result.output_text) == (ASKED, TOLD)
    # Iterated by hand, with tools.
    handlers = Handlers()
    stream = sessions_of(client).create(
        environment=NONE, agent=AGENT, input="two tools", stream=True, tool_handlers=handlers
    )
    events = list(stream)
    well_told(events, events[0].session.id)
    assert handlers.asked == ASKED


def test_a_created_stream_of_a_failed_turn_ends_too(client):
    events = list(began(client, "fail", stream=True))
    assert kinds(events)[-2:] == ["turn.failed", "idle"]
    assert events[-2].turn.error.message
    with pytest.raises(AgentTurnResultError) as error:
        began(client, "fail", stream=True).get_final_result()
    assert error.value.reason == "failed"


def test_structured_output(client):
    session = sessions_of(client).create(environment=NONE, agent=AGENT, input="structured", output_type=Reading)
    assert session.agent.text.format.type == "json_schema"
    assert session.agent.text.format.schema_["required"] == ["city", "degrees"]
    until(client, session.id, "idle")
    with sessions_of(client).stream(session.id, input="structured", output_type=Reading) as stream:
        assert stream.get_final_result().output_parsed == Reading(city="Paris", degrees=21)
    stream = sessions_of(client).create(
        environment=NONE, agent=AGENT, input="structured", output_type=Reading, stream=True
    )
    assert stream.get_final_result().output_parsed == Reading(city="Paris", degrees=21)


def test_a_handler_that_fails_is_told_to_the_model(client):
    session = rested(client)
    failures = []

    def weather(arguments):
        raise ValueError("no network")

    with sessions_of(client).stream(
        session.id, input="weather", tool_handlers={"weather": weather}, on_tool_error=failures.append
    ) as stream:
        assert "Tool handler failed." in stream.get_final_result().output_text
    assert [(it.tool_name, it.session_id, it.stage) for it in failures] == [("weather", session.id, "execution")]


def test_without_a_handler_the_result_call_says_so(client):
    session = rested(client)
    with pytest.raises(AgentTurnResultError) as error:
        with sessions_of(client).stream(session.id, input="weather") as stream:
            stream.get_final_result()
    assert error.value.reason == "requires_action"
    assert [it.name for it in error.value.required_actions] == ["weather"]
    # The helper went away; the turn did not.
    assert sessions_of(client).retrieve(session.id).status == "requires_action"


def test_the_helper_wants_an_idle_session(client):
    session = began(client, "weather")
    until(client, session.id, "requires_action")
    with pytest.raises(ValueError, match="idle"):
        with sessions_of(client).stream(session.id, input="hello"):
            pass
    assert len(turns(client, session.id)) == 1


def test_a_cancelled_turn_ends_the_helper(client):
    session = rested(client)
    with pytest.raises(AgentTurnResultError) as error:
        with sessions_of(client).stream(session.id, input="weather") as stream:
            for event in stream.with_result_collection():
                if event.type.endswith("requires_action"):
                    sessions_of(client).events.create(session.id, events=[{"type": "agent.session.input.cancel"}])
            stream.get_final_result()
    assert error.value.reason == "cancelled"
    assert sessions_of(client).retrieve(session.id).status == "idle"


def test_a_reached_budget_does_not_hang(client):
    agent = {"model": "dear", "tools": TOOLS}
    stream = sessions_of(client).create(
        environment=NONE, agent=agent, input="spend", stream=True, spend_control={"limit": 100}, tool_handlers=Handlers()
    )
    events = list(stream)
    assert kinds(events)[-1] == "budget_reached"
    session = events[-1].session
    assert (session.status, session.spend_control.consumed) == ("budget_reached", 200)
    # Whoever follows when it goes on sees the rest, live.
    with sessions_of(client).events.stream(session.id) as follow:
        sessions_of(client).update(session.id, spend_control=None)
        seen = []
        for event in follow:
            seen.append(event)
            if event.type.endswith("session.idle"):
                break
    assert kinds(seen)[-2:] == ["turn.completed", "idle"]


def test_a_subscriber_sees_only_what_happens_from_then_on(client):
    session = rested(client)
    with sessions_of(client).events.stream(session.id) as stream:
        sessions_of(client).events.create(session.id, events=[message("hello")])
        seen = []
        for event in stream:
            seen.append(event)
            if event.type.endswith("session.idle") and "turn.completed" in kinds(seen):
                break
    assert kinds(seen).count("turn.created") == 1
    [turn] = [event.turn_id for event in seen if event.type.endswith("turn.created")]
    assert turn == turns(client, session.id)[-1].id


def test_obfuscation_is_as_it_was_asked_for(client):
    for asked, is_there in ((True, True), (False, False)):
        events = list(began(client, "hello", stream=True, stream_options={"include_obfuscation": asked}))
        deltas = [event for event in events if event.type.endswith("output_text.delta")]
        assert deltas and all((event.obfuscation is not None) == is_there for event in deltas)


def test_the_asynchronous_client(client, later):
    async def work():
        sessions = later.beta.agents.sessions
        handlers = Handlers()
        stream = await sessions.create(
            environment=NONE, agent=AGENT, input="two tools", stream=True, tool_handlers=handlers
        )
        result = await stream.get_final_result()
        assert (handlers.asked, result.output_text) == (ASKED, TOLD)
        for _ in range(3):
            handlers = Handlers()

            async def weather(arguments):
                return handlers.weather(arguments)

            async with sessions.stream(
                result.session_id, input="two tools", tool_handlers={"weather": weather, "clock": handlers.clock}
            ) as stream:
                events = [event async for event in stream]
            well_told(events, result.session_id)
            assert handlers.asked == ASKED
        async with sessions.stream(result.session_id, input="structured", output_type=Reading) as stream:
            parsed = await stream.get_final_result()
        assert parsed.output_parsed == Reading(city="Paris", degrees=21)
        items = [item async for item in sessions.items.list(result.session_id, order="asc", limit=5)]
        assert len(items) == 4 * 7 + 2
        stream = await sessions.create(environment=NONE, agent=AGENT, input="hello", stream=True)
        events = [event async for event in stream]
        assert kinds(events)[-1] == "idle"

    run(work())


def test_two_sessions_at_once_do_not_mix(client, later):
    async def one(n):
        sessions = later.beta.agents.sessions
        stream = await sessions.create(environment=NONE, agent=AGENT, input=f"hello number {n}", stream=True)
        return (await stream.get_final_result()).output_text

    async def work():
        import asyncio

        return await asyncio.gather(*(one(n) for n in range(8)))

    for n, text in enumerate(run(work())):
        assert text.endswith(f"hello number {n}")
