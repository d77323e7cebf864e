// What every script here needs: the stack that it talks to, tokens, and one line for each check.
//
// A script prints `ok TITLE` or `not ok TITLE` for each check and exits with 1 when one failed, or when nobody was ever
// connected. A line that begins with `> ` asks whoever started it to do something to the stack; the answer comes as a
// line on the standard input.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

/** Where the sidecar is, and what it was told. */
export const { SIDECAR_URL, JWT_SECRET, ANON_KEY, API_KEY } = process.env;

/** How long something may take that must happen. Long: only a failure uses it up, and machines are slow. */
export const PATIENCE_MS = 30_000;

export const ADA = "00000000-0000-4000-8000-00000000ada1";
export const GRACE = "00000000-0000-4000-8000-0000009ace01";

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function ask(request) {
  process.stdout.write(`> ${JSON.stringify(request)}\n`);
  const { value, done } = await answers.next();
  assert.ok(!done, "whoever started this has gone");
  const answer = JSON.parse(value);
  if (answer.error) throw new Error(answer.error);
  return answer.rows;
}

/** Runs SQL as the database's owner. Returns rows of texts. */
export const sql = (text) => ask({ do: "sql", text });

/** Kills the sidecar (SIGKILL), as a crash would. */
export const killSidecar = () => ask({ do: "kill sidecar" });

/** Asks the sidecar to stop (SIGTERM) and waits until it has. */
export const stopSidecar = () => ask({ do: "stop sidecar" });

/** Starts the sidecar again, at the same address, and waits until it is ready. */
export const startSidecar = () => ask({ do: "start sidecar" });

/** Starts the sidecar before its database is there. */
export const startSidecarFirst = () => ask({ do: "start sidecar first" });

/** Stops Postgres as a crash would. */
export const stopPostgres = () => ask({ do: "stop postgres" });

/** Starts Postgres again and waits until the sidecar is ready. */
export const startPostgres = () => ask({ do: "start postgres" });

/** A message from the database, as a trigger would send it. */
export const publish = (channel, event, payload = {}) =>
  sql(`select realtime.publish('${channel}', '${event}', '${JSON.stringify(payload)}')`);

const base64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token (HS256) with these claims, good for an hour unless they say otherwise. */
export function token(claims, secret = JWT_SECRET) {
  const all = { role: "authenticated", exp: inSeconds(3600), ...claims };
  const signed = `${base64({ alg: "HS256", typ: "JWT" })}.${base64(all)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** A time in seconds since 1970, as tokens have it. */
export const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds;

/** Looks until there is something to see, and returns it. */
export async function until(what, look) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    assert.ok(Date.now() < deadline, `waited in vain: ${what}`);
    await pause(10);
  }
}

/** Everything that a client or socket hears under a name, in order, as it comes. */
export function heard(emitter, event) {
  const messages = [];
  emitter.on(event, (message) => messages.push(message));
  messages.first = () => messages.atLeast(1).then(() => messages[0]);
  messages.atLeast = (count) => until(`${count} of ${event}`, () => messages.length >= count);
  return messages;
}

let failed = 0;
let connections = 0;
let cleanups = [];

/** Counts that somebody was connected, and remembers how to end it when the check is over. */
export function connected(end) {
  connections += 1;
  cleanups.push(end);
}

/** Does something when the check is over, however it ended. */
export const afterwards = (work) => cleanups.push(work);

/** Runs one check and prints its line. The title begins with the requirements that it is for. */
export async function check(title, work) {
  try {
    await work();
    console.log(`ok ${title}`);
  } catch (error) {
    failed += 1;
    console.log(`not ok ${title}\n${String(error?.stack ?? error).replace(/^/gm, "    ")}`);
  }
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

/** Ends the script. */
export function finish() {
  if (connections === 0) console.log("not ok somebody was connected");
  process.exit(failed > 0 || connections === 0 ? 1 : 0);
}
