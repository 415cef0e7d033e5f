// A real server process over a directory of its own, the official client against it, and what the tests share.
//
// Nothing here sleeps: whatever has to be waited for says so itself.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

// The packages are installed beside nothing of ours: below target/tools/node.
const require = createRequire(resolve(process.env.EVERSTATE_TEST_NODE ?? "target/tools/node", "package.json"));
export const OpenAI = require("openai");
export const { standardAgentTextFormat } = require("openai/helpers/beta/agents/standard-schema");

const KEY = "an-admin-key-for-tests";
const BINARY = resolve(process.env.EVERSTATE_TEST_BINARY ?? "target/debug/everstate");

/** `everstate serve`. Killed, it can be started again over the same directory and port. */
export class Server {
  constructor(config = "") {
    this.dir = mkdtempSync(join(tmpdir(), "everstate-node-"));
    this.port = 0;
    writeFileSync(join(this.dir, "everstate.toml"), config);
  }

  async start() {
    const theirs = /^(OPENAI_|EVERSTATE_|https?_proxy|all_proxy)/i;
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !theirs.test(name)));
    this.process = spawn(
      BINARY,
      ["serve", "--listen", `127.0.0.1:${this.port}`, "--store", `sqlite:${this.dir}/state.db`],
      {
        cwd: this.dir,
        env: { ...env, EVERSTATE_ADMIN_KEY: KEY, RUST_LOG: "warn" },
        stdio: ["ignore", "pipe", openSync(join(this.dir, "stderr"), "a")],
      },
    );
    this.ended = once(this.process, "exit");
    const [url] = await Promise.race([once(createInterface(this.process.stdout), "line"), this.ended]);
    if (!String(url).startsWith("http://")) {
      throw new Error(`did not start: ${url}\n${readFileSync(join(this.dir, "stderr"))}`);
    }
    this.url = url;
    this.port = Number(new URL(url).port);
    return this;
  }

  async kill() {
    this.process.kill("SIGKILL");
    await this.ended;
  }

  async close() {
    await this.kill();
    rmSync(this.dir, { recursive: true });
  }

  client(more = {}) {
    return new OpenAI({ baseURL: `${this.url}/v1`, apiKey: KEY, timeout: 30_000, ...more });
  }
}

/** The model is the rehearsal; each of its lines begins with the word that a test says to it. */
export const CONFIG = `
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

[[providers.rehearsal.script.rules]]
when = { says = "fail" }
error = { status = 400, code = "invalid_prompt", message = "no such prompt" }
`;

const tool = (name, argument) => ({
  type: "function",
  name,
  description: `Tells the ${name}.`,
  parameters: { type: "object", properties: { [argument]: { type: "string" } }, required: [argument] },
});

export const AGENT = { model: "rehearsal", tools: [tool("weather", "city"), tool("clock", "zone")] };
export const NONE = { type: "none" };

/** Tool handlers that remember what they were asked. */
export function handlers() {
  const asked = [];
  const remember = (name, output) => (argument) => {
    asked.push([name, argument]);
    return output;
  };
  return { asked, weather: remember("weather", "sunny"), clock: remember("clock", { time: "12:00" }) };
}

export const only = ({ asked, ...rest }) => rest;

export async function all(pages) {
  const rows = [];
  for await (const row of pages) rows.push(row);
  return rows;
}

export const kinds = (events) => events.map((it) => it.type.replace("agent.session.", ""));

/** The session, as soon as it stands so. */
export async function until(client, id, ...statuses) {
  for (;;) {
    const session = await client.beta.agents.sessions.retrieve(id);
    if (statuses.includes(session.status)) return session;
  }
}

export async function rested(client, more = {}) {
  const made = await client.beta.agents.sessions.create({ environment: NONE, agent: AGENT, input: "hello", ...more });
  return until(client, made.id, "idle");
}
