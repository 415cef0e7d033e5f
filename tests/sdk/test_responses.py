"""`/v1/responses` and `/v1/models` with the official client: strict validation, default retries, values asserted."""

import json
import threading

import openai
import pytest

from server import Bank, Dropper, serving

PAY = {
    "type": "function",
    "name": "pay",
    "parameters": {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]},
    "strict": False,
}
OURS = {"type": "mcp", "server_label": "everstate", "allowed_tools": ["pay"]}
SLOW = """
[providers.rehearsal]
kind = "rehearsal"
[[providers.rehearsal.script.rules]]
when = { says_exactly = "slow" }
reasoning = "Let me think about it."
text = "one two three four five six seven eight"
delay_ms = 40
[[providers.rehearsal.script.rules]]
when = { says_exactly = "hang" }
text = "one two three"
broken = "hang"
after_pieces = 2
[[providers.rehearsal.script.rules]]
when = { says_exactly = "long" }
text = "one two three"
finish = "length"
"""


@pytest.fixture(scope="module")
def server():
    with serving(SLOW) as server:
        yield server


@pytest.fixture
def client(server):
    return server.client()


def kinds(events):
    return [event.type for event in events]


def numbered(events):
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_models(client):
    models = client.models.list().data
    assert [model.id for model in models] == ["rehearsal"]
    assert client.models.retrieve("rehearsal").owned_by == "rehearsal"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("nothing-4")
    assert error.value.code == "model_not_found"


def test_create_retrieve_delete(client):
    made = client.responses.create(model="rehearsal", input="hello", metadata={"order": "1182"}, temperature=0.5)
    assert made.status == "completed"
    assert "hello" in made.output_text
    assert made.metadata == {"order": "1182"}
    assert made.temperature == 0.5
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens > 0
    kept = client.responses.retrieve(made.id)
    assert kept.model_dump() == made.model_dump()
    items = client.responses.input_items.list(made.id).data
    assert [item.content[0].text for item in items] == ["hello"]
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_stream_and_its_final_object(client):
    events = list(client.responses.create(model="rehearsal", input="slow", stream=True))
    numbered(events)
    assert kinds(events)[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert kinds(events)[-1] == "response.completed"
    final = events[-1].response
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == final.output_text == "one two three four five six seven eight"
    thought = "".join(event.delta for event in events if event.type == "response.reasoning_summary_text.delta")
    assert thought == final.output[0].summary[0].text == "Let me think about it."
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert [item.model_dump() for item in done] == [item.model_dump() for item in final.output]
    added = [event.item.id for event in events if event.type == "response.output_item.added"]
    assert added == [item.id for item in final.output]
    assert client.responses.retrieve(final.id).model_dump() == final.model_dump()


def test_stream_helper(client):
    with client.responses.stream(model="rehearsal", input="hello") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text


def test_an_answer_that_was_cut_short_is_incomplete(client):
    made = client.responses.create(model="rehearsal", input="long")
    assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_chain_and_fork(server, client):
    first = client.responses.create(model="rehearsal", input="one")
    n = server.n_sessions()
    second = client.responses.create(model="rehearsal", input="two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    assert server.n_sessions() == n
    fork = client.responses.create(model="rehearsal", input="three", previous_response_id=first.id)
    assert server.n_sessions() == n + 1
    client.responses.delete(first.id)
    for parent in (second, fork):
        client.responses.create(model="rehearsal", input="four", previous_response_id=parent.id)
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model="rehearsal", input="x", previous_response_id=first.id)
    assert error.value.code == "previous_response_not_found"


def test_function_tools(client):
    ask = dict(model="rehearsal", tools=[PAY])
    asked = client.responses.create(input='call pay {"sum": 42}', **ask)
    [call] = [item for item in asked.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("pay", {"sum": 42})
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(input="well?", previous_response_id=asked.id, **ask)
    assert f"No tool output found for function call {call.call_id}." in error.value.message
    with pytest.raises(openai.BadRequestError) as error:
        answer = {"type": "function_call_output", "call_id": "call_x", "output": "42"}
        client.responses.create(input=[answer], previous_response_id=asked.id, **ask)
    assert "No tool call found for function call output with call_id call_x" in error.value.message
    answer = {"type": "function_call_output", "call_id": call.call_id, "output": "paid 42"}
    done = client.responses.create(input=[answer], previous_response_id=asked.id, **ask)
    assert "paid 42" in done.output_text
    # The whole history can be sent instead, as it was received.
    history = [{"role": "user", "content": 'call pay {"sum": 42}'}]
    history += [item.model_dump(exclude_none=True) for item in asked.output]
    told = client.responses.create(input=[*history, answer], store=False, **ask)
    assert "paid 42" in told.output_text


def test_two_calls_at_once_stream(client):
    text = 'call pay {"sum": 1}\ncall pay {"sum": 2}'
    events = list(client.responses.create(model="rehearsal", input=text, tools=[PAY], stream=True))
    numbered(events)
    calls = [item for item in events[-1].response.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["sum"] for call in calls] == [1, 2]
    for call in calls:
        told = [e for e in events if e.type.startswith("response.function_call_arguments") and e.item_id == call.id]
        assert "".join(e.delta for e in told if e.type.endswith("delta")) == call.arguments
        assert told[-1].arguments == call.arguments


def test_not_stored(server, client):
    n = server.n_sessions()
    made = client.responses.create(model="rehearsal", input="hello", store=False)
    assert made.store is False
    assert "hello" in made.output_text
    assert server.n_sessions() == n
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model="rehearsal", input="x", previous_response_id=made.id)
    assert error.value.code == "previous_response_not_found"


def poll(client, response):
    while response.status in ("queued", "in_progress"):
        response = client.responses.retrieve(response.id)
    return response


def test_background_poll(client):
    begun = client.responses.create(model="rehearsal", input="slow", background=True)
    assert begun.status in ("queued", "in_progress")
    assert begun.output_text == ""
    ended = poll(client, begun)
    assert (ended.status, ended.output_text) == ("completed", "one two three four five six seven eight")
    assert ended.background is True


def test_background_stream_is_resumed(client):
    stream = client.responses.create(model="rehearsal", input="slow", background=True, stream=True)
    seen = []
    for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    stream.close()
    response_id = seen[0].response.id
    rest = list(
        client.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number)
    )
    numbered(seen + rest)
    whole = list(client.responses.retrieve(response_id, stream=True))
    assert [event.model_dump() for event in seen + rest] == [event.model_dump() for event in whole]
    assert whole[-1].response.output_text == "one two three four five six seven eight"
    with client.responses.stream(response_id=response_id, starting_after=5) as stream:
        assert [event.sequence_number for event in stream][0] == 6
        assert stream.get_final_response().output_text == whole[-1].response.output_text


