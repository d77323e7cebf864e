// The complete examples of a page, as they stand there: the chat room and the React hook. `PAGE` is the page.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { transform } from "esbuild";
import { act, createElement } from "react";
import renderer from "react-test-renderer";
import { io } from "socket.io-client";
import { ADA, GRACE, SIDECAR_URL, check, connected, finish, heard, killSidecar, publish, startSidecar, token, until } from "./harness.mjs";
import { sdk } from "./sdk.mjs";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

const page = readFileSync(process.env.PAGE, "utf8");
const require = createRequire(import.meta.url);

/** The first block of code under a heading. */
function example(heading) {
  const section = page.split(new RegExp(`^#+ ${heading}$`, "im"))[1];
  assert.ok(section, `the page has a section «${heading}»`);
  return /```(?:javascript|js|jsx|typescript|ts|tsx)\n([^]*?)```/.exec(section)[1];
}

/** The SDK's createClient for a person: what an example says, at our address, with that person's token. */
const createClientFor = (sub) => (config) => {
  const one = sdk.createClient({ ...config, baseUrl: SIDECAR_URL, accessToken: token({ sub }) });
  connected(() => one.realtime.disconnect());
  return one;
};

/** Runs the chat room of the page as a person does. */
async function enter(name, sub) {
  const shown = [];
  const lines = [];
  const say = (...words) => lines.push(words.join(" "));
  const around = {
    createClient: createClientFor(sub),
    displayMessage: (sender, text) => shown.push(`${sender}: ${text}`),
    currentUser: { name },
    console: { log: say, error: say },
  };
  const body = example("Chat Room").replace(/^import .*$/gm, "");
  const wrapped = `return (async () => { ${body}\nreturn { insforge, sendMessage, leaveRoom } })()`;
  const { code } = await transform(`async function run(${Object.keys(around)}) { ${wrapped} }`, { loader: "ts" });
  const room = await new Function(`${code}; return run`)()(...Object.values(around));
  return { ...room, shown, lines };
}

await check("IF-27 the chat room runs as it is written", async () => {
  const [ada, grace] = [await enter("Ada", ADA), await enter("Grace", GRACE)];
  assert.ok(ada.insforge.realtime.isConnected && grace.insforge.realtime.isConnected);
  await grace.sendMessage("Hello Ada");
  await ada.sendMessage("Hello Grace");
  const talk = ["Grace: Hello Ada", "Ada: Hello Grace"];
  for (const { shown } of [ada, grace]) await until("both have both", () => shown.length === 2);
  assert.deepEqual([...ada.shown].sort(), [...talk].sort());
  assert.deepEqual(ada.shown, grace.shown, "in one order");
  grace.leaveRoom();
  assert.equal(grace.insforge.realtime.isConnected, false);
  assert.deepEqual(ada.lines, []);
});

await check("IF-27 the chat room says that somebody was refused", async () => {
  const mallory = await enter("Mallory", "00000000-0000-4000-8000-0000000000ba");
  assert.deepEqual([mallory.insforge, mallory.lines.length], [undefined, 1]);
});

/** The React example of the page, with what stands around it in an application. */
async function component(insforge, setMessages) {
  const around = { "./lib/insforge": { insforge }, "@insforge/sdk": sdk };
  // Its last component is not exported: it stands for an application's own.
  const source = `${example("React Hook")}\nexport { ChatRoom as Room }`;
  const { code } = await transform(source, { loader: "tsx", format: "cjs", jsx: "automatic" });
  const module = { exports: {} };
  const load = (name) => around[name] ?? require(name);
  new Function("require", "module", "exports", "setMessages", code)(load, module, module.exports, setMessages);
  return module.exports.Room;
}

/** A person in the room of the React example. */
async function mount(sub, roomId) {
  const insforge = createClientFor(sub)({});
  const state = { messages: [] };
  const Room = await component(insforge, (next) => (state.messages = next(state.messages)));
  let tree;
  await act(async () => (tree = renderer.create(createElement(Room, { roomId }))));
  const { realtime } = insforge;
  await until("it is subscribed", () => realtime.getSubscribedChannels().includes(`chat:${roomId}`));
  const goTo = (roomId) => act(async () => tree.update(createElement(Room, { roomId })));
  return { state, tree, realtime, goTo };
}

const press = ({ tree }) => act(async () => tree.root.findByType("button").props.onClick());

await check("IF-27 the React hook runs as it is written", async () => {
  const [ada, grace] = [await mount(ADA, "room-1"), await mount(GRACE, "room-1")];
  await press(ada);
  for (const { state } of [ada, grace]) await until("the message came", () => state.messages.length === 1);
  const [{ text, meta }] = grace.state.messages;
  assert.deepEqual([text, meta.senderId, meta.channel], ["Hello!", ADA, "chat:room-1"]);
  await grace.goTo("room-2");
  await until("it went to the other room", () => String(grace.realtime.getSubscribedChannels()) === "chat:room-2");
  await press(ada);
  await until("Ada hears herself", () => ada.state.messages.length === 2);
  assert.equal(grace.state.messages.length, 1, "Grace has left");
  await act(async () => ada.tree.unmount());
  assert.deepEqual(ada.realtime.getSubscribedChannels(), []);
  const others = heard(grace.realtime, "new_message");
  await publish("chat:room-1", "new_message", { text: "nobody is here" });
  await publish("chat:room-2", "new_message", { text: "Grace is" });
  assert.equal((await others.first()).text, "Grace is");
  assert.equal(ada.state.messages.length, 2);
});

if (page.includes("## Going on")) {
  await check("IF-36 the example that goes on from where one was loses nothing", async () => {
    const shown = [];
    const around = {
      io: (_, options) => {
        const socket = io(SIDECAR_URL, options);
        connected(() => socket.disconnect());
        return socket;
      },
      token: token({ sub: ADA }),
      displayMessage: (sender, text) => shown.push(`${sender}: ${text}`),
    };
    const body = example("Going on from where one was").replace(/^import .*$/gm, "");
    const socket = new Function(...Object.keys(around), `${body}; return socket`)(...Object.values(around));
    const say = (text) => publish("chat:room-1", "new_message", { sender: "Grace", text });
    await until("the first one comes", async () => {
      await say("Are you there?");
      return shown.length > 0;
    });
    const before = shown.length;
    await killSidecar();
    await say("You missed this.");
    await startSidecar();
    await say("And not this.");
    await until("both came", () => shown.includes("Grace: And not this."));
    assert.ok(socket.connected);
    const missed = shown.slice(before).filter((line) => !line.endsWith("there?"));
    assert.deepEqual(missed, ["Grace: You missed this.", "Grace: And not this."]);
  });
}

finish();
