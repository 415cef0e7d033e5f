// The service that Restate calls: a turn of ten steps with three durable writes each. `restate_service.mjs PORT`

import * as restate from "@restatedev/restate-sdk";

// The SDK asks for it, and Node 20 does not have it.
Promise.withResolvers ??= () => {
  const out = {};
  out.promise = new Promise((resolve, reject) => Object.assign(out, { resolve, reject }));
  return out;
};

const WORDS = "the order was paid twice and customer asks for a refund of second charge please look at invoice".split(" ");
const draw = (from) => from[Math.floor(Math.random() * from.length)];
const TEXTS = Array.from({ length: 64 }, () => Array.from({ length: 400 }, () => draw(WORDS)).join(" "));
const text = (size) => draw(TEXTS).slice(0, size);

// As in turns.py.
const writes = (step) => [
  { kind: "placed", step, offer: "model/global/provider", why: text(150) },
  { kind: "replied", step, call: { name: "work", arguments: { step } }, usage: [100, 50] },
  { kind: "tool finished", step, output: text(1024) },
];

const play = async (ctx) => {
  const took = [];
  let since;
  for (let step = 0; step < 10; step++) {
    for (const what of writes(step)) await ctx.run(what.kind, () => what);
    const now = performance.now();
    if (since !== undefined) took.push(now - since);
    since = now;
  }
  return took;
};

const turns = restate.service({ name: "turns", handlers: { play } });
restate.serve({ services: [turns], port: Number(process.argv[2]) });
