// Saved agents, vaults and traces through the official client in JavaScript.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { CONFIG, NONE, OpenAI, Server, all, rested } from "./stage.mjs";

let server;
let client;
let sessions;

before(async () => {
  server = await new Server(CONFIG).start();
  client = server.client();
  sessions = client.beta.agents.sessions;
});
after(() => server.close());

test("saved agents, traces, vaults and credentials", async () => {
  const agents = client.beta.agents;
  const agent = await agents.create({ model: "rehearsal", name: "Clerk", metadata: { shelf: "node" } });
  assert.deepEqual(await agents.retrieve(agent.id), agent);
  assert.equal((await agents.update(agent.id, { name: null })).name, null);
  const session = await sessions.create({ environment: NONE, agent_id: agent.id, input: "hello", metadata: { shelf: "node" } });
  assert.deepEqual((await all(sessions.list({ metadata: { shelf: "node" } }))).map((it) => it.id), [session.id]);
  assert.equal((await agents.delete(agent.id)).deleted, true);
  assert.equal((await all(sessions.traces.list((await rested(client)).id))).length, 1);
  const vault = await agents.vaults.create({ name: "keys" });
  const auth = { type: "static_bearer", mcp_server_url: "https://mcp.example.com/mcp", token: "a-secret" };
  const credential = await agents.vaults.credentials.create(vault.id, { name: "mcp", auth });
  assert.ok(!JSON.stringify(credential).includes("a-secret"));
  assert.deepEqual(await agents.vaults.credentials.retrieve(credential.id, { vault_id: vault.id }), credential);
  assert.equal((await agents.vaults.delete(vault.id)).deleted, true);
  await assert.rejects(agents.vaults.retrieve(vault.id), OpenAI.NotFoundError);
});
