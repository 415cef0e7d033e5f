"""Sessions: made in all forms, read, changed, listed with filters, deleted."""

import openai
import pytest

from play import AGENT, CANCEL, CLOCK, NONE, WEATHER, CONFIG, began, message, rested, sessions_of, status_error, text, told, turns, until
from server import serving


@pytest.fixture(scope="module")
def server():
    with serving(CONFIG) as server:
        yield server


@pytest.fixture
def client(server):
    return server.client()


def test_a_session_of_its_own_agent(client):
    made = began(client, "hello", metadata={"order": "1182"}, review="none", prompt_cache_options={"ttl": "12h"})
    assert (made.object, made.environment.type, made.metadata) == ("agent.session", "none", {"order": "1182"})
    assert (made.agent.model, made.agent.name, made.error, made.vault_ids) == ("rehearsal", None, None, [])
    assert [it.name for it in made.agent.tools] == ["weather", "clock"]
    # Without a review there is none to tell of.
    assert (made.review or "none", made.prompt_cache_options.ttl, made.required_actions) == ("none", "12h", [])
    assert made.status in ("in_progress", "idle")
    session = until(client, made.id, "idle")
    assert session.last_active_at >= session.created_at
    assert session.usage.total_tokens == session.usage.input_tokens + session.usage.output_tokens > 0
    [said, answered] = told(client, made.id)
    assert said == ("user", "hello") and answered[0] == "assistant" and "hello" in answered[1]
    [turn] = turns(client, made.id)
    assert (turn.object, turn.status, turn.session_id, turn.subagent_id) == (
        "agent.session.turn", "completed", made.id, None,
    )
    assert turn.agent_id == session.agent.id
    assert turn.created_at <= turn.started_at <= turn.completed_at
    assert turn.usage.total_tokens == session.usage.total_tokens
    assert turn.error is None


def test_input_as_messages_and_images(client):
    image = "data:image/png;base64,iVBORw0KGgo="
    content = [{"type": "input_text", "text": "what is this?"}, {"type": "input_image", "image_url": image}]
    made = sessions_of(client).create(
        environment=NONE,
        agent=AGENT,
        input=[{"role": "user", "content": [{"type": "input_text", "text": "look"}]}, {"role": "user", "content": content}],
    )
    until(client, made.id, "idle")
    [first, second, answer] = sessions_of(client).items.list(made.id, order="asc")
    assert (text(first), first.status, first.role) == ("look", "completed", "user")
    assert [part.to_dict() for part in second.content] == content
    assert answer.role == "assistant"
    sessions_of(client).events.create(made.id, events=[message("again", content[1])])
    until(client, made.id, "idle")
    again = [it for it in sessions_of(client).items.list(made.id) if it.type == "message" and it.role == "user"][0]
    assert again.content[1].image_url == image
    for bad in ("ftp://example.com/a.png", "file:///etc/passwd", "data:text/plain;base64,AA==", "http://169.254.169.254/"):
        part = {"type": "input_image", "image_url": bad}
        error = status_error(lambda: sessions_of(client).events.create(made.id, events=[message("x", part)]), 400)
        assert "image_url" in error.param
    assert len(turns(client, made.id)) == 2


def test_what_a_session_cannot_begin_with(client):
    sessions = sessions_of(client)
    n = len(list(sessions.list()))
    good = {"environment": NONE, "agent": AGENT, "input": "hello"}
    for change, param in (
        ({"agent": {"tools": []}}, "agent.model"),
        ({"input": openai.omit}, "input"),
        ({"input": []}, "input"),
        ({"environment": {"type": "openai_hosted"}}, "environment"),
        ({"environment": {"type": "self_hosted", "workspace_directory": "/w"}}, "environment"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"spend_control": {"limit": 0}}, "spend_control"),
        ({"review": "sometimes"}, "review"),
        ({"prompt_cache_options": {"ttl": "1h"}}, "prompt_cache_options"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"agent": AGENT | {"multi_agent": {"enabled": True}}}, "agent.multi_agent"),
    ):
        error = status_error(lambda: sessions.create(**(good | change)), 400, openai.BadRequestError)
        assert error.param.startswith(param), (change, error)
    status_error(lambda: sessions.create(**(good | {"agent": {"model": "nothing-4"}})), 404)
    status_error(lambda: sessions.create(**(good | {"agent_id": "agent_nobody"})), 404)
    assert len(list(sessions.list())) == n


