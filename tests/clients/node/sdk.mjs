// The SDK in the version that `SDK` names, and people who use it.

import assert from "node:assert/strict";
import { ANON_KEY, SIDECAR_URL, connected, token } from "./harness.mjs";

export const { SDK } = process.env;

/** The SDK's module. */
export const sdk = await import(`insforge-sdk-${SDK}`);

const [, minor, patch] = SDK.split(".").map(Number);

/** From 1.4.4 on the SDK keeps presence, asks for an answer to every subscribe, and tells refreshed tokens from new ones. */
export const IS_NEW = minor > 4 || (minor === 4 && patch >= 4);

/** A client that is not connected yet. */
export const client = (config) => sdk.createClient({ baseUrl: SIDECAR_URL, ...config });

/** A client of a signed-in user, not connected yet. */
export const signedIn = (sub, claims = {}) => client({ accessToken: token({ sub, ...claims }) });

/** Connects a client and makes sure that it is. */
export async function open(one) {
  await one.realtime.connect();
  assert.equal(one.realtime.isConnected, true, "it is connected");
  assert.ok(one.realtime.socketId, "it has a socket id");
  connected(() => one.realtime.disconnect());
  return one.realtime;
}

/** A signed-in user's connection. */
export const user = (sub, claims) => open(signedIn(sub, claims));

/** A connection with nothing but the anon key. */
export const stranger = () => open(client({ anonKey: ANON_KEY }));

/** Subscribes and makes sure that it was allowed. */
export async function join(realtime, channel) {
  const answer = await realtime.subscribe(channel);
  assert.equal(answer.ok, true, JSON.stringify(answer));
  return answer;
}

/** Why a connection was refused. */
export async function refusal(one) {
  const error = await one.realtime.connect().then(() => assert.fail("it was let in"), (error) => error);
  // Older versions keep trying.
  one.realtime.disconnect();
  assert.equal(one.realtime.isConnected, false);
  return error.message;
}
