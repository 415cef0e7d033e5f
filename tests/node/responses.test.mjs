// `/v1/responses` and `/v1/models` through the official client in JavaScript.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { CONFIG, OpenAI, Server, all } from "./stage.mjs";

let server;
let client;

before(async () => {
  server = await new Server(CONFIG).start();
  client = server.client();
});
after(() => server.close());

const WEATHER = {
  type: "function",
  name: "weather",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  strict: false,
};

test("models", async () => {
  assert.deepEqual((await all(client.models.list())).map((it) => it.id), ["dear", "rehearsal"]);
  await assert.rejects(client.models.retrieve("nothing-4"), OpenAI.NotFoundError);
});

test("created, retrieved, deleted", async () => {
  const made = await client.responses.create({ model: "rehearsal", input: "hello", metadata: { order: "1182" } });
  assert.equal(made.status, "completed");
  assert.match(made.output_text, /hello/);
  assert.deepEqual(made.metadata, { order: "1182" });
  assert.deepEqual((await client.responses.retrieve(made.id)).output, made.output);
  const [item] = await all(client.responses.inputItems.list(made.id));
  assert.equal(item.content[0].text, "hello");
  await client.responses.delete(made.id);
  await assert.rejects(client.responses.retrieve(made.id), OpenAI.NotFoundError);
});

test("a stream and its final object", async () => {
  const stream = client.responses.stream({ model: "rehearsal", input: "slow" });
  let text = "";
  for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
  const final = await stream.finalResponse();
  assert.equal(text, "one two three four five six seven eight");
  assert.equal(final.output_text, text);
  assert.equal(final.output[0].summary[0].text, "Let me think about it.");
});

test("functions, and a chain", async () => {
  const ask = { model: "rehearsal", tools: [WEATHER] };
  const asked = await client.responses.create({ input: 'call weather {"city": "Paris"}', ...ask });
  const call = asked.output.find((it) => it.type === "function_call");
  assert.deepEqual(JSON.parse(call.arguments), { city: "Paris" });
  const output = { type: "function_call_output", call_id: call.call_id, output: "sunny" };
  const done = await client.responses.create({ input: [output], previous_response_id: asked.id, ...ask });
  assert.match(done.output_text, /sunny/);
  assert.equal(done.previous_response_id, asked.id);
});

test("structured output is parsed", async () => {
  const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
  const format = { type: "json_schema", name: "reading", schema, strict: true };
  const made = await client.responses.create({ model: "rehearsal", input: "structured", text: { format } });
  assert.deepEqual(JSON.parse(made.output_text), { city: "Paris", degrees: 21 });
});

test("a stream in the background is taken up again", async () => {
  const stream = await client.responses.create({ model: "rehearsal", input: "slow", background: true, stream: true });
  const seen = [];
  for await (const event of stream) {
    seen.push(event);
    if (event.type === "response.output_text.delta") break;
  }
  const id = seen[0].response.id;
  const rest = await client.responses.retrieve(id, { stream: true, starting_after: seen.at(-1).sequence_number });
  for await (const event of rest) seen.push(event);
  assert.deepEqual(seen.map((it) => it.sequence_number), seen.map((_, n) => n));
  assert.equal(seen.at(-1).response.output.at(-1).content[0].text, "one two three four five six seven eight");
});

test("errors are of the client's own classes, and are not repeated", async () => {
  await assert.rejects(client.responses.create({ model: "nothing-4", input: "x" }), OpenAI.NotFoundError);
  await assert.rejects(client.conversations.create({}), (error) => error.status === 501);
  const stranger = server.client({ apiKey: "wrong" });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});
