// The Agents API through the official client in JavaScript: its helpers as they come, and what it is strict about.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { AGENT, CONFIG, NONE, Server, all, handlers, kinds, only, rested, standardAgentTextFormat, until } from "./stage.mjs";

const ASKED = [["weather", { city: "Paris" }], ["clock", { zone: "Europe/Paris" }]];
const TOLD = 'All told: {"time":"12:00"}';
const READING = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "number" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};

let server;
let client;
let sessions;

before(async () => {
  server = await new Server(CONFIG).start();
  client = server.client();
  sessions = client.beta.agents.sessions;
});
after(() => server.close());

/** Parses what it is given, and insists on its form. */
function reading() {
  const validate = (value) =>
    typeof value?.city === "string" && typeof value?.degrees === "number"
      ? { value }
      : { issues: [{ message: "no reading" }] };
  return standardAgentTextFormat({ "~standard": { version: 1, vendor: "everstate", validate } }, READING);
}

test("three turns in a row, with two tools one after the other", async () => {
  const session = await rested(client);
  for (let n = 0; n < 3; n++) {
    const tools = handlers();
    const stream = sessions.stream(session.id, { input: "two tools", toolHandlers: only(tools) });
    const result = await stream.finalResult();
    assert.deepEqual(tools.asked, ASKED);
    assert.equal(result.output_text, TOLD);
    assert.equal(result.turn.status, "completed");
  }
  const turns = await all(sessions.turns.list(session.id, { order: "asc" }));
  assert.deepEqual(turns.map((it) => it.status), Array(4).fill("completed"));
});

test("every event of a turn", async () => {
  const session = await rested(client);
  const events = [];
  for await (const event of sessions.stream(session.id, { input: "two tools", toolHandlers: only(handlers()) })) {
    events.push(event);
  }
  const kind = kinds(events);
  assert.equal(kind.at(-1), "idle");
  assert.ok(kind.indexOf("turn.created") < kind.indexOf("turn.completed"));
  assert.equal(new Set(events.map((it) => it.event_id)).size, events.length);
  const created = events.find((it) => it.type.endsWith("turn.created"));
  // Missing is not enough for this client.
  assert.ok("subagent_id" in created.turn);
  assert.equal(created.turn.subagent_id, null);
  const actions = events.filter((it) => it.type.endsWith("requires_action")).map((it) => it.session.required_actions);
  assert.deepEqual(actions.map((some) => some.map((it) => it.name)), [["weather"], ["clock"]]);
  for (const event of events.filter((it) => "session" in it && !it.type.endsWith("requires_action"))) {
    assert.deepEqual(event.session.required_actions, []);
  }
});

test("a created stream with tools, collected and iterated", async () => {
  const ask = { environment: NONE, agent: AGENT, input: "two tools", stream: true };
  let tools = handlers();
  let stream = await sessions.create({ ...ask, toolHandlers: only(tools) });
  const result = await stream.finalResult();
  assert.deepEqual(tools.asked, ASKED);
  assert.equal(result.output_text, TOLD);
  tools = handlers();
  stream = await sessions.create({ ...ask, toolHandlers: only(tools) });
  const events = [];
  for await (const event of stream) events.push(event);
  assert.equal(kinds(events)[0], "created");
  assert.equal(kinds(events).at(-1), "idle");
  assert.deepEqual(tools.asked, ASKED);
});

test("structured output", async () => {
  const format = reading();
  const session = await rested(client, { agent: { ...AGENT, text: { format } }, input: "structured" });
  assert.equal(session.agent.text.format.type, "json_schema");
  assert.deepEqual(session.agent.text.format.schema, READING);
  const result = await sessions.stream(session.id, { input: "structured", outputFormat: format }).finalResult();
  assert.deepEqual(result.output_parsed, { city: "Paris", degrees: 21 });
});

