// The demo page as its visitors use it. Needs a running sidecar with the demo, a psql, and Chromium:
//
//   npm ci && DEMO_URL=http://127.0.0.1:4000 npm test
//
// CHROMIUM is the browser's program; DEMO_SHELL runs the psql line that the page shows ("sh -c"); SHOTS is a folder
// for screenshots.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { DEMO_URL, CHROMIUM = "/usr/bin/chromium", DEMO_SHELL = "sh -c", SHOTS } = process.env;
const QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking";
const PATIENCE_MS = 20_000;

let browser, page;
const complaints = [];

before(async () => {
  const args = `${QUIET} --disable-component-update --disable-sync`.split(" ");
  browser = await chromium.launch({ executablePath: CHROMIUM, args });
  page = await visit();
});

after(() => browser?.close());

/** Opens the page and waits until both people are live and see their table. */
async function visit(options = {}, prepare = () => {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, ...options });
  const visited = await context.newPage();
  visited.setDefaultTimeout(PATIENCE_MS);
  visited.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  visited.on("pageerror", (error) => complaints.push(error.message));
  visited.on("request", (request) => request.url().startsWith(DEMO_URL) || complaints.push(`asked ${request.url()}`));
  await prepare(visited);
  await visited.goto(DEMO_URL);
  for (const name of ["ada", "grace"]) {
    await person(name, visited).and(visited.locator("[data-state=live]")).waitFor();
    await person(name, visited).locator("tbody tr").first().waitFor();
  }
  return visited;
}

const person = (name, on = page) => on.locator(`.person[data-person=${name}]`);
const press = (name, button) => person(name).locator(button).click();
const said = (name) => person(name).locator(".said > span").first();
const line = (name, text) => person(name).locator(".messages li", { has: page.getByText(text, { exact: true }) });
const arrived = (name, text) => line(name, text).and(page.locator("[data-message-id]"));
const rows = (name) => person(name).locator("tbody tr:not([data-change=DELETE])").allInnerTexts();
const last = (name) => person(name).locator(".last").innerText();
const shot = (name, on = page) => SHOTS && on.screenshot({ path: `${SHOTS}/${name}.png` });

async function write(name, text) {
  await person(name).getByRole("textbox").fill(text);
  await person(name).getByRole("button", { name: "Send" }).click();
}

/** Waits until a question is answered with yes. */
async function until(question, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await question())) {
    assert.ok(Date.now() < deadline, `in vain: ${what}`);
    await page.evaluate(() => new Promise(requestAnimationFrame));
  }
}

/** Whether both see the same table, and it is not the one from before. */
async function bothMoved(before) {
  const [ada, grace] = [await rows("ada"), await rows("grace")].map(String);
  return ada === grace && ada !== String(before);
}

/** What was published, in the order in which a person has it; without what came before `first`. */
async function messages(name, first) {
  const ids = await person(name).locator("[data-message-id]").evaluateAll((all) => all.map((it) => it.dataset.messageId));
  return ids.slice(ids.indexOf(first));
}

const unique = (text) => `${text} ${Date.now()}-${Math.random()}`;

test("both see the same table", async () => {
  assert.deepEqual(await rows("ada"), await rows("grace"));
  await shot("fresh");
});

test("a message crosses, both ways", async () => {
  for (const [from, to, name] of [["ada", "grace", "Ada"], ["grace", "ada", "Grace"]]) {
    const text = unique(`${name} says hello`);
    await write(from, text);
    await arrived(to, text).waitFor();
    await arrived(from, text).waitFor();
    assert.equal(await arrived(to, text).locator(".name").innerText(), name);
  }
  await shot("talk");
});

test("a row changed by the psql line that the page shows moves on both sides", async () => {
  const before = await rows("ada");
  const [program, ...words] = DEMO_SHELL.split(" ");
  execFileSync(program, [...words, await page.locator(".psql code").innerText()], { stdio: ["ignore", "ignore", "inherit"] });
  const ready = async (name) => (await rows(name)).every((row) => row.endsWith("ready"));
  await until(async () => (await ready("ada")) && (await ready("grace")), "all orders are ready");
  assert.equal((await rows("grace")).length, before.length);
});

test("the button changes a row on both sides", async () => {
  const before = await rows("grace");
  await press("ada", ".serve");
  await until(() => bothMoved(before), "the table moves");
  assert.equal(await last("ada"), await last("grace"));
});

test("who was cut off catches up: nothing lost, nothing twice", async () => {
  const [landmark, first, second, own] = ["landmark", "you miss this", "and this", "written while cut off"].map(unique);
  await write("grace", landmark);
  await arrived("ada", landmark).waitFor();
  const start = await arrived("ada", landmark).getAttribute("data-message-id");

  await press("ada", ".cut");
  const frozen = await rows("ada");
  await write("grace", first);
  await write("grace", second);
  await arrived("grace", second).waitFor();
  await press("grace", ".serve");
  await until(async () => String(await rows("grace")) !== String(frozen), "Grace's table moves");
  await write("ada", own);
  await shot("cut");
  assert.deepEqual(await rows("ada"), frozen);
  assert.equal(await line("ada", first).count(), 0);
  assert.equal(await line("grace", own).count(), 0);

  await press("ada", ".cut");
  await until(async () => (await said("ada").innerText()).includes("caught up"), "Ada catches up");
  assert.equal(await said("ada").innerText(), "3 events caught up, none lost, none twice.");
  await arrived("grace", own).waitFor();
  await arrived("ada", own).waitFor();
  await until(() => bothMoved(frozen), "both tables are the same again");
  const seen = await messages("ada", start);
  assert.deepEqual(seen, await messages("grace", start));
  assert.equal(seen.length, 4);
  assert.equal(new Set(seen).size, 4);
  await shot("mended");
});

test("a line that breaks by itself comes back by itself", async () => {
  const lines = [];
  const broken = await visit({}, (visited) => visited.routeWebSocket(/\/realtime/, (line) => lines.push([line, line.connectToServer()])));
  const text = unique("after the break");
  const before = lines.length;
  // 1012: the server restarts.
  await Promise.all(lines.map(([line, server]) => Promise.all([line.close({ code: 1012 }), server.close()])));
  await write("grace", text);
  await person("ada", broken).getByText(text, { exact: true }).waitFor();
  assert.ok(lines.length > before);
});

test("the policy refuses Mallory the room, the grant gives her the table", async () => {
  const answer = (name) => page.locator(`.${name}-answer`).innerText();
  await until(async () => (await answer("room")) !== "…" && (await answer("table")) !== "…", "both answers");
  assert.match(await answer("room"), /^UNAUTHORIZED: /);
  assert.match(await answer("table"), /^ack: 4 columns/);
  await page.getByRole("button", { name: "Knock" }).click();
  await until(async () => (await answer("room")).startsWith("UNAUTHORIZED: "), "she is refused again");
});

test("the page fits a telephone, and has a night side", async () => {
  const phone = await visit({ viewport: { width: 340, height: 720 } });
  const [wanted, has] = await phone.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wanted <= has, `${wanted} px on a screen of ${has} px`);
  await shot("phone", phone);
  const night = await visit({ colorScheme: "dark", reducedMotion: "reduce" });
  await shot("night", night);
});

test("the browser had nothing to complain about, and asked nobody else", () => assert.deepEqual(complaints, []));
