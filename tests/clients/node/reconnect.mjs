// Faults under the SDK: the sidecar is killed, stopped, the database restarts.

import assert from "node:assert/strict";
import * as harness from "./harness.mjs";
import { ADA, GRACE, check, finish, heard, publish, until } from "./harness.mjs";
import { IS_NEW, join, user } from "./sdk.mjs";

/** Waits until a connection hears a channel again. */
async function isBack(realtime, channel) {
  const probes = heard(realtime, "probe");
  await until(`${channel} is heard again`, async () => {
    await publish(channel, "probe");
    return probes.length > 0;
  });
}

/** Lets a listener be cut off by `cut`, misses a message, and comes back by `mend`. Returns why it was cut off. */
async function cutOff(channel, cut, mend) {
  const ada = await user(ADA);
  const [numbers, disconnects, connects] = ["n", "disconnect", "connect"].map((name) => heard(ada, name));
  await join(ada, channel);
  const before = ada.socketId;
  await publish(channel, "n", { n: 1 });
  await numbers.first();
  await cut();
  const reason = await disconnects.first();
  await publish(channel, "n", { n: 2 });
  await mend();
  await connects.first();
  await isBack(ada, channel);
  await publish(channel, "n", { n: 3 });
  await numbers.atLeast(2);
  await publish(channel, "n", { n: 4 });
  await numbers.atLeast(3);
  // Missed is what came while nobody listened; that nothing is replayed is what the SDK's users know.
  assert.deepEqual(numbers.map(({ n }) => n), [1, 3, 4]);
  assert.equal(new Set(numbers.map(({ meta }) => meta.messageId)).size, 3);
  assert.deepEqual(ada.getSubscribedChannels(), [channel]);
  assert.notEqual(ada.socketId, before);
  return reason;
}

await check("IF-35 IF-36 X-03 after the sidecar was killed it comes back, subscribed, and repeats nothing", async () => {
  const reason = await cutOff("chat:killed", harness.killSidecar, harness.startSidecar);
  assert.match(reason, /^transport (close|error)$/);
});

await check("IF-36 X-06 a sidecar that stops closes the transport, so that clients come back", async () => {
  const reason = await cutOff("chat:stopped", harness.stopSidecar, harness.startSidecar);
  assert.equal(reason, "transport close");
});

await check("IF-22 while Postgres restarts sockets stay open, publishing fails aloud, nothing is lost or repeated", async () => {
  const ada = await user(ADA);
  const [numbers, disconnects, errors] = ["n", "disconnect", "error"].map((name) => heard(ada, name));
  await join(ada, "chat:outage");
  await publish("chat:outage", "n", { n: 1 });
  await numbers.first();
  await harness.stopPostgres();
  try {
    await ada.publish("chat:outage", "n", { n: 0 });
    const { channel, code } = await errors.first();
    assert.deepEqual([channel, code], ["chat:outage", "INTERNAL_ERROR"]);
  } finally {
    await harness.startPostgres();
  }
  for (const n of [2, 3]) await publish("chat:outage", "n", { n });
  await numbers.atLeast(3);
  assert.deepEqual(numbers.map(({ n }) => n), [1, 2, 3]);
  assert.equal(disconnects.length, 0);
  await ada.publish("chat:outage", "n", { n: 4 });
  await numbers.atLeast(4);
});

await check("IF-36 when the sidecar is back before its database, its clients are subscribed all the same", async () => {
  const ada = await user(ADA);
  await join(ada, "chat:early");
  await harness.killSidecar();
  await harness.stopPostgres();
  try {
    await harness.startSidecarFirst();
    // The SDK itself shows nothing of it: nobody is let in before the database is there.
    await until("its transport is there", () => ada.socket.io.engine?.readyState === "open");
    assert.equal(ada.isConnected, false);
  } finally {
    await harness.startPostgres();
  }
  await isBack(ada, "chat:early");
  assert.deepEqual(ada.getSubscribedChannels(), ["chat:early"]);
});

await check("X-02 who left while one was away is not a member any more", async () => {
  const [ada, grace] = [await user(ADA), await user(GRACE)];
  await join(grace, "chat:away");
  assert.equal((await join(ada, "chat:away")).presence.members.length, 2);
  await harness.killSidecar();
  grace.disconnect();
  await harness.startSidecar();
  await isBack(ada, "chat:away");
  if (IS_NEW) assert.deepEqual(ada.getPresenceState("chat:away").map(({ presenceId }) => presenceId), [ADA]);
  const other = await user(GRACE);
  const joins = heard(ada, "presence:join");
  assert.equal((await join(other, "chat:away")).presence.members.length, 2);
  await joins.atLeast(1);
});

finish();
