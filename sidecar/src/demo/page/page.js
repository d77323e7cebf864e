// The page: two people with a connection each, a third who is refused, and a line for psql.

import { Client, uuid } from "/demo/client.js";
import { Orders } from "/demo/orders.js";
import { Room } from "/demo/room.js";

const ROOM = "room:lobby";
const TABLE = "table:demo.orders";
const CUT_S = 30;
const NAMES = { ada: "Ada", grace: "Grace", mallory: "Mallory" };
const nameOf = (person) => NAMES[person] ?? person ?? "somebody";

const url = new URL("/realtime", location.href.replace(/^http/, "ws"));

/** Asks the demo's routes; an error has the server's words. */
async function ask(path, options) {
  const response = await fetch(path, options);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body;
}

const tokenOf = (person) => async () => (await ask(`/demo/token?person=${person}`)).token;

/** One person: a connection of their own, the room, the table. */
class Person {
  #key;
  #name;
  #panel;
  #client;
  #room;
  #orders;
  #missing; // counts down while the line is cut

  constructor(key, template) {
    this.#key = key;
    this.#name = NAMES[key];
    this.#panel = template.content.firstElementChild.cloneNode(true);
    this.#room = new Room(this.#find(".messages"), key, nameOf);
    this.#orders = new Orders(this.#find("tbody"), this.#find(".last"));
    this.#client = new Client({
      url,
      token: tokenOf(key),
      onState: (state, wait_ms) => this.#show(state, wait_ms),
      onCaughtUp: (missed) => this.#caughtUp(missed),
    });
    this.#label();
    this.#listen();
    template.before(this.#panel);
  }

  start() {
    this.#client.subscribe(ROOM, {
      since: "oldest",
      onEvent: (message, { resumed }) => this.#room.received(message, resumed),
      onError: (error) => this.#say("bad", error.message),
    });
    let begun = false;
    const load = () => this.#orders.load(() => ask("/demo/orders")).catch(({ message }) => this.#complain(message));
    this.#client.subscribe(TABLE, {
      onReady: () => {
        // After a pause the missing changes come by themselves; the rows are needed once.
        if (!begun) load();
        begun = true;
      },
      onEvent: (change) => this.#orders.apply(change),
      onGap: load,
      onError: (error) => this.#say("bad", error.message),
    });
    this.#client.open();
  }

  #find(selector) {
    return this.#panel.querySelector(selector);
  }

  #label() {
    this.#panel.dataset.person = this.#key;
    this.#panel.setAttribute("aria-label", this.#name);
    this.#find("h2").textContent = this.#name;
    this.#find(".avatar").textContent = this.#name[0];
    this.#find(".write input").setAttribute("aria-label", `${this.#name} writes in ${ROOM}`);
    this.#find(".write input").placeholder = `Write as ${this.#name}`;
  }

  #listen() {
    this.#find(".cut").addEventListener("click", () => (this.#missing ? this.#mend() : this.#cut()));
    this.#find(".serve").addEventListener("click", () =>
      ask("/demo/change", { method: "POST" }).catch(({ message }) => this.#complain(message)),
    );
    this.#find(".write").addEventListener("submit", (event) => {
      event.preventDefault();
      const input = this.#find(".write input");
      if (input.value.trim()) this.#write(input.value.trim());
      input.value = "";
    });
  }

  #write(text) {
    const id = uuid();
    this.#room.sending(id, text, this.#panel.dataset.state !== "live");
    this.#client.publish(ROOM, "message", { text }, id).catch((error) => this.#room.refused(id, error));
  }

  #cut() {
    let left_s = CUT_S;
    const tell = () => this.#say("cut", `The line is cut: ${this.#name} misses everything now.`, `Back in ${left_s} s.`);
    this.#missing = setInterval(() => {
      left_s -= 1;
      if (left_s > 0) tell();
      else this.#mend();
    }, 1000);
    this.#client.close();
    tell();
    this.#find(".cut").textContent = "Mend the line";
  }

  #mend() {
    clearInterval(this.#missing);
    this.#missing = null;
    this.#find(".cut").textContent = "Cut the line";
    this.#client.open();
  }

  #show(state, wait_ms = 0) {
    const words = { connecting: "connecting", live: "live", stalled: "database away", waiting: "reconnecting", closed: "cut" };
    this.#panel.dataset.state = state;
    this.#find(".state").textContent = words[state];
    if (state === "live") this.#say("", `Listening to ${ROOM} and ${TABLE}.`);
    if (state === "stalled") this.#say("bad", "The database is away. The line stays open, nothing will be missed.");
    if (state === "waiting") this.#say("bad", "The line was lost.", `Trying again in ${Math.ceil(wait_ms / 1000)} s.`);
  }

  #caughtUp({ events, duplicates, gaps }) {
    if (gaps > 0) return this.#say("bad", "The log no longer held everything: the server said so, the rows were read anew.");
    const count = events === 1 ? "1 event" : `${events} events`;
    const twice = duplicates === 0 ? "none twice" : `${duplicates} came twice and were dropped`;
    this.#say("good", `${count} caught up, none lost, ${twice}.`);
  }

  /** Says what went wrong with a wish, for a while. */
  #complain(text) {
    const said = this.#find(".said");
    const [before, tone] = [said.firstElementChild.textContent, said.dataset.tone];
    this.#say("bad", text);
    setTimeout(() => said.firstElementChild.textContent === text && this.#say(tone, before), 5000);
  }

  /** The countdown is apart: a screen reader need not hear every second. */
  #say(tone, text, countdown = "") {
    const said = this.#find(".said");
    said.dataset.tone = tone;
    const [words, seconds] = said.children;
    if (words.textContent !== text) words.textContent = text;
    seconds.textContent = countdown;
  }
}

/** Mallory's token is as good as the others', only no policy lets her in. */
function refused(panel) {
  const client = new Client({ url, token: tokenOf("mallory") });
  const answer = (selector, text, good) => {
    const place = panel.querySelector(selector);
    place.dataset.tone = good ? "good" : "bad";
    place.textContent = text;
  };
  const knock = () =>
    client.subscribe(ROOM, {
      onReady: () => answer(".room-answer", "let in", true),
      onError: ({ code, message }) => answer(".room-answer", code ? `${code}: ${message}` : message),
    });
  client.subscribe(TABLE, {
    onReady: ({ columns }) => answer(".table-answer", `ack: ${columns.length} columns to read`, true),
    onError: ({ code, message }) => answer(".table-answer", code ? `${code}: ${message}` : message),
  });
  knock();
  panel.querySelector("button").addEventListener("click", () => {
    answer(".room-answer", "…");
    knock();
  });
  client.open();
}

/** Copies, or where the browser forbids it, selects. */
async function copy(button, source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

const template = document.querySelector("#person");
for (const key of ["ada", "grace"]) new Person(key, template).start();
refused(document.querySelector(".refused"));
const copyButton = document.querySelector(".psql button");
copyButton.addEventListener("click", () => copy(copyButton, document.querySelector(".psql code")));
