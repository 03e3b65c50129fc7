// Routes in the order in which they are tried, and what a request would meet.

import { send } from "./api.js";
import { byId, firstOf, h, list, setAttribute, setText, state as mark } from "./dom.js";
import { compact, count } from "./format.js";
import { all, byName, names, services, state } from "./state.js";

const ORDER_PAUSE_MS = 400;
const MOST = 200;

let explained = null;
let draw = () => {};
let orderTimer = 0;
let asking = false;

export function begin(redraw) {
  draw = redraw;
  byId("explain").addEventListener("submit", explain);
  byId("explain-clear").addEventListener("click", () => {
    clear();
    byId("explain-url").focus();
  });
  byId("explain-url").addEventListener("keydown", (event) => event.key === "Escape" && clear());
}

/** The routes may be in another order now. The data plane is asked, once for many changes. */
export function routesChanged() {
  clearTimeout(orderTimer);
  orderTimer = setTimeout(askOrder, ORDER_PAUSE_MS);
}

async function askOrder() {
  if (asking) return routesChanged();
  asking = true;
  try {
    const answer = await send("POST", "/api/v1/explain", { url: "http://order.invalid/" });
    state.order = new Map(answer.order.map((name, place) => [name, place]));
    draw();
  } catch {
    setTimeout(routesChanged, 5000);
  } finally {
    asking = false;
  }
  return undefined;
}

async function explain(event) {
  event.preventDefault();
  const url = byId("explain-url").value.trim();
  const question = { url, method: byId("explain-method").value };
  const fields = byId("explain-fields").value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (fields.length) question.headers = fields;
  const client = byId("explain-client").value.trim();
  if (client) question.client = client;
  setAttribute(byId("explain"), "aria-busy", "true");
  try {
    const answer = await send("POST", "/api/v1/explain", question);
    explained = { answer, reasons: new Map(answer.routes.map((route) => [route.name, route])) };
    state.order = new Map(answer.order.map((name, place) => [name, place]));
    tell(url, answer);
  } catch (error) {
    explained = null;
    verdict("bad", "✕", "not explained", [error.message]);
  } finally {
    setAttribute(byId("explain"), "aria-busy", null);
  }
  byId("explain-clear").hidden = false;
  draw();
}

function clear() {
  explained = null;
  byId("verdict").hidden = true;
  byId("explain-clear").hidden = true;
  draw();
}

function tell(url, answer) {
  const winner = answer.routes.find((route) => route.wins);
  const by = winner ? `by the route ${winner.name}` : "since no route takes it";
  if (answer.status !== null) return verdict("warn", "◆", `${answer.status}`, [`weldr answers itself${winner ? ` (route ${winner.name})` : ""}: ${answer.reason}`]);
  if (answer.why_none) return verdict("bad", "✕", "503", [`${url} goes to the service ${answer.service}, ${by}; ${answer.why_none}`]);
  const known = services().get(answer.service)?.backends ?? new Map();
  const tried = answer.backends.slice(0, 12).join(", ") + (answer.backends.length > 12 ? ` and ${answer.backends.length - 12} more` : "");
  const lines = [`to the service ${answer.service}, ${by}`, `tried in this order, which begins elsewhere for each request: ${tried}`];
  for (const id of answer.unused.slice(0, 12)) {
    const backend = known.get(id);
    lines.push(`not tried: ${id}${backend ? `, ${backend.word}${backend.why ? ` (${backend.why})` : ""}` : ""}`);
  }
  return verdict("good", "→", answer.service, lines);
}

function verdict(level, glyph, word, lines) {
  const node = byId("verdict");
  node.hidden = false;
  node.replaceChildren(h("span"), h("div", {}, ...lines.map((line) => h("p", { text: line }))));
  mark(node.firstChild, glyph, word, level);
}

export function drawRoutes(filter) {
  const found = all("routes").map((entry) => ({ name: names(entry.key)[0], value: entry.value !== null && typeof entry.value === "object" ? entry.value : {}, raw: entry.value }));
  const place = (route) => state.order?.get(route.name) ?? Infinity;
  found.sort((a, b) => place(a) - place(b) || byName(a.name, b.name));
  const wanted = found.filter((route) => !filter || `${route.name} ${condition(route.value)} ${target(route.value)}`.toLowerCase().includes(filter));
  setText(byId("routes-count"), filter ? `${count(wanted.length)} of ${count(found.length)}` : count(found.length));
  byId("routes-empty").hidden = found.length > 0 || !state.loaded;
  const drawn = firstOf(wanted, MOST, byId("routes-more"), "filter by name, condition or service");
  list(byId("routes-list"), drawn, (route) => route.name, makeRoute, (node, route) => updateRoute(node, route, place(route)));
}

