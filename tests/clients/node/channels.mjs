// Channels with the SDK: who may listen and speak, what arrives, and how.

import assert from "node:assert/strict";
import { ADA, GRACE, check, finish, heard, publish, sql } from "./harness.mjs";
import { join, stranger, user } from "./sdk.mjs";

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

await check("IF-15 X-01 subscribe() answers with the channel and who is there", async () => {
  const answer = await join(await user(ADA), "chat:answer");
  assert.equal(answer.channel, "chat:answer");
  assert.deepEqual(answer.presence.members.map(({ type, presenceId }) => [type, presenceId]), [["user", ADA]]);
  assert.ok(!Number.isNaN(Date.parse(answer.presence.members[0].joinedAt)));
});

await check("IF-04 IF-16 a policy that refuses is told with code and message", async () => {
  const ada = await user(ADA);
  await join(ada, "order:1");
  for (const channel of ["order:2", "nothing:here", "closed", "%", ""]) {
    const answer = await ada.subscribe(channel);
    assert.equal(answer.ok, false, channel);
    assert.equal(answer.channel, channel);
    assert.equal(typeof answer.error.message, "string");
    if (channel.length > 1) assert.equal(answer.error.code, "UNAUTHORIZED", channel);
  }
  assert.ok(!ada.getSubscribedChannels().includes("order:2"));
});

await check("IF-08 IF-26 a trigger's message comes, from the system", async () => {
  const ada = await user(ADA);
  const changes = heard(ada, "status_changed");
  await join(ada, "order:1");
  await sql("update orders set status = 'shipped' where id = 1");
  const { meta, ...payload } = await changes.first();
  assert.deepEqual(payload, { id: 1, status: "shipped" });
  assert.deepEqual([meta.channel, meta.senderType, "senderId" in meta], ["order:1", "system", false]);
  await sql("update orders set status = 'new' where id = 1");
  await changes.atLeast(2);
});

await check("IF-19 IF-26 X-07 a message reaches everybody, its sender too, with who sent it", async () => {
  const [ada, grace] = [await user(ADA), await user(GRACE)];
  const inboxes = [ada, grace].map((one) => heard(one, "new_message"));
  await join(ada, "chat:both");
  await join(grace, "chat:both");
  await ada.publish("chat:both", "new_message", { text: "Hello!", nested: { list: [1, null, "ü"] } });
  const [mine, hers] = await Promise.all(inboxes.map((inbox) => inbox.first()));
  assert.deepEqual(mine, hers);
  const { meta, ...payload } = mine;
  assert.deepEqual(payload, { text: "Hello!", nested: { list: [1, null, "ü"] } });
  assert.match(meta.messageId, uuid);
  assert.deepEqual([meta.channel, meta.senderType, meta.senderId], ["chat:both", "user", ADA]);
  for (const name of ["channel", "messageId", "senderType", "timestamp"]) assert.equal(typeof meta[name], "string", name);
  assert.ok(Math.abs(Date.parse(meta.timestamp) - Date.now()) < 600_000);
});

await check("IF-07 IF-22 who may not publish hears UNAUTHORIZED", async () => {
  const nobody = await stranger();
  const errors = heard(nobody, "error");
  const said = heard(nobody, "hello");
  await join(nobody, "lobby");
  await nobody.publish("lobby", "hello", {});
  const { channel, code, message } = await errors.first();
  assert.deepEqual([channel, code, typeof message], ["lobby", "UNAUTHORIZED", "string"]);
  await publish("lobby", "hello", { from: "the database" });
  assert.equal((await said.first()).from, "the database", "what was refused never came");
});

await check("IF-18 IF-22 who is not subscribed hears NOT_SUBSCRIBED", async () => {
  const ada = await user(ADA);
  const errors = heard(ada, "error");
  await ada.publish("chat:elsewhere", "hello", {});
  const { channel, code } = await errors.first();
  assert.deepEqual([channel, code], ["chat:elsewhere", "NOT_SUBSCRIBED"]);
});

await check("IF-17 after unsubscribe() nothing comes", async () => {
  const ada = await user(ADA);
  const [left, kept] = [heard(ada, "left"), heard(ada, "kept")];
  await join(ada, "chat:left");
  await join(ada, "chat:kept");
  ada.unsubscribe("chat:left");
  // Answered after the unsubscribe, which has no answer of its own.
  await join(ada, "chat:more");
  await publish("chat:left", "left");
  await publish("chat:kept", "kept");
  await kept.first();
  assert.equal(left.length, 0);
  await join(ada, "chat:left");
  await publish("chat:left", "left");
  await left.first();
});