def test_cancel(client):
    begun = client.responses.create(model="rehearsal", input="hang", background=True)
    cancelled = client.responses.cancel(begun.id)
    assert cancelled.status == "cancelled"
    assert client.responses.cancel(begun.id).model_dump() == cancelled.model_dump()
    assert client.responses.retrieve(begun.id).status == "cancelled"
    made = client.responses.create(model="rehearsal", input="hello")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(made.id)


def test_errors_are_of_the_clients_own_classes(server, client):
    with pytest.raises(openai.NotFoundError) as error:
        client.responses.create(model="nothing-4", input="x")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="rehearsal", input="x", background=True, store=False)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.APIStatusError) as error:
        client.conversations.create()
    assert error.value.status_code == 501
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_nobody")


def test_a_lost_answer_is_repeated_and_nothing_is_done_twice(server):
    dropper = Dropper(server.port)
    client = server.client(dropper.url)
    n = server.n_sessions()
    made = client.responses.create(model="rehearsal", input="hello, is anybody there?")
    assert "is anybody there?" in made.output_text
    counts = [head.split("x-stainless-retry-count: ")[1].split("\r\n")[0] for head in dropper.heads]
    assert counts == ["0", "1"]
    assert server.n_sessions() == n + 1
    dropper = Dropper(server.port)
    client = server.client(dropper.url)
    events = list(client.responses.create(model="rehearsal", input="anybody at all?", stream=True))
    numbered(events)
    assert "anybody at all?" in events[-1].response.output_text
    assert server.n_sessions() == n + 2


def test_an_idempotency_key_makes_one_response(client):
    ask = dict(model="rehearsal", extra_headers={"Idempotency-Key": "order-1182"})
    first = client.responses.create(input="pay it", **ask)
    assert client.responses.create(input="pay it", **ask).id == first.id
    with pytest.raises(openai.UnprocessableEntityError) as error:
        client.responses.create(input="pay another", **ask)
    assert error.value.code == "idempotency_key_reused"