function makeRoute() {
  const node = h("li", { class: "route" });
  node.place = h("span", { class: "place" });
  node.name = h("span", { class: "id" });
  node.condition = h("code", { class: "condition" });
  node.target = h("span", { class: "target" });
  node.extra = h("span", { class: "extra" });
  node.why = h("p", { class: "why" });
  node.mark = h("span");
  node.append(node.place, node.name, node.condition, node.target, node.extra, h("div", { class: "reason" }, node.mark, node.why));
  return node;
}

function updateRoute(node, route, place) {
  const faulty = state.problemOf.get(`routes/${route.name}`);
  setText(node.place, place === Infinity ? "–" : place + 1);
  setText(node.name, route.name);
  // A value that was never understood takes nothing: it is shown as it was written.
  const idle = faulty !== undefined && place === Infinity;
  setText(node.condition, idle ? compact(route.raw ?? "") : condition(route.value));
  setAttribute(node.condition, "class", `condition${idle ? " idle" : ""}`);
  setText(node.target, idle ? "" : `→ ${target(route.value)}`);
  setText(node.extra, extras(route.value));
  const found = explained?.reasons.get(route.name);
  setAttribute(node, "class", `route${found?.wins ? " taken" : ""}${explained && !found?.wins ? " passed" : ""}`);
  if (found) mark(node.mark, found.wins ? "✓" : "·", found.wins ? "taken" : "not taken", found.wins ? "good" : "calm");
  else if (faulty) mark(node.mark, "!", "problem", "bad");
  else mark(node.mark, "", "", "");
  setText(node.why, found ? found.reason : faulty ? `${faulty.place}: ${faulty.reason}` : "");
  node.lastChild.hidden = !found && !faulty;
  node.extra.hidden = !node.lastChild.hidden;
}

/** What it takes, as a person would write it. */
function condition(route) {
  const path = route.path_exact ?? (route.path !== undefined ? `${String(route.path).replace(/\/$/, "")}/…` : undefined) ?? route.path_glob ?? (route.path_regex !== undefined ? `~ ${route.path_regex}` : "");
  const parts = [Array.isArray(route.methods) && route.methods.length ? route.methods.join("|") : "", `${route.host ?? ""}${path}`];
  for (const [word, members] of [["field", route.headers], ["query", route.query]]) {
    if (members && typeof members === "object") for (const [name, value] of Object.entries(members)) parts.push(`${word} ${name}${value?.present === undefined ? `=${compact(typeof value === "object" ? value?.exact ?? `~${value?.regex}` : value)}` : value.present ? "" : " absent"}`);
  }
  if (Array.isArray(route.clients) && route.clients.length) parts.push(`from ${route.clients.join(", ")}`);
  return parts.filter(Boolean).join("  ") || (target(route) === "?" ? "" : "everything");
}

function target(route) {
  if (route.service) return String(route.service);
  if (route.services && typeof route.services === "object") return Object.entries(route.services).map(([name, weight]) => `${name} ${weight}`).join(" : ");
  if (route.redirect && typeof route.redirect === "object") return `${route.redirect.status ?? 302} ${route.redirect.scheme ?? ""}${route.redirect.scheme ? "://" : ""}${route.redirect.host ?? ""}${route.redirect.path ?? ""}`;
  if (route.response && typeof route.response === "object") return `answers ${route.response.status ?? 200}`;
  return "?";
}

function extras(route) {
  const found = [];
  if (route.priority) found.push(`priority ${route.priority}`);
  if (route.mirror?.service) found.push(`copies to ${route.mirror.service}`);
  if (route.rate_limit?.requests_per_s) found.push(`${route.rate_limit.requests_per_s}/s at most`);
  if (route.allow?.length || route.deny?.length) found.push("not for every client");
  if (route.strip_prefix || route.add_prefix) found.push("path rewritten");
  return found.join(" · ");
}
