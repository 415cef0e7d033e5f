"""Killed in every phase: a client that knows our cursor goes on where it was; one that knows only the original way reads
items; neither loses anything nor has anything done twice."""

import threading
import uuid

import openai
import pytest

from play import CONFIG, Wire, began, message, result, sessions_of, through, told, turns, until
from server import Server, serving


@pytest.fixture
def server():
    with serving(CONFIG) as server:
        yield server


def again(server: Server):
    server.kill()
    server.start()


def followed(server, session_id, after, *ends):
    with Wire(server, session_id, after=after) as events:
        return through(events, *ends)


def short(event):
    return event["type"].removeprefix("agent.session.")


def items(client, session_id):
    return [it.to_dict() for it in sessions_of(client).items.list(session_id, order="asc")]


def test_while_it_streams(server):
    client = server.client()
    stream = began(client, "slow", stream=True)
    seen = []
    with pytest.raises((openai.APIConnectionError, openai.APIError)):
        for event in stream:
            seen.append(event)
            if sum(it.type.endswith("output_text.delta") for it in seen) == 3:
                again(server)
    session_id = seen[0].session.id
    # Ours: from the last event that was seen.
    rest = followed(server, session_id, seen[-1].event_id, "idle")
    assert [short(it) for it in rest][-2:] == ["turn.completed", "idle"]
    ids = [it.event_id for it in seen] + [it["event_id"] for it in rest]
    assert len(ids) == len(set(ids))
    # From any event that was seen, the same is told.
    for place in (0, len(seen) // 2):
        told_again = followed(server, session_id, seen[place].event_id, "idle")
        assert [it["event_id"] for it in told_again] == ids[place + 1 :]
    # The original way.
    assert until(client, session_id, "idle")
    [turn] = turns(client, session_id)
    assert turn.status == "completed"
    answers = [text for role, text in told(client, session_id) if role == "assistant"]
    assert answers[-1] == "one two three four five six seven eight"
    done = [it for it in rest if short(it) == "turn.item.done" and it["item"]["type"] == "message"]
    assert done[-1]["item"]["content"][0]["text"] == answers[-1]


def test_while_it_is_held_for_a_client(server):
    client = server.client()
    session = until(client, began(client, "weather").id, "requires_action")
    before = items(client, session.id)
    again(server)
    kept = sessions_of(client).retrieve(session.id)
    assert kept.model_dump() == session.model_dump()
    assert items(client, session.id) == before
    [action] = kept.required_actions
    with Wire(server, session.id) as events:
        sessions_of(client).events.create(session.id, events=[result(action, "sunny")])
        live = through(events, "idle")
    assert [short(it) for it in live][-2:] == ["turn.completed", "idle"]
    assert told(client, session.id)[-1] == ("assistant", "The weather: sunny")
    assert len(turns(client, session.id)) == 1


def test_between_a_result_and_the_answer_to_it(server):
    client = server.client()
    session = until(client, began(client, "weather").id, "requires_action")
    [action] = session.required_actions
    key, lost = str(uuid.uuid4()), []

    def answer():
        try:
            sessions_of(client).events.create(session.id, events=[result(action, "sunny")], idempotency_key=key)
        except openai.APIConnectionError as error:
            lost.append(error)

    # The server is killed while the result is on its way, at whatever moment that is.
    posting = threading.Thread(target=answer)
    posting.start()
    again(server)
    posting.join()
    # Whoever got no answer sends it again, under the same key.
    sessions_of(client).events.create(session.id, events=[result(action, "sunny")], idempotency_key=key)
    until(client, session.id, "idle")
    rows = told(client, session.id)
    assert [it for it in rows if it[0] == "function_call_output"] == [("function_call_output", "sunny")]
    assert rows[-1] == ("assistant", "The weather: sunny")
    assert len(turns(client, session.id)) == 1


def test_after_a_result_was_taken(server):
    client = server.client()
    session = until(client, began(client, "weather").id, "requires_action")
    sessions_of(client).events.create(session.id, events=[result(session.required_actions[0], "sunny")])
    again(server)
    until(client, session.id, "idle")
    assert told(client, session.id)[-1] == ("assistant", "The weather: sunny")
    again(server)
    assert told(client, session.id)[-1] == ("assistant", "The weather: sunny")


def test_while_it_is_idle(server):
    client = server.client()
    session = until(client, began(client, "slow", metadata={"order": "1182"}).id, "idle")
    before = (session.model_dump(), items(client, session.id), [it.model_dump() for it in turns(client, session.id)])
    again(server)
    client = server.client()
    after = (
        sessions_of(client).retrieve(session.id).model_dump(),
        items(client, session.id),
        [it.model_dump() for it in turns(client, session.id)],
    )
    assert after == before
    assert [it.id for it in sessions_of(client).list(metadata={"order": "1182"})] == [session.id]
    with sessions_of(client).stream(session.id, input="hello") as stream:
        assert "hello" in stream.get_final_result().output_text


def test_with_nothing_but_a_subscriber(server):
    """A helper that listens when the server goes down says so; the turn is finished by the next one."""
    client = server.client()
    session = until(client, began(client, "hello").id, "idle")
    with sessions_of(client).stream(session.id, input="slow") as stream:
        with pytest.raises((openai.APIConnectionError, openai.APIError, RuntimeError)):
            for event in stream:
                if event.type.endswith("output_text.delta"):
                    again(server)
    until(client, session.id, "idle")
    assert [it.status for it in turns(client, session.id)] == ["completed", "completed"]


def test_a_cursor_replays_and_follows(server):
    client = server.client()
    events = list(began(client, "two tools", stream=True, agent={"model": "rehearsal"}))
    session_id = events[0].session.id
    ids = [it.event_id for it in events]
    for place in (0, len(ids) // 2, len(ids) - 2):
        rest = followed(server, session_id, ids[place], "idle")
        assert [it["event_id"] for it in rest] == ids[place + 1 :]
        strict = [it.to_dict() for it in events[place + 1 :]]
        # Padding is made anew each time.
        assert [{k: v for k, v in it.items() if k != "obfuscation"} for it in rest] == [
            {k: v for k, v in it.items() if k != "obfuscation"} for it in strict
        ]
    with Wire(server, session_id, after=ids[-1]) as follow:
        sessions_of(client).events.create(session_id, events=[message("hello")])
        live = through(follow, "idle")
    assert [short(it) for it in live].count("turn.created") == 1
    assert not {it["event_id"] for it in live} & set(ids)
    with pytest.raises(AssertionError):
        with Wire(server, session_id, after="evt_nonsense"):
            pass


def test_everything_verifies(server):
    client = server.client()
    for said in ("hello", "slow"):
        began(client, said)
        again(server)
    for session in sessions_of(client).list():
        until(client, session.id, "idle")
        assert server.own(f"/sessions/{session.id}/verify")["ok"] is True