test("a failed turn ends the result call", async () => {
  const session = await rested(client);
  await assert.rejects(sessions.stream(session.id, { input: "fail" }).finalResult(), (error) => error.reason === "failed");
  const result = await sessions.stream(session.id, { input: "hello" }).finalResult();
  assert.match(result.output_text, /hello/);
});

test("without a handler the result call says so", async () => {
  const session = await rested(client);
  const stream = sessions.stream(session.id, { input: "two tools" });
  await assert.rejects(stream.finalResult(), (error) => error.reason === "requires_action");
  const waiting = await until(client, session.id, "requires_action");
  const [action] = waiting.required_actions;
  assert.equal(action.name, "weather");
  await sessions.events.create(session.id, { events: [{ type: "agent.session.input.cancel" }] });
  await until(client, session.id, "idle");
});

test("a reached budget is closed rather than hanging", { timeout: 30_000 }, async () => {
  const agent = { ...AGENT, model: "dear" };
  const stream = await sessions.create({
    environment: NONE,
    agent,
    input: "spend",
    stream: true,
    spend_control: { limit: 100 },
    toolHandlers: only(handlers()),
  });
  // This client does not know the event; the end of the body is what it understands.
  const events = [];
  for await (const event of stream) events.push(event);
  assert.equal(kinds(events).at(-1), "budget_reached");
  const id = events.at(-1).session.id;
  assert.equal((await sessions.update(id, { spend_control: { limit: 10_000 } })).spend_control.limit, 10_000);
  await until(client, id, "idle");
  // The same, followed by the other helper.
  const session = await rested(client, { agent, spend_control: { limit: 100 } });
  const follow = sessions.stream(session.id, { input: "spend", toolHandlers: only(handlers()) });
  await assert.rejects(follow.finalResult());
  assert.equal((await sessions.retrieve(session.id)).status, "budget_reached");
});

test("lists in both orders, page by page", async () => {
  const session = await rested(client);
  await sessions.stream(session.id, { input: "two tools", toolHandlers: only(handlers()) }).finalResult();
  const asc = await all(sessions.items.list(session.id, { order: "asc", limit: 2 }));
  const desc = await all(sessions.items.list(session.id, { order: "desc", limit: 2 }));
  assert.equal(asc.length, 9);
  assert.deepEqual(desc.map((it) => it.id).reverse(), asc.map((it) => it.id));
  const turns = await all(sessions.turns.list(session.id, { order: "asc", limit: 1 }));
  assert.equal(turns.length, 2);
  const ofTurns = [];
  for (const turn of turns) {
    ofTurns.push(...(await all(sessions.turns.items.list(turn.id, { session_id: session.id, order: "asc", limit: 2 }))));
  }
  assert.deepEqual(ofTurns.map((it) => it.id), asc.map((it) => it.id));
  const found = await all(sessions.list({ limit: 2 }));
  assert.ok(found.some((it) => it.id === session.id));
  assert.deepEqual(await all(sessions.subagents.list(session.id)), []);
});

test("what is not available yet is tried once", async () => {
  await assert.rejects(client.beta.agents.automations.list(), (error) => {
    assert.equal(error.status, 501);
    assert.equal(error.code, "not_available_yet");
    assert.equal(error.headers.get("x-should-retry"), "false");
    return true;
  });
});

test("killed while it streams, and read the original way", async () => {
  const own = await new Server(CONFIG).start();
  try {
    const other = own.client();
    const session = await rested(other);
    const stream = other.beta.agents.sessions.stream(session.id, { input: "slow" });
    let shown = 0;
    await assert.rejects(async () => {
      for await (const event of stream) {
        if (event.type.endsWith("output_text.delta") && ++shown === 2) {
          await own.kill();
          await own.start();
        }
      }
    });
    await until(other, session.id, "idle");
    const items = await all(other.beta.agents.sessions.items.list(session.id, { order: "asc" }));
    assert.equal(items.at(-1).content[0].text, "one two three four five six seven eight");
  } finally {
    await own.close();
  }
});
