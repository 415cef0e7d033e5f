"""What a client tells a session: messages, results, cancelling; and that nothing said twice is done twice."""

import uuid

import openai
import pytest

from play import (
    CANCEL, CONFIG, TOOLS, WEATHER, Wire, began, kinds, message, rested, result, sessions_of, status_error, told,
    through, turns, until,
)
from server import Bank, Dropper, serving


@pytest.fixture(scope="module")
def server():
    with serving(CONFIG) as server:
        yield server


@pytest.fixture
def client(server):
    return server.client()


def send(client, session_id, *events, **more):
    return sessions_of(client).events.create(session_id, events=list(events), **more)


def asked(client, said="weather", **more):
    """A session that waits for its client, with what it waits for."""
    session = until(client, began(client, said, **more).id, "requires_action")
    return session, session.required_actions


def test_a_required_action_is_answered_by_hand(client):
    session, [action] = asked(client)
    assert (action.type, action.name) == ("function_call", "weather")
    [turn] = turns(client, session.id)
    assert (turn.id, turn.status, turn.completed_at) == (action.turn_id, "waiting", None)
    assert send(client, session.id, result(action, "sunny")) is None
    done = until(client, session.id, "idle")
    assert done.required_actions == []
    assert told(client, session.id) == [
        ("user", "weather"), ("function_call", "weather"), ("function_call_output", "sunny"), ("assistant", "The weather: sunny"),
    ]
    [user, call, output, answer] = sessions_of(client).items.list(session.id, order="asc")
    assert (call.call_id, call.status, output.call_id, output.status) == (action.call_id, "completed", action.call_id, "completed")
    assert answer.phase == "final_answer"
    assert {user.turn_id, call.turn_id, output.turn_id, answer.turn_id} == {turn.id}


def test_an_output_of_parts_and_none(client):
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    session, [action] = asked(client)
    parts = [{"type": "input_text", "text": "a picture"}, image]
    send(client, session.id, result(action, parts))
    until(client, session.id, "idle")
    [output] = [it for it in sessions_of(client).items.list(session.id) if it.type == "function_call_output"]
    assert [it.to_dict() for it in output.output] == parts
    session, [action] = asked(client)
    send(client, session.id, result(action) | {"output": None})
    until(client, session.id, "idle")


def test_a_failure_is_told_to_the_model(client):
    session, [action] = asked(client)
    send(client, session.id, result(action, success=False, error="Tool handler failed."))
    until(client, session.id, "idle")
    items = list(sessions_of(client).items.list(session.id, order="asc"))
    [output] = [it for it in items if it.type == "function_call_output"]
    assert (output.status, output.error) == ("failed", "Tool handler failed.")
    assert "Tool handler failed." in told(client, session.id)[-1][1]


def test_two_calls_at_once_are_answered_one_by_one(client):
    session, actions = asked(client, "both at once")
    assert [it.name for it in actions] == ["weather", "clock"]
    send(client, session.id, result(actions[1], "12:00"))
    left = sessions_of(client).retrieve(session.id)
    assert left.status == "requires_action"
    assert [it.call_id for it in left.required_actions] == [actions[0].call_id]
    send(client, session.id, result(actions[0], "sunny"))
    until(client, session.id, "idle")
    assert told(client, session.id)[-1][1].startswith("Both: ")


def test_two_results_in_one_list(client):
    session, actions = asked(client, "both at once")
    send(client, session.id, *(result(it, it.name) for it in actions))
    until(client, session.id, "idle")
    # A list with something wrong in it changes nothing at all.
    session, actions = asked(client, "both at once")
    wrong = result(actions[1], "x") | {"call_id": "call_nobody"}
    status_error(lambda: send(client, session.id, result(actions[0], "sunny"), wrong), 400)
    kept = sessions_of(client).retrieve(session.id)
    assert [it.call_id for it in kept.required_actions] == [it.call_id for it in actions]


def test_an_unknown_call_is_said_in_the_words_that_clients_know(client):
    session, [action] = asked(client)
    unknown = result(action, "x") | {"call_id": "call_nobody"}
    key = str(uuid.uuid4())
    for _ in range(2):
        error = status_error(
            lambda: send(client, session.id, unknown, idempotency_key=key), 400, openai.BadRequestError
        )
        assert (error.code, error.body["message"]) == (
            "invalid_request_error", "Unknown pending tool call: call_nobody",
        )
    # The refusal was not kept under the key.
    send(client, session.id, result(action, "sunny"), idempotency_key=str(uuid.uuid4()))
    until(client, session.id, "idle")


