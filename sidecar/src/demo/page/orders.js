// A live table: its rows as they were when the subscription began, then one change after another.

const SHOWN_MS = 1800; // how long a change stays marked; page.css fades it meanwhile

export class Orders {
  #body;
  #last;
  #rows = new Map(); // by id: { record, element }
  #early = []; // changes that came before the rows

  constructor(body, last) {
    this.#body = body;
    this.#last = last;
  }

  /**
   * Reads the rows anew; to be called when the subscription has begun. What changes meanwhile waits, and a change that
   * the rows hold already does no harm: each carries its whole row, and the newest comes last.
   */
  async load(read) {
    this.#early = [];
    const records = await read();
    this.#rows.forEach(({ element }) => element.remove());
    this.#rows.clear();
    records.forEach((record) => this.#set(record));
    const early = this.#early;
    this.#early = null;
    early.forEach((change) => this.apply(change));
  }

  /** Applies the payload of an event. */
  apply(change) {
    if (this.#early) return this.#early.push(change);
    const { type, record, old_record } = change;
    if (type === "TRUNCATE") this.#rows.forEach((_, id) => this.#remove(id));
    if (type === "DELETE" || (record && old_record?.id !== record.id)) this.#remove(old_record?.id);
    if (record) this.#mark(this.#set(record), type);
    this.#last.textContent = describe(change);
  }

  #set(record) {
    const row = this.#rows.get(record.id) ?? { element: document.createElement("tr") };
    row.record = record;
    row.element.replaceChildren(...cells(record));
    if (!this.#rows.has(record.id)) this.#place(row);
    this.#rows.set(record.id, row);
    return row;
  }

  #place({ record, element }) {
    const after = [...this.#rows.values()].filter((row) => row.record.id > record.id);
    const next = after.reduce((least, row) => (!least || row.record.id < least.record.id ? row : least), null);
    this.#body.insertBefore(element, next?.element ?? null);
  }

  #remove(id) {
    const row = this.#rows.get(id);
    if (!row) return;
    this.#rows.delete(id);
    this.#mark(row, "DELETE");
    setTimeout(() => row.element.remove(), SHOWN_MS / 2);
  }

  #mark(row, type) {
    // Taken away and set again, so that a second change starts the animation anew.
    delete row.element.dataset.change;
    void row.element.offsetWidth;
    row.element.dataset.change = type;
    clearTimeout(row.timer);
    row.timer = setTimeout(() => delete row.element.dataset.change, SHOWN_MS);
  }
}

function cells({ id, customer, item, status }) {
  const pill = Object.assign(document.createElement("span"), { className: "pill", textContent: status });
  pill.dataset.status = status;
  return [`#${id}`, customer, item, pill].map((content) => {
    const cell = document.createElement("td");
    cell.append(content);
    return cell;
  });
}

function describe({ type, record, old_record }) {
  const row = record ?? old_record;
  if (!row) return type;
  const changed = record && old_record ? Object.keys(record).find((name) => record[name] !== old_record[name]) : null;
  const what = changed ? `${changed}: ${old_record[changed]} → ${record[changed]}` : `${row.customer}, ${row.item}`;
  return `${type} #${row.id} ${what}`;
}
