"""What the tests of the Agents API share: a play for the model, tools that a client runs, and ways to wait and to compare.

The model is the rehearsal (docs/rehearsal.md); each of its lines begins with the word that a test says to it.
"""

import asyncio
import json

import httpx2
import openai

from server import KEY

CONFIG = """
[providers.rehearsal]
kind = "rehearsal"

[[offers]]
model = "rehearsal"
provider = "rehearsal"

[[offers]]
model = "dear"
provider = "rehearsal"
price = { input = "100", output = "0" }
output_tokens_max = 64

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
when = { says_exactly = "fail" }
error = { status = 400, code = "invalid_prompt", message = "no such prompt" }

[[providers.rehearsal.script.rules]]
when = { says = "two tools", result_of = "clock" }
text = "All told: {result}"
[[providers.rehearsal.script.rules]]
when = { says = "two tools", result_of = "weather" }
calls = [{ name = "clock", arguments = { zone = "Europe/Paris" } }]
[[providers.rehearsal.script.rules]]
when = { says = "two tools" }
text = "Let me look."
calls = [{ name = "weather", arguments = { city = "Paris" } }]

[[providers.rehearsal.script.rules]]
when = { says = "both at once", results = true }
text = "Both: {result}"
[[providers.rehearsal.script.rules]]
when = { says = "both at once" }
calls = [{ name = "weather", arguments = { city = "Paris" } }, { name = "clock", arguments = { zone = "UTC" } }]

[[providers.rehearsal.script.rules]]
when = { says = "weather", result_of = "weather" }
text = "The weather: {result}"
[[providers.rehearsal.script.rules]]
when = { says = "weather", tool = "weather" }
calls = [{ name = "weather", arguments = { city = "Paris" } }]

[[providers.rehearsal.script.rules]]
when = { says = "spend", result_of = "weather" }
text = "Spent: {result}"
usage = { input = 10, output = 1 }
[[providers.rehearsal.script.rules]]
when = { says = "spend" }
calls = [{ name = "weather", arguments = { city = "Paris" } }]
usage = { input = 20000, output = 1 }

[[providers.rehearsal.script.rules]]
when = { says = "structured" }
text = '{"city": "Paris", "degrees": 21}'
"""

NONE = {"type": "none"}


def function(name, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "name": name, "description": f"Tells the {name}.", "parameters": parameters}


WEATHER = function("weather", city={"type": "string"})
CLOCK = function("clock", zone={"type": "string"})
TOOLS = [WEATHER, CLOCK]
AGENT = {"model": "rehearsal", "tools": TOOLS}


class Handlers(dict):
    """Tool handlers that remember what they were asked."""

    def __init__(self):
        self.asked = []
        super().__init__(weather=self.weather, clock=self.clock)

    def weather(self, arguments):
        self.asked.append(("weather", arguments))
        return "sunny"

    def clock(self, arguments):
        self.asked.append(("clock", arguments))
        return {"time": "12:00"}


def kinds(events):
    return [event.type.removeprefix("agent.session.") for event in events]


def text(message):
    return "".join(part.text for part in message.content)


def sessions_of(client):
    return client.beta.agents.sessions


def began(client, said, agent=None, **more):
    """A session with its first turn on the way."""
    return sessions_of(client).create(environment=NONE, agent=agent or AGENT, input=said, **more)


def until(client, session_id, *statuses):
    """The session, as soon as it stands so."""
    while True:
        session = sessions_of(client).retrieve(session_id)
        if session.status in statuses:
            return session
        assert session.status in ("in_progress", "requires_action", "budget_reached"), session


def rested(client, said="hello", agent=None, **more):
    """A session whose first turn is over."""
    return until(client, began(client, said, agent, **more).id, "idle")


def message(*said):
    """An event with a message of these texts."""
    parts = [{"type": "input_text", "text": it} if isinstance(it, str) else it for it in said]
    return {"type": "agent.session.input.message", "input": [{"role": "user", "content": parts}]}


def result(action, output=None, success=True, **more):
    """An event that answers a required action, or an item, with what the function said."""
    event = {"type": "agent.session.input.tool_result", "turn_id": action.turn_id, "call_id": action.call_id}
    event |= {"success": success} | more
    return event if output is None else event | {"output": output}


CANCEL = {"type": "agent.session.input.cancel"}


def told(client, session_id):
    """What was said in the session, in order: (role or type, text)."""
    rows = []
    for item in sessions_of(client).items.list(session_id, order="asc"):
        match item.type:
            case "message":
                rows.append((item.role, text(item)))
            case "function_call":
                rows.append((item.type, item.name))
            case "function_call_output":
                rows.append((item.type, item.output))
            case "reasoning":
                rows.append((item.type, "".join(it.text for it in item.summary)))
            case other:
                rows.append((other, None))
    return rows


def turns(client, session_id):
    return list(sessions_of(client).turns.list(session_id, order="asc"))


class Wire:
    """The events as they come over the wire, with our own cursor: what the official client cannot ask for."""

    def __init__(self, server, session_id, after=None):
        self.http = httpx2.Client(timeout=60, trust_env=False)
        query = {} if after is None else {"after": after}
        request = self.http.build_request(
            "GET",
            f"{server.url}/v1/agents/sessions/{session_id}/events",
            params=query,
            headers={"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "agents=v1", "Accept": "text/event-stream"},
        )
        self.answer = self.http.send(request, stream=True)

    def __enter__(self):
        assert self.answer.status_code == 200, self.answer.read()
        return self.events()

    def __exit__(self, *_):
        self.answer.close()
        self.http.close()

    def events(self):
        for line in self.answer.iter_lines():
            assert not line.startswith(("id:", "retry:")), line
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def through(events, *ends):
    """The events up to the first of these kinds, that one too."""
    seen = []
    for event in events:
        seen.append(event)
        kind = event["type"] if isinstance(event, dict) else event.type
        if kind.removeprefix("agent.session.") in ends:
            break
    return seen


def status_error(call, status, error=openai.APIStatusError):
    """What a call that has to fail was told; and that it was tried once."""
    try:
        call()
    except error as err:
        assert err.status_code == status, err
        assert err.request.headers["x-stainless-retry-count"] == "0", "it was repeated"
        return err
    raise AssertionError(f"{call} did not fail")


def run(work):
    """Runs a coroutine, with an end."""
    return asyncio.run(asyncio.wait_for(work, 60))