def test_a_late_or_doubled_result_changes_nothing(client):
    session, [action] = asked(client)
    for output in ("sunny", "rainy"):
        send(client, session.id, result(action, output))
    until(client, session.id, "idle")
    send(client, session.id, result(action, "snowy"))
    rows = told(client, session.id)
    assert [it for it in rows if it[0] == "function_call_output"] == [("function_call_output", "sunny")]
    assert len(turns(client, session.id)) == 1
    # Nor does one for a call that was cancelled.
    session, [action] = asked(client)
    send(client, session.id, CANCEL)
    until(client, session.id, "idle")
    send(client, session.id, result(action, "sunny"))
    assert sessions_of(client).retrieve(session.id).status == "idle"
    assert len(turns(client, session.id)) == 1


def test_the_same_key_is_the_same_event(client):
    session, [action] = asked(client)
    key = str(uuid.uuid4())
    for _ in range(3):
        send(client, session.id, result(action, "sunny"), idempotency_key=key)
    error = status_error(
        lambda: send(client, session.id, result(action, "rainy"), idempotency_key=key), 409, openai.ConflictError
    )
    assert error.response.headers["x-should-retry"] == "false"
    until(client, session.id, "idle")
    key = str(uuid.uuid4())
    for _ in range(3):
        send(client, session.id, message("hello"), idempotency_key=key)
    until(client, session.id, "idle")
    assert len(turns(client, session.id)) == 2
    error = status_error(lambda: send(client, session.id, message("other"), idempotency_key=key), 409)
    assert error.response.headers["x-should-retry"] == "false"
    # Without a key, the same words are said again.
    for _ in range(2):
        send(client, session.id, message("hello"))
        until(client, session.id, "idle")
    assert len(turns(client, session.id)) == 4


def test_cancel_ends_the_turn(client):
    session, [action] = asked(client)
    send(client, session.id, CANCEL)
    done = until(client, session.id, "idle")
    assert done.required_actions == []
    [turn] = turns(client, session.id)
    assert (turn.status, turn.id) == ("cancelled", action.turn_id)
    # There is nothing more to cancel.
    send(client, session.id, CANCEL)
    session = began(client, "hang")
    send(client, session.id, CANCEL)
    until(client, session.id, "idle")
    assert [it.status for it in turns(client, session.id)] == ["cancelled"]
    send(client, session.id, message("hello"))
    until(client, session.id, "idle")
    assert [it.status for it in turns(client, session.id)] == ["cancelled", "completed"]


def test_cancel_is_told_in_order(server, client):
    session, _ = asked(client)
    with Wire(server, session.id) as events:
        send(client, session.id, CANCEL)
        seen = through(events, "idle")
    assert [it["type"].removeprefix("agent.session.") for it in seen][-2:] == ["turn.cancelled", "idle"]
    assert seen[-2]["turn"]["status"] == "cancelled"
    assert seen[-1]["session"]["required_actions"] == []


def test_a_message_during_a_turn_steers_it(client):
    session, [action] = asked(client)
    send(client, session.id, message("and in French, please"))
    assert len(turns(client, session.id)) == 1
    send(client, session.id, result(action, "sunny"))
    until(client, session.id, "idle")
    [turn] = turns(client, session.id)
    rows = told(client, session.id)
    assert ("user", "and in French, please") in rows
    assert {it.turn_id for it in sessions_of(client).items.list(session.id)} == {turn.id}
    assert rows[-1][0] == "assistant"


def test_a_failed_turn_says_why_and_the_session_goes_on(client):
    session = began(client, "fail")
    until(client, session.id, "idle")
    [turn] = turns(client, session.id)
    assert turn.status == "failed"
    assert turn.error.code and turn.error.message
    send(client, session.id, message("hello"))
    until(client, session.id, "idle")
    assert [it.status for it in turns(client, session.id)] == ["failed", "completed"]