await check("IF-20 on, once and off", async () => {
  const ada = await user(ADA);
  await join(ada, "chat:listeners");
  const all = heard(ada, "tick");
  const calls = { once: 0, removed: 0 };
  const removed = () => (calls.removed += 1);
  ada.once("tick", () => (calls.once += 1));
  ada.on("tick", removed);
  await publish("chat:listeners", "tick");
  await all.atLeast(1);
  ada.off("tick", removed);
  await publish("chat:listeners", "tick");
  await all.atLeast(2);
  assert.deepEqual(calls, { once: 1, removed: 1 });
});

await check("IF-25 nobody forges meta", async () => {
  const ada = await user(ADA);
  const messages = heard(ada, "forged");
  await join(ada, "chat:forged");
  const meta = { channel: "chat:other", messageId: "mine", senderType: "system", senderId: GRACE, timestamp: "never", admin: true };
  await ada.publish("chat:forged", "forged", { text: "trust me", meta });
  const message = await messages.first();
  assert.equal(message.text, "trust me");
  assert.deepEqual([message.meta.channel, message.meta.senderType, message.meta.senderId], ["chat:forged", "user", ADA]);
  assert.match(message.meta.messageId, uuid);
  assert.ok(!("admin" in message.meta));
});

await check("IF-12 a payload of 100 kB crosses, both ways", async () => {
  const ada = await user(ADA);
  const messages = heard(ada, "large");
  await join(ada, "chat:large");
  const text = "0123456789".repeat(10_000);
  await ada.publish("chat:large", "large", { text });
  await publish("chat:large", "large", { text });
  await messages.atLeast(2);
  assert.deepEqual(messages.map((message) => message.text === text), [true, true]);
});

await check("payloads that are not objects come in `value`", async () => {
  const ada = await user(ADA);
  const messages = heard(ada, "bare");
  await join(ada, "chat:bare");
  for (const payload of [[1, 2], "text", 7, null]) await publish("chat:bare", "bare", payload);
  await messages.atLeast(4);
  assert.deepEqual(messages.map(({ value }) => value), [[1, 2], "text", 7, null]);
  assert.ok(messages.every(({ meta }) => uuid.test(meta.messageId)));
});

await check("X-17 names that Socket.IO keeps for itself are refused", async () => {
  const ada = await user(ADA);
  const [errors, last] = [heard(ada, "error"), heard(ada, "last")];
  await join(ada, "chat:reserved");
  const reserved = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
  for (const [count, event] of reserved.entries()) {
    await ada.publish("chat:reserved", event, {});
    await errors.atLeast(count + 1);
    assert.equal(errors.at(-1).channel, "chat:reserved", event);
    assert.deepEqual(await publish("chat:reserved", event), [[null]], `${event}: SQL warns and sends nothing`);
  }
  await publish("chat:reserved", "last");
  await last.first();
  assert.equal(errors.length, reserved.length);
  assert.equal(ada.isConnected, true);
});

await check("X-18 everybody hears the same order, and nothing twice", async () => {
  const [ada, grace] = [await user(ADA), await user(GRACE)];
  const inboxes = [ada, grace].map((one) => heard(one, "n"));
  for (const one of [ada, grace]) await join(one, "chat:order");
  const database = sql("select count(realtime.publish('chat:order', 'n', jsonb_build_object('n', n))) from generate_series(1, 100) n");
  for (let n = 101; n <= 150; n += 1) {
    await ada.publish("chat:order", "n", { n });
    await grace.publish("chat:order", "n", { n: n + 100 });
  }
  await database;
  await Promise.all(inboxes.map((inbox) => inbox.atLeast(200)));
  const [mine, hers] = inboxes.map((inbox) => inbox.map(({ n, meta }) => `${n} ${meta.messageId}`));
  assert.deepEqual(mine, hers);
  assert.equal(new Set(mine).size, 200);
  const numbers = inboxes[0].map(({ n }) => n);
  for (const [from, to] of [[1, 100], [101, 150], [201, 250]]) {
    const own = numbers.filter((n) => n >= from && n <= to);
    assert.deepEqual(own, [...own].sort((a, b) => a - b), "each sender's own order");
  }
});

await check("IF-13 what is rolled back is never heard", async () => {
  const ada = await user(ADA);
  const messages = heard(ada, "step");
  await join(ada, "chat:rollback");
  await sql("begin; select realtime.publish('chat:rollback', 'step', '{\"n\": 1}'); rollback");
  await publish("chat:rollback", "step", { n: 2 });
  assert.equal((await messages.first()).n, 2);
});

finish();