def test_server_tool_and_approval():
    bank = Bank()
    with serving(bank.tool(approval=True)) as server:
        client = server.client()
        ask = dict(model="rehearsal", tools=[OURS])
        asked = client.responses.create(input='call pay {"order": "1182"}', **ask)
        assert asked.status == "completed"
        [request] = [item for item in asked.output if item.type == "mcp_approval_request"]
        assert (request.name, request.server_label) == ("pay", "everstate")
        assert json.loads(request.arguments) == {"order": "1182"}
        assert bank.paid == []
        # Nothing that waits is lost by a restart.
        server.stop().start()
        yes = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
        events = list(
            client.responses.create(input=[yes], previous_response_id=asked.id, stream=True, **ask)
        )
        numbered(events)
        done = events[-1].response
        [call] = [item for item in done.output if item.type == "mcp_call"]
        assert (call.status, call.approval_request_id) == ("completed", request.id)
        assert json.loads(call.output) == {"receipt": "re_1"}
        assert "response.mcp_call.completed" in kinds(events)
        assert bank.paid == ["/pay/1182"]
        with pytest.raises(openai.BadRequestError) as error:
            client.responses.create(input=[yes], previous_response_id=asked.id, **ask)
        assert error.value.code == "approval_answered"
        assert bank.paid == ["/pay/1182"]
        no = {"type": "mcp_approval_response", "approve": False, "reason": "too much"}
        asked = client.responses.create(input='call pay {"order": "2"}', **ask)
        [request] = [item for item in asked.output if item.type == "mcp_approval_request"]
        denied = client.responses.create(
            input=[no | {"approval_request_id": request.id}], previous_response_id=asked.id, **ask
        )
        assert "too much" in denied.output_text
        assert bank.paid == ["/pay/1182"]


def test_a_lost_turn_with_an_effect_is_not_repeated_by_itself():
    bank = Bank()
    bank.hold.clear()
    with serving(bank.tool(safety="neither")) as server:
        client = server.client()
        failed = []

        def ask():
            with pytest.raises(openai.ConflictError) as error:
                client.responses.create(model="rehearsal", input='call pay {"order": "1182"}', tools=[OURS])
            failed.append(error.value)

        asking = threading.Thread(target=ask)
        asking.start()
        bank.arrived.acquire()
        server.kill()
        server.start()
        asking.join()
        assert failed[0].code == "effect_may_have_happened"
        assert failed[0].response.headers["x-should-retry"] == "false"
        assert failed[0].body["address"].endswith("/1")
        assert bank.paid == ["/pay/1182"]
        [unknown] = server.own("/effects")["items"]
        assert (unknown["tool"], unknown["closed"]) == ("pay", "unknown")
        bank.hold.set()


def test_killed_in_the_middle_it_goes_on_byte_for_byte():
    bank = Bank()
    bank.hold.clear()
    config = SLOW + bank.tool()
    with serving(config) as server:
        client = server.client()
        ask = dict(model="rehearsal", background=True, stream=True)
        # One is killed in the middle of a sentence, one in the middle of a tool call.
        sentence = client.responses.create(input="slow", **ask)
        shown = [next(sentence)]
        while shown[-1].type != "response.output_text.delta":
            shown.append(next(sentence))
        payment = client.responses.create(input='call pay {"order": "1182"}', tools=[OURS], **ask)
        paying = [next(payment)]
        bank.arrived.acquire()
        server.kill()
        for stream, seen in ((sentence, shown), (payment, paying)):
            # What the client had received before the connection broke was shown.
            with pytest.raises(openai.APIConnectionError):
                for event in stream:
                    seen.append(event)
        bank.hold.set()
        server.start()
        for seen in (shown, paying):
            response_id = seen[0].response.id
            whole = list(client.responses.retrieve(response_id, stream=True))
            numbered(whole)
            assert [event.model_dump() for event in whole[: len(seen)]] == [event.model_dump() for event in seen]
            assert whole[-1].type == "response.completed"
            after = seen[-1].sequence_number
            rest = list(client.responses.retrieve(response_id, stream=True, starting_after=after))
            assert [event.model_dump() for event in rest] == [event.model_dump() for event in whole[after + 1 :]]
            assert client.responses.retrieve(response_id).model_dump() == whole[-1].response.model_dump()
        # What was shown and lost stays as unfinished; the answer was begun anew beside it.
        told = client.responses.retrieve(shown[0].response.id).output
        messages = [(item.status, item.content[0].text) for item in told if item.type == "message"]
        assert messages[0][0] == "incomplete"
        assert messages[-1] == ("completed", "one two three four five six seven eight")
        # The same key was sent again, so the bank paid once.
        assert bank.paid == ["/pay/1182"]
        assert len(bank.keys) >= 2 and len(set(bank.keys)) == 1
        for session in server.own("/sessions")["items"]:
            assert server.own(f"/sessions/{session['id']}/verify")["ok"] is True
