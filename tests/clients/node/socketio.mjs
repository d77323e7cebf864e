// socket.io-client as it comes: polling first, then the upgrade; and each transport alone.

import assert from "node:assert/strict";
import { io } from "socket.io-client";
import * as harness from "./harness.mjs";
import { ADA, ANON_KEY, API_KEY, GRACE, SIDECAR_URL, check, connected, finish, heard, publish, token, until } from "./harness.mjs";

/** A socket that has not been told anything but whose it is. */
function socket(auth, options = {}) {
  const one = io(SIDECAR_URL, { auth, forceNew: true, ...options });
  connected(() => one.disconnect());
  return one;
}

/** A connected socket. */
async function open(auth, options) {
  const one = socket(auth, options);
  const refused = heard(one, "connect_error");
  await until("it connects", () => one.connected || refused.length > 0);
  assert.equal(one.connected, true, refused[0]?.message);
  assert.ok(one.id);
  return one;
}

const user = (sub, options) => open({ token: token({ sub }) }, options);
const subscribe = (one, channel, more = {}) => one.timeout(harness.PATIENCE_MS).emitWithAck("realtime:subscribe", { channel, ...more });
const transport = (one) => one.io.engine.transport.name;

async function join(one, channel, more) {
  const answer = await subscribe(one, channel, more);
  assert.equal(answer.ok, true, JSON.stringify(answer));
  return answer;
}

await check("K28 it connects by polling and goes on over a WebSocket", async () => {
  const one = socket({ token: token({ sub: ADA }) });
  const names = [];
  one.io.on("open", () => {
    names.push(transport(one));
    one.io.engine.on("upgrade", ({ name }) => names.push(name));
  });
  await until("it is upgraded", () => names.length === 2);
  assert.deepEqual(names, ["polling", "websocket"]);
  assert.equal(one.connected, true);
  await join(one, "chat:upgraded");
});

for (const [what, options] of [
  ["its default transports", {}],
  ["polling alone", { transports: ["polling"] }],
  ["WebSocket alone", { transports: ["websocket"] }],
]) {
  await check(`with ${what}: subscribe, publish, receive, ack`, async () => {
    const [ada, grace] = [await user(ADA, options), await user(GRACE, options)];
    const inboxes = [ada, grace].map((one) => heard(one, "n"));
    for (const one of [ada, grace]) await join(one, "chat:transports");
    const refused = await subscribe(ada, "order:2");
    assert.deepEqual([refused.ok, refused.channel, refused.error.code], [false, "order:2", "UNAUTHORIZED"]);
    for (let n = 0; n < 50; n += 1) ada.emit("realtime:publish", { channel: "chat:transports", event: "n", payload: { n, text: "ü€😀\u2028" } });
    for (const inbox of inboxes) {
      await inbox.atLeast(50);
      assert.deepEqual(inbox.map(({ n }) => n), [...Array(50).keys()]);
      assert.equal(inbox[0].text, "ü€😀\u2028");
      assert.equal(inbox[0].meta.senderId, ADA);
    }
    ada.emit("realtime:unsubscribe", { channel: "chat:transports" });
    await join(ada, "chat:after");
    await publish("chat:transports", "n", { n: 50 });
    await inboxes[1].atLeast(51);
    assert.equal(inboxes[0].length, 50);
  });
}

await check("IF-12 100 kB by polling, both ways", async () => {
  const one = await user(ADA, { transports: ["polling"] });
  const large = heard(one, "large");
  await join(one, "chat:polled");
  const text = "0123456789".repeat(10_000);
  one.emit("realtime:publish", { channel: "chat:polled", event: "large", payload: { text } });
  await publish("chat:polled", "large", { text });
  await large.atLeast(2);
  assert.deepEqual(large.map((message) => message.text === text), [true, true]);
});

await check("X-03 a subscribe that asks for no answer subscribes", async () => {
  const one = await user(ADA);
  const hello = heard(one, "hello");
  one.emit("realtime:subscribe", { channel: "chat:silent" });
  await until("it is heard", async () => {
    await publish("chat:silent", "hello");
    return hello.length > 0;
  });
});

await check("IF-18 publishing without a subscription is told", async () => {
  const one = await user(ADA);
  const errors = heard(one, "realtime:error");
  one.emit("realtime:publish", { channel: "chat:unjoined", event: "hello", payload: {} });
  const { channel, code, message } = await errors.first();
  assert.deepEqual([channel, code, typeof message], ["chat:unjoined", "NOT_SUBSCRIBED", "string"]);
});

await check("IF-36 who asks for what came `since` loses nothing and gets nothing twice", async () => {
  const one = await user(ADA);
  const numbers = heard(one, "n");
  const { offset } = await join(one, "chat:since");
  assert.equal(typeof offset, "number");
  for (const n of [1, 2]) await publish("chat:since", "n", { n });
  await numbers.atLeast(2);
  assert.ok(numbers[0].meta.offset > offset && numbers[1].meta.offset > numbers[0].meta.offset);
  one.on("connect", () => one.emit("realtime:subscribe", { channel: "chat:since", since: numbers.at(-1).meta.offset }));
  await harness.killSidecar();
  for (const n of [3, 4]) await publish("chat:since", "n", { n });
  await harness.startSidecar();
  await numbers.atLeast(4);
  await publish("chat:since", "n", { n: 5 });
  await numbers.atLeast(5);
  await harness.stopPostgres();
  await harness.startPostgres();
  await publish("chat:since", "n", { n: 6 });
  await numbers.atLeast(6);
  assert.deepEqual(numbers.map(({ n }) => n), [1, 2, 3, 4, 5, 6]);
});

await check("X-04 X-05 keys, tokens, and what is neither", async () => {
  await open({ token: ANON_KEY });
  await open({ apiKey: API_KEY });
  const refused = [{}, undefined, { token: "anon_wrong" }, { apiKey: "ik_wrong" }, { token: 7 }, { apiKey: ANON_KEY }];
  for (const auth of refused) {
    const one = socket(auth, { transports: ["websocket"] });
    const { message } = await heard(one, "connect_error").first();
    assert.ok(message.length > 8 && !/websocket|timeout|xhr/i.test(message), `${JSON.stringify(auth)}: ${message}`);
    one.disconnect();
  }
});

await check("an unknown namespace is refused, and the others go on", async () => {
  const one = await user(ADA);
  const other = one.io.socket("/admin");
  const { message } = await heard(other.connect(), "connect_error").first();
  assert.equal(message, "Invalid namespace");
  await join(one, "chat:namespace");
});

finish();