def test_what_is_changed_counts_from_the_next_call_on(client):
    session = rested(client, agent={"model": "rehearsal"}, metadata={"a": "1"})
    changed = sessions_of(client).update(
        session.id,
        agent={"tools": [WEATHER], "reasoning": {"effort": "high"}, "service_tier": "flex"},
        metadata={"b": "2"},
        review="auto_review",
        prompt_cache_options={"ttl": "30m"},
        spend_control={"limit": 500},
    )
    assert (changed.id, changed.metadata, changed.review) == (session.id, {"b": "2"}, "auto_review")
    assert ([it.name for it in changed.agent.tools], changed.agent.reasoning.effort) == (["weather"], "high")
    assert (changed.agent.service_tier, changed.prompt_cache_options.ttl, changed.spend_control.limit) == ("flex", "30m", 500)
    kept = sessions_of(client).retrieve(session.id)
    assert kept.agent.model_dump() == changed.agent.model_dump()
    sessions_of(client).events.create(session.id, events=[message("weather")])
    waiting = until(client, session.id, "requires_action")
    [action] = waiting.required_actions
    assert (action.type, action.name) == ("function_call", "weather")
    sessions_of(client).events.create(session.id, events=[CANCEL])
    until(client, session.id, "idle")
    cleared = sessions_of(client).update(session.id, agent={"tools": None}, spend_control=None, metadata=None)
    assert (cleared.agent.tools, cleared.metadata) == ([], {})
    assert cleared.spend_control is None or cleared.spend_control.limit is None
    # Nothing said, nothing changed.
    same = sessions_of(client).update(session.id)
    assert same.agent.model_dump() == cleared.agent.model_dump()
    status_error(lambda: sessions_of(client).update(session.id, agent={"model": "nothing-4"}), 404)
    status_error(lambda: sessions_of(client).update(session.id, agent={"tools": [CLOCK, CLOCK]}), 400)
    status_error(lambda: sessions_of(client).update("sess_nobody", metadata={}), 404)


def test_lists_with_filters_in_both_orders(client):
    made = [rested(client, metadata={"shelf": "list", "n": str(n % 2)}).id for n in range(5)]
    sessions = sessions_of(client)
    for order, wanted in (("asc", made), ("desc", made[::-1])):
        page = sessions.list(limit=2, order=order, metadata={"shelf": "list"})
        assert ([it.id for it in page.data], page.has_more) == (wanted[:2], True)
        assert [it.id for it in page] == wanted
    assert [it.id for it in sessions.list(order="asc", metadata={"shelf": "list", "n": "1"})] == made[1::2]
    assert [it.id for it in sessions.list(order="asc", metadata={"shelf": "list"}, after=made[1])] == made[2:]
    assert list(sessions.list(metadata={"shelf": "other"})) == []
    # What was changed is found under what it is, and not under what it was.
    sessions.update(made[0], metadata={"shelf": "moved"})
    assert [it.id for it in sessions.list(metadata={"shelf": "moved"})] == made[:1]
    assert [it.id for it in sessions.list(order="asc", metadata={"shelf": "list"})] == made[1:]
    sessions.delete(made[1])
    assert [it.id for it in sessions.list(order="asc", metadata={"shelf": "list"})] == made[2:]
    whole = [it.id for it in sessions.list(limit=3)]
    assert len(whole) == len(set(whole)) and set(made[2:]) < set(whole)
    for bad in ({"limit": 0}, {"limit": 101}, {"order": "up"}):
        status_error(lambda: sessions.list(**bad), 400)


def test_deleted_is_gone(client):
    session = rested(client)
    gone = sessions_of(client).delete(session.id)
    assert gone.model_dump() == {"id": session.id, "deleted": True, "object": "agent.session.deleted"}
    [turn_id] = ["turn_nobody"]
    for call in (
        lambda: sessions_of(client).retrieve(session.id),
        lambda: sessions_of(client).delete(session.id),
        lambda: sessions_of(client).update(session.id, metadata={}),
        lambda: sessions_of(client).items.list(session.id),
        lambda: sessions_of(client).turns.list(session.id),
        lambda: sessions_of(client).turns.retrieve(turn_id, session_id=session.id),
        lambda: sessions_of(client).events.stream(session.id),
        lambda: sessions_of(client).events.create(session.id, events=[message("x")]),
    ):
        assert status_error(call, 404).type == "invalid_request_error"


def test_a_running_session_has_to_be_cancelled_first(client):
    session = began(client, "hang")
    error = status_error(lambda: sessions_of(client).delete(session.id), 409, openai.ConflictError)
    assert error.response.headers["x-should-retry"] == "false"
    sessions_of(client).events.create(session.id, events=[CANCEL])
    until(client, session.id, "idle")
    assert sessions_of(client).delete(session.id).deleted is True
    status_error(lambda: sessions_of(client).retrieve(session.id), 404)


def test_another_project_sees_nothing(server, client):
    session = rested(client, metadata={"shelf": "ours"})
    [turn] = turns(client, session.id)
    server.own("/projects", {"name": "other"})
    key = server.own("/keys", {"project": "other", "name": "k"})["key"]
    other = server.client().with_options(api_key=key)
    sessions = sessions_of(other)
    for call in (
        lambda: sessions.retrieve(session.id),
        lambda: sessions.update(session.id, metadata={}),
        lambda: sessions.delete(session.id),
        lambda: sessions.items.list(session.id),
        lambda: sessions.turns.list(session.id),
        lambda: sessions.turns.retrieve(turn.id, session_id=session.id),
        lambda: sessions.turns.items.list(turn.id, session_id=session.id),
        lambda: sessions.events.stream(session.id),
        lambda: sessions.events.create(session.id, events=[message("x")]),
    ):
        status_error(call, 404)
    assert list(sessions.list()) == []
    assert list(sessions.list(metadata={"shelf": "ours"})) == []
    assert told(client, session.id)[0] == ("user", "hello")
