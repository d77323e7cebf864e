// A chat room: what came over the line, and what was written but has not come back yet.

const KEPT = 200; // lines
const clock = new Intl.DateTimeFormat([], { timeStyle: "medium" });

export class Room {
  #list;
  #me;
  #nameOf;
  #sent = new Map(); // by message id: { element, at, waits }

  /** `me` is the subject of the reader's token, `nameOf` turns such a subject into a name. */
  constructor(list, me, nameOf) {
    this.#list = list;
    this.#me = me;
    this.#nameOf = nameOf;
  }

  /** Shows a line that is on its way, or that `waits` for a connection. */
  sending(id, text, waits) {
    const note = waits ? "waits for the line" : "on its way";
    const element = line({ text, name: this.#nameOf(this.#me), note, by: "me" });
    element.dataset.state = "sending";
    this.#sent.set(id, { element, at: performance.now(), waits });
    this.#add(element);
  }

  /** Says why a line was not published. */
  refused(id, error) {
    const sent = this.#sent.get(id);
    this.#sent.delete(id);
    if (!sent) return;
    sent.element.dataset.state = "refused";
    sent.element.querySelector(".note").textContent = `not sent: ${error.message}`;
  }

  /** Shows a message of the channel. Who wrote it, and when, comes from the server: nobody can write it. */
  received({ payload, meta }, resumed) {
    const sent = this.#sent.get(meta.messageId);
    this.#sent.delete(meta.messageId);
    sent?.element.remove();
    const by = meta.senderType === "system" ? "system" : meta.sender === this.#me ? "me" : "other";
    const notes = [clock.format(new Date(meta.timestamp))];
    if (sent?.waits) notes.push("waited for the line");
    else if (sent) notes.push(`there and back in ${Math.round(performance.now() - sent.at)} ms`);
    else if (resumed) notes.push("caught up");
    const name = by === "system" ? "Postgres" : this.#nameOf(meta.sender);
    const element = line({ text: String(payload?.text ?? ""), name, note: notes.join(" · "), by });
    element.dataset.person = meta.sender ?? "";
    element.dataset.messageId = meta.messageId;
    if (resumed) element.dataset.state = "resumed";
    this.#add(element);
  }

  #add(element) {
    // Lines on their way stay below those that have arrived.
    const first = [...this.#sent.values()].find((sent) => sent.element !== element && sent.element.isConnected);
    this.#list.insertBefore(element, element.dataset.state === "sending" ? null : first?.element ?? null);
    if (this.#list.childElementCount > KEPT) this.#list.firstElementChild.remove();
    this.#list.scrollTop = this.#list.scrollHeight;
  }
}

function line({ text, name, note, by }) {
  const element = document.createElement("li");
  element.dataset.by = by;
  for (const [className, content] of Object.entries({ name, text, note })) {
    element.append(Object.assign(document.createElement("span"), { className, textContent: content }));
  }
  return element;
}
