// A client of the native protocol: one connection that comes back by itself and misses nothing.
//
//   const client = new Client({ url: "ws://127.0.0.1:4000/realtime", token: async () => "…" });
//   client.subscribe("room:lobby", { onEvent: (payload) => console.log(payload) });
//   client.open();
//
// Every event has an offset, which grows. A subscription remembers the last one it has seen; after a pause it asks for
// everything since. Events that the log no longer has are announced by a gap, never left out in silence.

const SUBPROTOCOL = "realtime.v1";
const RETRY_FIRST_MS = 250;
const RETRY_LONGEST_MS = 10_000;
/** The server asks not to come back: for abuse, or because all rights are gone. */
const FINAL_CODES = [4400, 4403];

/** What the server refused, in its words; `code` is what programs decide by. */
export class RealtimeError extends Error {
  constructor({ error, code }) {
    super(error);
    this.code = code;
  }
}

/** A uuid. `crypto.randomUUID` exists on https and localhost only. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export class Client {
  #url;
  #token;
  #onState;
  #onCaughtUp;
  #socket = null;
  #live = false; // the server has said hello
  #attempt = 0; // of connecting; an answer to an older one is nobody's
  #failures = 0;
  #timers = {};
  #silenceMs = 15_000; // until the server has said how often it speaks
  #subscriptions = new Map(); // by id
  #asked = new Map(); // by ref: frames that have no answer yet
  #lastRef = 0;
  #resuming = null; // what was caught up so far, while catching up

  /**
   * `token` is asked before every connection and before the token ends. `onState` gets "connecting", "live", "stalled"
   * (the server has lost its database), "waiting" (and for how many milliseconds) or "closed". `onCaughtUp` gets what a
   * resumed connection had missed.
   */
  constructor({ url, token, onState = () => {}, onCaughtUp = () => {} }) {
    this.#url = url;
    this.#token = token;
    this.#onState = onState;
    this.#onCaughtUp = onCaughtUp;
  }

  /** Connects, and connects again whenever the connection is lost, until `close`. */
  async open() {
    this.#drop();
    this.#onState("connecting");
    const attempt = this.#attempt;
    try {
      const token = await this.#token();
      if (attempt === this.#attempt) this.#connect(token);
    } catch {
      if (attempt === this.#attempt) this.#retry();
    }
  }

  /** Drops the line. Subscriptions and what is not yet published are kept for the next `open`. */
  close() {
    this.#drop();
    this.#onState("closed");
  }

  /**
   * Subscribes now or as soon as there is a connection, and again after every pause.
   *
   * `since` is where to begin: an offset, "oldest", or nothing for now. `onEvent` gets the payload and
   * `{ offset, resumed }`; `onReady` the server's ack; `onGap` what cannot be had; `onError` why the subscription ended.
   */
  subscribe(channel, { id = channel, since, ...handlers }) {
    const subscription = { id, channel, since, handlers, offset: undefined, begun: false };
    this.#subscriptions.set(id, subscription);
    if (this.#live) this.#begin(subscription);
  }

  /** Resolves when the message is committed. Sent again after a lost line, it is still published once: by its id. */
  publish(channel, event, payload, message_id = uuid()) {
    return this.#ask({ type: "publish", channel, event, payload, message_id });
  }

  #connect(token) {
    const url = new URL(this.#url);
    url.searchParams.set("token", token);
    const socket = new WebSocket(url, SUBPROTOCOL);
    this.#socket = socket;
    this.#watch();
    socket.onclose = ({ code }) => socket === this.#socket && this.#lost(code);
    socket.onmessage = ({ data }) => {
      // One frame, or an array of them.
      for (const frame of [JSON.parse(data)].flat()) {
        if (socket === this.#socket) this.#receive(frame);
      }
    };
  }

  #drop() {
    this.#attempt += 1;
    Object.values(this.#timers).forEach(clearTimeout);
    this.#timers = {};
    this.#socket?.close();
    this.#socket = null;
    this.#live = false;
    this.#resuming = null;
    this.#subscriptions.forEach((subscription) => (subscription.begun = false));
    // Publications are sent again with their ids; the rest belongs to the connection.
    for (const [ref, { frame }] of this.#asked) {
      if (frame.type !== "publish") this.#asked.delete(ref);
    }
  }

  #lost(code) {
    if (FINAL_CODES.includes(code)) this.close();
    else this.#retry();
  }

  /** Tries again, each time later, and never all clients at the same moment. */
  #retry() {
    this.#drop();
    const longest = Math.min(RETRY_FIRST_MS * 2 ** this.#failures, RETRY_LONGEST_MS);
    const wait_ms = longest * (0.5 + Math.random() / 2);
    this.#failures += 1;
    this.#onState("waiting", wait_ms);
    this.#timers.retry = setTimeout(() => this.open(), wait_ms);
  }

  #receive(frame) {
    this.#watch();
    const subscription = this.#subscriptions.get(frame.id);
    switch (frame.type) {
      case "hello":
        return this.#hello(frame);
      case "broadcast":
        return subscription && this.#event(subscription, frame);
      case "gap":
        return subscription && this.#gap(subscription, frame);
      case "heartbeat":
        return this.#safe(frame.offset);
      case "status":
        return this.#onState(frame.database === "up" ? "live" : "stalled");
      case "ack":
        if (subscription && "recovered" in frame) this.#begun(subscription, frame);
        return this.#answer(frame.ref, ({ resolve }) => resolve(frame));
      case "pong":
        return this.#answer(frame.ref, ({ resolve }) => resolve(frame));
      case "error":
        // An error that says when to try again is not an answer yet: the database is away, or we are too fast.
        if (frame.retry_after_ms && this.#asked.has(frame.ref)) return this.#askAgain(frame);
        this.#answer(frame.ref, ({ reject }) => reject(new RealtimeError(frame)));
        // With the token everything ends, but only until the next connection has a new one.
        if (frame.final && frame.code !== "TOKEN_EXPIRED" && subscription) this.#end(subscription, new RealtimeError(frame));
    }
  }

  #hello({ offset: head = 0, expires_at, heartbeat_ms }) {
    this.#live = true;
    this.#silenceMs = 2.5 * heartbeat_ms;
    this.#renew(expires_at);
    this.#resuming = { head, events: 0, duplicates: 0, gaps: 0 };
    const unanswered = [...this.#asked.values()];
    this.#subscriptions.forEach((subscription) => this.#begin(subscription));
    unanswered.forEach(({ frame }) => this.#send(frame));
    this.#onState("live");
    this.#catchUp(this.#resuming);
  }

  async #begin(subscription) {
    const { id, channel, offset } = subscription;
    subscription.resumes = offset !== undefined;
    try {
      await this.#ask({ type: "subscribe", id, channel, since: offset ?? subscription.since });
    } catch (error) {
      this.#end(subscription, error);
    }
  }

  #begun(subscription, ack) {
    subscription.begun = true;
    subscription.offset ??= ack.offset;
    subscription.handlers.onReady?.(ack);
  }

  #event(subscription, { offset, payload }) {
    const resuming = this.#resuming;
    // The server sends nothing twice. Looking costs nothing, and is what makes it safe to say so.
    if (offset <= subscription.offset) {
      if (resuming) resuming.duplicates += 1;
      return;
    }
    subscription.offset = offset;
    const resumed = subscription.resumes && offset <= resuming?.head;
    if (resumed) resuming.events += 1;
    subscription.handlers.onEvent?.(payload, { offset, resumed });
  }

  #gap(subscription, frame) {
    // `to` may lie before `from`: then the log is another one, and the subscription starts over from there.
    subscription.offset = frame.to;
    if (this.#resuming) this.#resuming.gaps += 1;
    subscription.handlers.onGap?.(frame);
  }

  #end(subscription, error) {
    this.#subscriptions.delete(subscription.id);
    subscription.handlers.onError?.(error);
  }

  /** Asks how far everything was sent, until that is past the end that the log had when the line came back. */
  async #catchUp(resuming) {
    const { offset } = await this.#ask({ type: "ping" });
    if (resuming !== this.#resuming) return;
    const subscriptions = [...this.#subscriptions.values()];
    if (offset < resuming.head || !subscriptions.every(({ begun }) => begun)) {
      this.#timers.catchUp = setTimeout(() => this.#catchUp(resuming), 50);
      return;
    }
    this.#resuming = null;
    this.#failures = 0;
    this.#safe(offset);
    if (subscriptions.some(({ resumes }) => resumes)) this.#onCaughtUp(resuming);
  }

  /** Nothing up to here is missing in any subscription, so a quiet one need not ask for it again. */
  #safe(offset) {
    for (const subscription of this.#subscriptions.values()) {
      if (subscription.begun && offset > subscription.offset) subscription.offset = offset;
    }
  }

  /** A new token in time; when there is none, the server ends the connection and the next one asks again. */
  #renew(expires_at) {
    if (!expires_at) return;
    const left_ms = Date.parse(expires_at) - Date.now();
    this.#timers.renew = setTimeout(async () => {
      try {
        const ack = await this.#ask({ type: "access_token", token: await this.#token() });
        this.#renew(ack.expires_at);
      } catch {
        this.#renew(expires_at);
      }
    }, Math.max(left_ms * 0.8, 5000));
  }

  /** A line may die without a word. The server is never silent for longer than its heartbeat. */
  #watch() {
    clearTimeout(this.#timers.silence);
    this.#timers.silence = setTimeout(() => this.#retry(), this.#silenceMs);
  }

  #ask(frame) {
    const ref = ++this.#lastRef;
    const asked = { ...frame, ref };
    if (this.#live) this.#send(asked);
    return new Promise((resolve, reject) => this.#asked.set(ref, { frame: asked, resolve, reject }));
  }

  #askAgain({ ref, retry_after_ms }) {
    const { frame } = this.#asked.get(ref);
    this.#timers[ref] = setTimeout(() => this.#send(frame), retry_after_ms);
  }

  #answer(ref, settle) {
    const asked = this.#asked.get(ref);
    this.#asked.delete(ref);
    if (asked) settle(asked);
  }

  #send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }
}
