// Packets that are not as they should be, each sent to the reference server and to the sidecar: both must react alike. What
// differs on purpose stands here with both reactions, and in docs/socketio.md with the reason.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { Server } from "socket.io";
import WebSocket from "ws";
import { ADA, PATIENCE_MS, SIDECAR_URL, afterwards, check, connected, finish, token } from "./harness.mjs";

/** What a client shows; the reference lets everybody in. */
const AUTH = JSON.stringify({ token: token({ sub: ADA }) });
const ASK = '["realtime:subscribe",{"channel":"chat:packets"}]';
/** Comes last: once it is answered, or the connection has ended, there is nothing more to come. */
const FENCE = `42987${ASK}`;
const HOLE = '{"_placeholder":true,"num":0}';
const BYTES = Buffer.from([1, 2, 3]);

/** The reference with a handler that answers as the sidecar does. */
async function reference() {
  const http = createServer();
  const io = new Server(http);
  io.on("connection", (socket) => socket.on("realtime:subscribe", (body, ack) => ack?.({ ok: true })));
  await new Promise((done) => http.listen(0, "127.0.0.1", done));
  return { io, url: `http://127.0.0.1:${http.address().port}` };
}

/** What is the same in two packets: not the names that servers make up, and not what an application answers. */
function plain(packet) {
  if (packet.startsWith('40{"sid":')) return "in";
  const answer = /^43(.*?)\[\{"ok":(true|false)/.exec(packet);
  if (answer) return `ack ${answer[1]}${answer[2] === "true" ? "" : " refused"}`;
  const event = /^42\["(.*?)"/.exec(packet);
  return event ? `event ${event[1]}` : packet;
}

/** Sends packets and tells the reaction up to the answer of the last one, or the end. */
async function reaction(url, packets, isIn) {
  const socket = new WebSocket(`${url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`);
  const seen = [];
  const rest = [...packets];
  let hasBegun = !isIn;
  // Whoever asks to come in waits for the answer, as every client does; who leaves waits until it must have been heard.
  const send = () => {
    while (rest.length > 0) {
      const packet = rest.shift();
      socket.send(packet);
      if (/^40/.test(packet)) return;
      if (/^41/.test(packet)) return socket.ping();
    }
  };
  await new Promise((done, failed) => {
    const deadline = setTimeout(() => failed(new Error(`no end after ${seen}`)), Number(process.env.PATIENCE ?? PATIENCE_MS));
    const end = () => (clearTimeout(deadline), done());
    socket.on("error", () => {});
    socket.on("pong", () => setImmediate(send));
    socket.on("close", () => (seen.push("closed"), end()));
    socket.on("message", (data) => {
      const packet = data.toString();
      if (packet === "2") return socket.send("3");
      if (packet.startsWith("0{")) return isIn ? socket.send(`40${AUTH}`) : send();
      if (!hasBegun) return (hasBegun = true), send();
      seen.push(plain(packet));
      if (seen.at(-1) === "ack 987") end();
      if (/^4[04]/.test(packet)) send();
    });
  });
  socket.terminate();
  return seen.filter((it) => it !== "ack 987").join(", ") || "nothing";
}

/** Before anybody is in: a packet, and where the sidecar differs both reactions. */
const OUTSIDE = [
  ["CONNECT", `40${AUTH}`],
  ["CONNECT to the main namespace by its name", `40/,${AUTH}`],
  ["CONNECT with an ack id", `407${AUTH}`],
  ["CONNECT with spaces in its JSON", `40{ "token" : ${JSON.stringify(JSON.parse(AUTH).token)} } `],
  ["CONNECT with a list", "40[]"],
  ["CONNECT with null", "40null"],
  ["CONNECT with text", '40"x"'],
  ["CONNECT with a switch", "40true"],
  ["CONNECT with half an object", "40{"],
  ["CONNECT with something behind its JSON", `40${AUTH}x`],
  ["an EVENT before CONNECT", `42${ASK}`],
  ["an EVENT with an ack id before CONNECT", `421${ASK}`],
  ["an ACK before CONNECT", "430[]"],
  ["DISCONNECT before CONNECT", "41"],
  ["CONNECT_ERROR before CONNECT", '44{"message":"x"}'],
  ["bytes before CONNECT", BYTES],
  ["a namespace that is not there", ["40/admin,", `40${AUTH}`]],
  ["a namespace that is not there, without a comma", ["40/admin", `40${AUTH}`]],
  ["a namespace that is not there, with what is shown", ['40/admin,{"a":1}', `40${AUTH}`]],
  ["a namespace that is not there, with a query", ["40/admin?a=1&b=2,", `40${AUTH}`]],
  ["the main namespace with a query", ["40/?a=1,", `40${AUTH}`]],
  ["a namespace with quotes", ['40/a"b,', `40${AUTH}`]],
  ["a namespace of another script", ["40/räume€😀,", `40${AUTH}`]],
  ["a namespace twice", ["40/x,", "40/x,", `40${AUTH}`]],
  ["an EVENT for a namespace that is not there", '42/admin,["a"]'],
  ["DISCONNECT of a namespace that is not there", "41/admin,"],
  ["a message without a packet before CONNECT", "4"],
];

/** Once somebody is in. */
const INSIDE = [
  ["an EVENT nobody listens to", '42["other",1]'],
  ["an EVENT nobody listens to, with an ack id", '425["other",1]'],
  ["an EVENT with an answer", `425${ASK}`],
  ["an EVENT with spaces", '425 [ "realtime:subscribe" , {"channel":"chat:packets"} ] '],
  ["an ack id of 0", `420${ASK}`],
  ["an ack id with zeros before it", `42007${ASK}`],
  ["the largest ack id", `429007199254740991${ASK}`],
  ["an ack id that JavaScript cannot hold", `429007199254740993${ASK}`],
  ["an ack id of 25 digits", `42${"1".repeat(25)}${ASK}`],
  ["a negative ack id", `42-1${ASK}`],
  ["an ack id with a fraction", `421.5${ASK}`],
  ["an ack id with an exponent", `421e3${ASK}`],
  ["an ack id with a sign", `42+1${ASK}`],
  ["an ack id in hexadecimal", `420x1${ASK}`],
  ["a space for an ack id", `42 ${ASK}`],
  ["an EVENT without anything", "42"],
  ["an EVENT with only an ack id", "427"],
  ["an EVENT with an empty list", "42[]"],
  ["an EVENT with an object", '42{"0":"other"}'],
  ["an EVENT with text", '42"other"'],
  ["an EVENT with null", "42null"],
  ["an EVENT with a number", "42/,5"],
  ["an EVENT whose name is a number", "42[5]"],
  ["an EVENT whose name is a number below zero", "42[-1.5e3]"],
  ["an EVENT whose name is null", "42[null]"],
  ["an EVENT whose name is a switch", "42[true]"],
  ["an EVENT whose name is a list", '42[["other"]]'],
  ["an EVENT whose name is an object", '42[{"a":1}]'],
  ["an EVENT whose name is empty", '42[""]'],
  ["an EVENT whose name is long", `42["${"n".repeat(10_000)}"]`],
  ["an EVENT whose name is half a letter", '42["\\ud800"]'],
  ["an EVENT whose name has a zero", '42["a\\u0000b"]'],
  ["an EVENT named __proto__", '42["__proto__",{"__proto__":1}]'],
  ...["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"].map((name) => [
    `an EVENT named ${name}`,
    `42["${name}"]`,
  ]),
  ["an EVENT named connect in other letters", '42["\\u0063onnect"]'],
  ["an EVENT named error", '42["Error"]'],
  ["half a list", '42["other"'],
  ["a list with a comma too many", '42["other",]'],
  ["a list with something behind it", '42["other"]x'],
  ["two lists", '42["other"]["other"]'],
  ["what is no JSON", '42["other",NaN]'],
  ["a number without end", '42["other",1e999]'],
  ["the same member twice", '42["other",{"a":1,"a":2}]'],
  ["a list in a list in a list", `42["other",${"[".repeat(50_000)}${"]".repeat(50_000)}]`],
  ["an object in an object in an object", `42["other",${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}]`],
  ["lists without end", `42["other",${"[".repeat(50_000)}`],
  ["more than maxPayload", `42["other","${"x".repeat(2_000_000)}"]`],
  ["CONNECT again", `40${AUTH}`],
  ["CONNECT again to the main namespace by its name", "40/,"],
  ["CONNECT to a namespace that is not there", "40/admin,"],
  ["an EVENT for a namespace that is not there", '42/admin,["a"]'],
  ["an EVENT for the main namespace by its name", `42/,5${ASK}`],
  ["DISCONNECT with something", "41{}"],
  ["DISCONNECT with an ack id", "417"],
  ["DISCONNECT of a namespace that is not there", "41/admin,"],
  ["DISCONNECT, then an EVENT", ["41", `42${ASK}`]],
  ["DISCONNECT twice", ["41", "41"]],
  ["DISCONNECT, then CONNECT", ["41", `40${AUTH}`]],
  ["DISCONNECT by the namespace's name, then CONNECT", ["41/,", `40${AUTH}`]],
  ["DISCONNECT, then CONNECT, then an EVENT", ["41", `40${AUTH}`, `425${ASK}`]],
  ["DISCONNECT, then another namespace", ["41", "40/admin,", `40${AUTH}`]],
  ["an ACK nobody waits for", "4312345[1]"],
  ["an ACK without an id", "43[]"],
  ["an ACK without anything", "43"],
  ["an ACK with an object", "431{}"],
  ["an ACK with text", '431"x"'],
  ["CONNECT_ERROR", '44{"message":"x"}'],
  ["CONNECT_ERROR with a list", "44[]"],
  ["packet 7", '47["a"]'],
  ["packet 9", "49"],
  ["a packet that is a letter", "4x"],
  ["a packet that is a sign", "4-1"],
  ["a packet that is a letter of another script", "4٣[]"],
  ["a message without a packet", "4"],
  ["a binary EVENT", [`451-["other",${HOLE}]`, BYTES]],
  ["a binary EVENT with an ack id", [`451-5["other",${HOLE}]`, BYTES]],
  ["a binary EVENT of two, each with its bytes", [`452-["other",${HOLE},{"_placeholder":true,"num":1}]`, BYTES, BYTES]],
  ["a binary EVENT without its bytes", `451-["other",${HOLE}]`],
  ["a binary EVENT with one of two", [`452-["other",${HOLE}]`, BYTES]],
  ["a binary EVENT with more bytes than it says", [`451-["other",${HOLE}]`, BYTES, BYTES]],
  ["a binary EVENT with a packet before its bytes", [`451-["other",${HOLE}]`, '42["other"]', BYTES]],
  ["a binary EVENT within another", [`451-["other",${HOLE}]`, `451-["other",${HOLE}]`]],
  ["a hole for bytes that do not come", ['451-["other",{"_placeholder":true,"num":5}]', BYTES]],
  ["a hole with a number below zero", ['451-["other",{"_placeholder":true,"num":-1}]', BYTES]],
  ["a hole with text", ['451-["other",{"_placeholder":true,"num":"0"}]', BYTES]],
  ["bytes without a hole", ['451-["other"]', BYTES]],
  ["bytes without a packet", BYTES],
  ["no bytes without a packet", Buffer.alloc(0)],
  ["a binary EVENT of none", '450-["other"]'],
  ["a binary EVENT of ten", [`4510-["other",${HOLE}]`, ...Array(10).fill(BYTES)]],
  ["a binary EVENT of eleven", `4511-["other",${HOLE}]`],
  ["a binary EVENT of very many", `45999999999999-["other",${HOLE}]`],
  ["a binary EVENT of fewer than none", `45-1-["other",${HOLE}]`],
  ["a binary EVENT of a fraction", `451.5-["other",${HOLE}]`],
  ["a binary EVENT of one, written with a fraction", [`451.0-["other",${HOLE}]`, BYTES]],
  ["a binary EVENT of one, in hexadecimal", [`450x1-["other",${HOLE}]`, BYTES]],
  ["a binary EVENT that is one of ours", [`451-5["realtime:subscribe",${HOLE}]`, BYTES]],
  ["a binary EVENT that does not say how many", `45["other",${HOLE}]`],
  ["a binary EVENT of nothing", `45-["other",${HOLE}]`],
  ["a binary EVENT of no number", `45x-["other",${HOLE}]`],
  ["a binary EVENT named connect", '451-["connect"]'],
  ["a binary EVENT with an object", "451-{}"],
  ["a binary EVENT without JSON", ["451-", BYTES]],
  ["a binary ACK", [`461-5[${HOLE}]`, BYTES]],
  ["a binary ACK of none", "460-5[]"],
  ["a binary ACK with an object", "461-5{}"],
];

/** What differs on purpose: what the reference does, and what the sidecar does. */
const DIFFERS = {
  "an ack id that JavaScript cannot hold": ["ack 9007199254740992", "ack 9007199254740993"],
  "an ack id of 25 digits": ["ack 1.1111111111111111e+24", "closed"],
  "a space for an ack id": ["ack 0", "nothing"],
  "more than maxPayload": ["closed", "event realtime:error, closed"],
  "DISCONNECT, then CONNECT": ["in", "closed"],
  "DISCONNECT by the namespace's name, then CONNECT": ["in", "closed"],
  "DISCONNECT, then CONNECT, then an EVENT": ["in, ack 5", "closed"],
  "DISCONNECT, then another namespace": ['44/admin,{"message":"Invalid namespace"}, in', "closed"],
  "a hole for bytes that do not come": ["closed", "nothing"],
  "a hole with a number below zero": ["closed", "nothing"],
  "a hole with text": ["closed", "nothing"],
  "a binary EVENT of one, written with a fraction": ["nothing", "closed"],
  "a binary EVENT of one, in hexadecimal": ["nothing", "closed"],
  "a binary EVENT that is one of ours": ["ack 5", "ack 5 refused"],
};

const { io, url } = await reference();
for (const [rows, isIn] of [[OUTSIDE, false], [INSIDE, true]]) {
  for (const [title, sent] of rows) {
    await check(title, async () => {
      const packets = [sent, FENCE].flat();
      const theirs = await reaction(url, packets, isIn);
      const ours = await reaction(SIDECAR_URL, packets, isIn);
      connected(() => {});
      assert.deepEqual([theirs, ours], DIFFERS[title] ?? [theirs, theirs]);
    });
  }
}
await check("every difference is still one", () => {
  const titles = new Set([...OUTSIDE, ...INSIDE].map(([title]) => title));
  assert.deepEqual(Object.keys(DIFFERS).filter((title) => !titles.has(title)), []);
});
io.close();
finish();
