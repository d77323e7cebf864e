// Tokens that are refreshed and tokens that end, under the SDK. The sidecar allows no leeway here.

import assert from "node:assert/strict";
import { ADA, GRACE, afterwards, check, connected, finish, heard, inSeconds, publish, token, until } from "./harness.mjs";
import { startProxy } from "./proxy.mjs";
import { IS_NEW, client, join, open, refusal, sdk, signedIn, user } from "./sdk.mjs";

const REFRESHED = sdk.AuthChangeEvent?.TOKEN_REFRESHED;
const soon = () => inSeconds(3);

await check("a refreshed token ends nothing that should go on", async () => {
  const grace = await user(GRACE);
  const [joins, leaves] = ["presence:join", "presence:leave"].map((name) => heard(grace, name));
  await join(grace, "chat:refreshed");
  const one = signedIn(ADA);
  const ada = await open(one);
  await join(ada, "chat:refreshed");
  const [disconnects, connects, messages] = ["disconnect", "connect", "hello"].map((name) => heard(ada, name));
  one.setAccessToken(token({ sub: ADA, refreshed: true }), REFRESHED);
  // Older versions come back with the new token, newer ones keep the socket.
  if (!IS_NEW) await connects.first();
  await until("it is heard", async () => {
    await publish("chat:refreshed", "hello");
    return messages.length > 0;
  });
  assert.equal(disconnects.length, IS_NEW ? 0 : 1);
  if (IS_NEW) assert.deepEqual([joins.length, leaves.length], [1, 0]);
  assert.deepEqual(ada.getSubscribedChannels(), ["chat:refreshed"]);
});

await check("IF-36 when its token ends the socket comes back by itself with the newer one", async () => {
  const one = signedIn(ADA, { exp: soon() });
  const ada = await open(one);
  await join(ada, "chat:ended");
  const [disconnects, connects, refused] = ["disconnect", "connect", "connect_error"].map((name) => heard(ada, name));
  if (IS_NEW) one.setAccessToken(token({ sub: ADA }), REFRESHED);
  assert.match(await disconnects.first(), /^transport (close|error)$/, "not `io server disconnect`: that would be for good");
  if (!IS_NEW) {
    // Older versions bring the same token again, and are told.
    assert.match((await refused.first()).message, /expired|token/i);
    ada.disconnect();
    one.setAccessToken(token({ sub: ADA }));
    await ada.connect();
    await join(ada, "chat:ended");
  }
  await connects.first();
  const messages = heard(ada, "hello");
  await until("it is heard again", async () => {
    await publish("chat:ended", "hello");
    return messages.length > 0;
  });
  assert.equal(refused.length, IS_NEW ? 0 : 1);
});

await check("X-05 a token that ends with none to follow is told, not retried for ever", async () => {
  const ada = await user(ADA, { exp: soon() });
  const refused = heard(ada, "connect_error");
  assert.match((await refused.first()).message, /expired|token/i);
  await until("it is at rest", () => !ada.isConnected);
});

if (IS_NEW) {
  await check("IF-36 in a browser the SDK asks the application for a new session and comes back with it", async () => {
    const sessions = [{ exp: soon() }, { exp: inSeconds(3600) }];
    let refreshes = 0;
    const proxy = await startProxy(() => {
      const accessToken = token({ sub: ADA, ...sessions[Math.min(refreshes++, 1)] });
      return { accessToken, user: { id: ADA, email: "ada@example.com" } };
    });
    afterwards(proxy.close);
    const one = client({ baseUrl: proxy.url });
    one.setAccessToken(token({ sub: ADA, exp: inSeconds(30) }));
    const { realtime } = one;
    const connects = heard(realtime, "connect");
    await open(one);
    assert.equal(refreshes, 1, "the session of a minute was exchanged before the first handshake");
    await join(realtime, "chat:session");
    await connects.atLeast(2);
    await until("it is subscribed again", () => realtime.getSubscribedChannels().length === 1);
    assert.equal(refreshes, 2);
  });

  await check("X-09 a refresh that finds nobody leads to a clean refusal", async () => {
    const one = client();
    one.setAccessToken(token({ sub: ADA, exp: inSeconds(30) }));
    const message = await refusal(one);
    assert.ok(!/websocket|timeout|xhr/i.test(message), message);
  });
}

if (!IS_NEW) {
  await check("X-09 versions that never refresh bring their token until it ends", async () => {
    const one = client();
    one.setAccessToken(token({ sub: ADA, exp: inSeconds(30) }));
    await one.realtime.connect();
    connected(() => one.realtime.disconnect());
  });
}

finish();
