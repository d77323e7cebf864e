// Our own key, as a service beside us sees it: `jose` fetches the set and verifies a token, which then opens sockets.

import assert from "node:assert/strict";
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from "jose";
import { io } from "socket.io-client";
import WebSocket from "ws";
import { SIDECAR_URL, check, connected, finish, until } from "./harness.mjs";

/** What `realtime-sidecar token --sub ada` has made. */
const { TOKEN } = process.env;

for (const path of ["/.well-known/jwks.json", "/api/.well-known/jwks.json"]) {
  await check(`X-04 a token is verified with the set at ${path}`, async () => {
    const { payload, protectedHeader } = await jwtVerify(TOKEN, createRemoteJWKSet(new URL(path, SIDECAR_URL)));
    assert.deepEqual([payload.sub, payload.role], ["ada", "authenticated"]);
    assert.deepEqual(protectedHeader, decodeProtectedHeader(TOKEN));
    assert.notEqual(protectedHeader.alg, "HS256");
  });
}

await check("a token that was changed is not", async () => {
  const [header, payload, signature] = TOKEN.split(".");
  const forged = Buffer.from(JSON.stringify({ sub: "grace", exp: 9999999999 })).toString("base64url");
  const keys = createRemoteJWKSet(new URL("/.well-known/jwks.json", SIDECAR_URL));
  for (const token of [`${header}.${forged}.${signature}`, `${header}.${payload}.${signature.slice(0, -8)}AAAAAAAA`]) {
    await assert.rejects(jwtVerify(token, keys), { code: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED" });
  }
});

await check("it opens a socket of Socket.IO", async () => {
  const socket = io(SIDECAR_URL, { auth: { token: TOKEN }, forceNew: true });
  connected(() => socket.disconnect());
  await until("it connects", () => socket.connected);
});

await check("it opens a socket of the native protocol", async () => {
  const socket = new WebSocket(`${SIDECAR_URL.replace("http", "ws")}/realtime`, "realtime.v1", {
    headers: { authorization: `Bearer ${TOKEN}` },
  });
  connected(() => socket.close());
  const hello = await new Promise((done, failed) => socket.once("message", done).once("error", failed));
  assert.equal(JSON.parse(hello).user, "ada");
});

finish();