def test_a_budget_pauses_and_a_larger_one_resumes(client):
    agent = {"model": "dear", "tools": TOOLS}
    session = began(client, "spend", agent, spend_control={"limit": 100})
    assert session.spend_control.limit == 100
    session = until(client, session.id, "requires_action")
    [action] = session.required_actions
    send(client, session.id, result(action, "gold"))
    paused = until(client, session.id, "budget_reached")
    assert (paused.spend_control.limit, paused.spend_control.consumed, paused.required_actions) == (100, 200, [])
    [turn] = turns(client, session.id)
    assert turn.completed_at is None
    # A limit that is still too small changes nothing.
    assert sessions_of(client).update(session.id, spend_control={"limit": 150}).status == "budget_reached"
    raised = sessions_of(client).update(session.id, spend_control={"limit": 1000})
    assert raised.spend_control.limit == 1000
    until(client, session.id, "idle")
    assert told(client, session.id)[-1] == ("assistant", "Spent: gold")
    assert [it.status for it in turns(client, session.id)] == ["completed"]
    # Without a limit it goes on too; and a paused turn can be cancelled.
    session = until(client, began(client, "spend", agent, spend_control={"limit": 100}).id, "requires_action")
    send(client, session.id, result(session.required_actions[0], "gold"))
    until(client, session.id, "budget_reached")
    send(client, session.id, CANCEL)
    until(client, session.id, "idle", "budget_reached")
    assert [it.status for it in turns(client, session.id)] == ["cancelled"]
    session = until(client, began(client, "spend", agent, spend_control={"limit": 100}).id, "requires_action")
    send(client, session.id, result(session.required_actions[0], "gold"))
    until(client, session.id, "budget_reached")
    sessions_of(client).update(session.id, spend_control=None)
    until(client, session.id, "idle")


def test_a_lost_answer_is_repeated_and_nothing_is_done_twice(server):
    def dropping():
        dropper = Dropper(server.port)
        return dropper, server.client(dropper.url)

    plain = server.client()
    n = len(list(sessions_of(plain).list()))
    _, client = dropping()
    session = began(client, "weather")
    assert len(list(sessions_of(plain).list())) == n + 1
    until(plain, session.id, "requires_action")
    [action] = sessions_of(plain).retrieve(session.id).required_actions
    dropper, client = dropping()
    send(client, session.id, result(action, "sunny"), idempotency_key=str(uuid.uuid4()))
    assert len(dropper.heads) == 2
    until(plain, session.id, "idle")
    _, client = dropping()
    send(client, session.id, message("hello"), idempotency_key=str(uuid.uuid4()))
    until(plain, session.id, "idle")
    assert len(turns(plain, session.id)) == 2
    # Also without a key: the client says that it repeats.
    _, client = dropping()
    send(client, session.id, message("hello again"))
    until(plain, session.id, "idle")
    assert len(turns(plain, session.id)) == 3
    _, client = dropping()
    sessions_of(client).update(session.id, metadata={"a": "1"})
    _, client = dropping()
    events = list(began(client, "hello", stream=True))
    assert kinds(events)[-1] == "idle"
    assert len(list(sessions_of(plain).list())) == n + 2


def test_approvals_of_our_own_tools():
    bank = Bank()
    with serving(CONFIG + bank.tool(approval=True)) as server:
        client = server.client()
        ours = {"type": "mcp", "server_label": "everstate", "transport": {"type": "http", "server_url": "everstate:tools"}}
        agent = {"model": "rehearsal", "tools": [ours]}
        for decision, paid in (("approve", 1), ("deny", 1), ("cancel", 1)):
            session = began(client, 'call pay {"order": "1182"}', agent)
            waiting = until(client, session.id, "requires_action")
            [action] = waiting.required_actions
            assert (action.type, action.request.type, action.request.name) == ("mcp_approval_request", "mcp_tool_call", "pay")
            assert (action.request.server_label, action.request.arguments) == ("everstate", {"order": "1182"})
            answer = {
                "type": "agent.session.input.mcp_approval_request_result",
                "request_id": action.request_id,
                "response": {"type": "mcp_tool_call", "decision": decision},
            }
            for _ in range(2):
                send(client, session.id, answer)
            until(client, session.id, "idle")
            assert len(bank.paid) == paid
            [call] = [it for it in sessions_of(client).items.list(session.id) if it.type == "mcp_call"]
            assert (call.name, call.server_label) == ("pay", "everstate")
            assert (call.status == "completed") == (decision == "approve")
        unknown = answer | {"request_id": "mcpr_nobody"}
        status_error(lambda: send(client, session.id, unknown), 400)


def test_what_is_wrong_is_named(client):
    session = rested(client, agent={"model": "rehearsal", "tools": [WEATHER]})
    for bad, param in (
        ([], "events"),
        ([{"type": "agent.session.input.nothing"}], "events[0].type"),
        ([{"type": "agent.session.input.message", "input": []}], "events[0].input"),
        ([message("x"), {"type": "agent.session.input.tool_result"}], "events[1]"),
        ([message("x") | {"loud": True}], "events[0].loud"),
    ):
        error = status_error(lambda: send(client, session.id, *bad), 400, openai.BadRequestError)
        assert error.param.startswith(param), (bad, error)
    assert len(turns(client, session.id)) == 1
    status_error(lambda: send(client, "sess_nobody", message("x")), 404)
