// Restate: a call of a service for each turn, a `ctx.run` for each durable write. Three processes: its server, the
// service, and this one, which calls. `restate_turns.mjs SERVER FOLDER CLIENTS SECONDS` prints the figures as JSON.

import { spawn } from "node:child_process";
import http from "node:http";
import net from "node:net";
import { fileURLToPath } from "node:url";

const [server, folder, clients, seconds] = process.argv.slice(2);
const STEPS = 10;

const freePort = () =>
  new Promise((found) => {
    const held = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = held.address();
      held.close(() => found(port));
    });
  });

const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity });

const ask = (port, method, path, body) =>
  new Promise((done, fail) => {
    const headers = { "content-type": "application/json" };
    const request = http.request({ host: "127.0.0.1", port, method, path, agent, headers }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (piece) => (text += piece));
      answer.on("end", () => done({ status: answer.statusCode, text }));
    });
    request.on("error", fail).end(body);
  });

const until = async (what, works) => {
  for (let n = 0; n < 600; n++) {
    if (await works().catch(() => false)) return;
    await new Promise((then) => setTimeout(then, 100));
  }
  throw new Error(`${what} does not come up`);
};

const [ingress, admin, fabric, port] = [await freePort(), await freePort(), await freePort(), await freePort()];
const restate = spawn(server, ["--no-logo", "--listen-mode", "tcp", "--bind-ip", "127.0.0.1", "--base-dir", folder], {
  stdio: "ignore",
  env: {
    ...process.env,
    RESTATE_BIND_PORT: String(fabric),
    RESTATE_INGRESS__BIND_PORT: String(ingress),
    RESTATE_ADMIN__BIND_PORT: String(admin),
    RESTATE_LOG_FILTER: "error",
    DO_NOT_TRACK: "1",
  },
});
const service = spawn(process.execPath, [fileURLToPath(new URL("restate_service.mjs", import.meta.url)), String(port)], {
  stdio: ["ignore", "ignore", "inherit"],
});
const end = () => {
  restate.kill("SIGKILL");
  service.kill("SIGKILL");
};
process.on("exit", end);

await until("restate", async () => (await ask(admin, "GET", "/health")).status === 200);
await until("the service", async () => {
  const deployment = JSON.stringify({ uri: `http://127.0.0.1:${port}` });
  return (await ask(admin, "POST", "/deployments", deployment)).status < 300;
});
await until("the ingress", async () => (await ask(ingress, "POST", "/turns/play", "{}")).status === 200);

const took = [];
let turns = 0;
const began = performance.now();
const deadline = began + 1000 * Number(seconds);
const client = async () => {
  while (performance.now() < deadline) {
    const { status, text } = await ask(ingress, "POST", "/turns/play", "{}");
    if (status !== 200) throw new Error(`${status} ${text}`);
    took.push(...JSON.parse(text));
    turns += 1;
  }
};
await Promise.all(Array.from({ length: Number(clients) }, client));
// A turn that was begun in time is played to its end.
const lasted = (performance.now() - began) / 1000;
took.sort((one, other) => one - other);
const at = (part) => took[Math.min(Math.floor(took.length * part), took.length - 1)] ?? 0;
const steps = turns * STEPS;
console.log(JSON.stringify({ steps, per_second: steps / lasted, p50_ms: at(0.5), p99_ms: at(0.99) }));
process.exit(0);
