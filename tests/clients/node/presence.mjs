// Who is there, with the SDK.

import assert from "node:assert/strict";
import { ADA, GRACE, check, finish, heard, publish, until } from "./harness.mjs";
import { IS_NEW, join, stranger, user } from "./sdk.mjs";

const ids = ({ presence }) => presence.members.map(({ presenceId }) => presenceId).sort();

/** What one hears about others; `settled` waits until everything that was done before has arrived. */
async function watcher(channel) {
  const ada = await user(ADA);
  const [joins, leaves, marks] = ["presence:join", "presence:leave", "mark"].map((name) => heard(ada, name));
  await join(ada, channel);
  const settled = async () => {
    const count = marks.length + 1;
    await publish(channel, "mark");
    await marks.atLeast(count);
  };
  return { ada, joins, leaves, settled };
}

await check("X-01 X-02 others hear of who comes, and whoever comes sees all", async () => {
  const { ada, joins } = await watcher("chat:come");
  const grace = await user(GRACE);
  const herJoins = heard(grace, "presence:join");
  assert.deepEqual(ids(await join(grace, "chat:come")), [ADA, GRACE].sort());
  const { member, meta } = await joins.first();
  assert.deepEqual([member.type, member.presenceId], ["user", GRACE]);
  assert.ok(!Number.isNaN(Date.parse(member.joinedAt)));
  assert.deepEqual([meta.channel, meta.senderType], ["chat:come", "system"], "the plain name");
  for (const name of ["messageId", "timestamp"]) assert.equal(typeof meta[name], "string", name);
  assert.equal(herJoins.length, 0, "nobody hears of themselves");
  if (IS_NEW) assert.deepEqual(ada.getPresenceState("chat:come").map(({ presenceId }) => presenceId).sort(), [ADA, GRACE].sort());
});

await check("X-02 others hear of who leaves: by unsubscribe(), by disconnect()", async () => {
  const { ada, leaves } = await watcher("chat:leave");
  const grace = await user(GRACE);
  await join(grace, "chat:leave");
  grace.unsubscribe("chat:leave");
  await leaves.atLeast(1);
  await join(grace, "chat:leave");
  grace.disconnect();
  await leaves.atLeast(2);
  for (const { member, meta } of leaves) assert.deepEqual([member.presenceId, meta.channel], [GRACE, "chat:leave"]);
  if (IS_NEW) assert.deepEqual(ada.getPresenceState("chat:leave").map(({ presenceId }) => presenceId), [ADA]);
});

await check("a user with two sockets is one member, who leaves with the last", async () => {
  const { joins, leaves, settled } = await watcher("chat:twice");
  const [first, second] = [await user(GRACE), await user(GRACE)];
  await join(first, "chat:twice");
  assert.deepEqual(ids(await join(second, "chat:twice")), [ADA, GRACE].sort());
  first.disconnect();
  await settled();
  assert.deepEqual([joins.length, leaves.length], [1, 0]);
  second.disconnect();
  await leaves.atLeast(1);
  await settled();
  assert.deepEqual([joins.length, leaves.length], [1, 1]);
});

await check("strangers are members by their sockets", async () => {
  const [one, other] = [await stranger(), await stranger()];
  const joins = heard(one, "presence:join");
  await join(one, "lobby");
  assert.deepEqual(ids(await join(other, "lobby")), [one.socketId, other.socketId].sort());
  const { member } = await joins.first();
  assert.deepEqual([member.type, member.presenceId], ["anonymous", other.socketId]);
});

await check("nobody hears of a channel that they are not in", async () => {
  const { joins, leaves, settled } = await watcher("chat:here");
  const grace = await user(GRACE);
  await join(grace, "chat:there");
  grace.disconnect();
  await until("she has gone", () => !grace.isConnected);
  await settled();
  assert.deepEqual([joins.length, leaves.length], [0, 0]);
});

finish();
