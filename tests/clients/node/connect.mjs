// Coming in and being refused, with the SDK.

import assert from "node:assert/strict";
import { ADA, ANON_KEY, API_KEY, check, finish, heard, inSeconds, token, until } from "./harness.mjs";
import { IS_NEW, SDK, client, join, open, refusal, sdk, signedIn, stranger, user } from "./sdk.mjs";

await check("IF-14 connect() takes the user's token along", async () => {
  const one = signedIn(ADA);
  const connects = heard(one.realtime, "connect");
  const realtime = await open(one);
  assert.equal(connects.length, 1);
  await Promise.all([realtime.connect(), realtime.connect()]);
  assert.equal(connects.length, 1, "connect() on a connection does nothing");
});

await check("IF-24 the getters say how things are", async () => {
  const one = signedIn(ADA);
  const { realtime } = one;
  assert.deepEqual([realtime.isConnected, realtime.connectionState, realtime.socketId], [false, "disconnected", undefined]);
  const connecting = open(one);
  await until("it connects", () => realtime.connectionState === "connecting" || realtime.isConnected);
  await connecting;
  assert.deepEqual([realtime.connectionState, typeof realtime.socketId], ["connected", "string"]);
  assert.deepEqual(realtime.getSubscribedChannels(), []);
  await join(realtime, "chat:getters");
  await join(realtime, "chat:others");
  assert.deepEqual(realtime.getSubscribedChannels(), ["chat:getters", "chat:others"]);
  realtime.unsubscribe("chat:others");
  assert.deepEqual(realtime.getSubscribedChannels(), ["chat:getters"]);
});

await check("IF-37 X-04 an anon key is enough for what is open to everybody", async () => {
  const realtime = await stranger();
  assert.equal((await join(realtime, "lobby")).presence.members.at(0).type, "anonymous");
  assert.equal((await realtime.subscribe("order:1")).ok, false);
});

await check("X-04 an API key, as the SDK's admin client has it, may what its role may", async () => {
  const admin = sdk.createAdminClient({ baseUrl: client().getHttpClient().baseUrl, apiKey: API_KEY });
  const realtime = await open(admin);
  assert.equal((await join(realtime, "staff")).ok, true);
  assert.equal((await (await user(ADA)).subscribe("staff")).ok, false, "others may not");
});

await check("IF-21 X-05 whoever is refused hears why, in the SDK's error", async () => {
  const refused = {
    "a forged token": client({ accessToken: token({ sub: ADA }, "another secret of at least 32 bytes") }),
    "a token that has ended": client({ accessToken: token({ sub: ADA, exp: inSeconds(-3600) }) }),
    "no token at all": client(),
    "a wrong anon key": client({ anonKey: "anon_wrong" }),
    "a wrong API key": client({ accessToken: "ik_wrong" }),
    "an unknown role": client({ accessToken: token({ sub: ADA, role: "postgres" }) }),
    "rubbish": client({ accessToken: "not.a.token" }),
  };
  for (const [what, one] of Object.entries(refused)) {
    const errors = heard(one.realtime, "connect_error");
    const message = await refusal(one);
    assert.equal(errors.length, 1, what);
    assert.equal(errors[0].message, message, what);
    // Not the transport's own words: those would mean that the upgrade was refused.
    assert.ok(message.length > 8 && !/websocket|timeout|xhr/i.test(message), `${what}: ${message}`);
    assert.ok(![ANON_KEY, API_KEY].some((key) => message.includes(key)), what);
  }
});

await check("X-05 subscribe() without a way in says that the connection failed", async () => {
  const { realtime } = client();
  const { ok, channel, error } = await realtime.subscribe("chat:closed");
  assert.deepEqual([ok, channel, error.code], [false, "chat:closed", "CONNECTION_FAILED"]);
  realtime.disconnect();
});

await check("IF-21 the SDK's own events come", async () => {
  const one = signedIn(ADA);
  const [connects, disconnects, errors] = ["connect", "disconnect", "error"].map((name) => heard(one.realtime, name));
  const realtime = await open(one);
  await realtime.publish("chat:nobody", "hello", {});
  const { code, channel } = await errors.first();
  assert.deepEqual([code, channel], ["NOT_SUBSCRIBED", "chat:nobody"]);
  const before = realtime.socketId;
  const fresh = token({ sub: ADA, again: true });
  // Another identity: every version reconnects.
  one.setAccessToken(fresh);
  await until("it comes back", () => connects.length === 2);
  assert.deepEqual([...disconnects], ["io client disconnect"]);
  assert.notEqual(realtime.socketId, before);
});

await check("IF-23 disconnect() forgets every channel", async () => {
  const one = signedIn(ADA);
  const realtime = await open(one);
  await join(realtime, "chat:forgotten");
  realtime.disconnect();
  assert.deepEqual([realtime.isConnected, realtime.connectionState, realtime.getSubscribedChannels()], [false, "disconnected", []]);
  await open(one);
  assert.deepEqual(realtime.getSubscribedChannels(), []);
  const errors = heard(realtime, "error");
  await realtime.publish("chat:forgotten", "hello", {});
  assert.equal((await errors.first()).code, "NOT_SUBSCRIBED", "nor does the server remember it");
});

console.log(`# ${SDK}: ${IS_NEW ? "keeps presence" : "before presence"}`);
finish();
