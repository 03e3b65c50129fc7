// Services and their backends.

import { busy, confirmed, drain, undrain, weigh } from "./actions.js";
import { drawLatency, drawMeter, drawTraffic, latencyGraph, meter, trafficGraph } from "./chart.js";
import { byId, firstOf, h, list, setAttribute, setText, state as mark } from "./dom.js";
import { ago, count, latency, rate, share } from "./format.js";
import { past } from "./numbers.js";
import { byName, inOrder, own, state } from "./state.js";

const MOST_SERVICES = 100;
const MOST_BACKENDS = 100;
/** Of all services together, however many are open. */
const MOST_ROWS = 400;
const FEW = 3;
const MOST_WEIGHT = 1_000_000;

const COLUMNS = [
  { name: "name", text: "Service", by: (each) => each.name },
  { name: "requests", text: "Requests/s", by: (each) => -each.requests },
  { name: "errors", text: "Errors/s", by: (each) => -each.errors },
  { name: "latency", text: "Latency p50 · p99", by: (each) => -(each.p99 ?? 0) },
  { name: "backends", text: "Backends", by: (each) => -(each.bad * 1e6 + each.warn * 1e3 + each.draining + each.drained) },
  { name: "flight", text: "In flight", by: (each) => -each.inFlight },
];

const open = new Map();
let sorted = COLUMNS[0];
let draw = () => {};
let few = false;
let revealed = "";
let room = MOST_ROWS;

/** `redraw` is called when something that the user did is to be seen. */
export function begin(redraw) {
  draw = redraw;
  const head = byId("services-head");
  for (const column of COLUMNS) {
    const button = h("button", { type: "button", class: `sort by-${column.name}`, onclick: () => sort(column) }, column.text, h("span", { class: "arrow", "aria-hidden": "true" }));
    head.append(button);
    column.button = button;
  }
  sort(sorted);
  byId("services-list").addEventListener("keydown", move);
}

function sort(column) {
  sorted = column;
  for (const each of COLUMNS) {
    setAttribute(each.button, "aria-pressed", String(each === column));
    setText(each.button.lastChild, each === column ? (column.name === "name" ? "↑" : "↓") : "");
  }
  draw();
}

/** Up and down between the services. */
function move(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !event.target.matches("button.toggle")) return;
  const buttons = [...byId("services-list").querySelectorAll("button.toggle")];
  buttons[buttons.indexOf(event.target) + step]?.focus();
  event.preventDefault();
}

/** Show a service's backends, and go there. */
export function reveal(name) {
  open.set(name, true);
  revealed = name;
  byId("filter").value = "";
  draw();
  requestAnimationFrame(() => {
    const row = byId("services-list").heldNodes?.get(name);
    row?.scrollIntoView({ block: "nearest" });
    row?.querySelector("button.toggle").focus();
  });
}

const isOpen = (name) => open.get(name) ?? few;

/** The services whose backends are to be seen. */
export const shown = () => [...byId("services-list").children].filter((row) => isOpen(row.serviceName)).map((row) => row.serviceName);

export function drawServices(services, filter) {
  // With few services there is room for all of their backends.
  few = services.size <= FEW;
  const found = [...services.values()].filter((each) => matches(each, filter));
  found.sort((a, b) => compare(sorted.by(a), sorted.by(b)) || compare(a.name, b.name));
  const drawn = firstOf(found, MOST_SERVICES, byId("services-more"), "filter by name, or sort by another column");
  // Where somebody has been sent to is there, however far down it would be.
  const sent = services.get(revealed);
  if (sent && !filter && !drawn.includes(sent)) drawn.unshift(sent);
  room = MOST_ROWS;
  list(byId("services-list"), drawn, (each) => each.name, makeService, (row, each) => updateService(row, each, filter));
  setText(byId("services-count"), filter ? `${count(found.length)} of ${count(services.size)}` : count(services.size));
  const empty = byId("services-empty");
  empty.hidden = found.length > 0 || !state.loaded;
  setText(empty, services.size ? "No service and no backend has that in its name." : "There is no service yet. Register a first backend: etcdctl put /weldr/backends/default/b1 127.0.0.1:9001");
}

const compare = (a, b) => (typeof a === "string" ? byName(a, b) : a - b);
const matches = (each, filter) => !filter || each.name.toLowerCase().includes(filter) || [...each.backends.values()].some((backend) => matchesBackend(backend, filter));
const matchesBackend = (backend, filter) => `${backend.id} ${backend.address} ${backend.word}`.toLowerCase().includes(filter);

function makeService(service) {
  const id = `service-${nextId++}`;
  const row = h("div", { class: "service", role: "listitem" });
  const part = (name, ...children) => {
    const node = h("div", { class: name }, ...children);
    return node;
  };
  row.serviceName = service.name;
  row.toggle = h("button", { type: "button", class: "toggle", "aria-controls": id, onclick: () => toggle(service.name) }, h("span", { class: "chevron", "aria-hidden": "true" }), h("span", { class: "text" }));
  row.traffic = trafficGraph();
  row.latency = latencyGraph();
  row.requests = h("span", { class: "figure" });
  row.errors = h("span", { class: "figure" });
  row.errorShare = h("span", { class: "share" });
  row.quantiles = h("span", { class: "figure" });
  row.health = h("span", { class: "health" });
  row.flight = h("span", { class: "figure" });
  row.listHead = backendHead();
  row.list = h("div", { class: "backend-list", id, role: "list", hidden: true });
  row.more = h("p", { class: "more", hidden: true });
  row.append(
    h("div", { class: "service-grid" },
      part("cell name", row.toggle),
      part("cell requests", row.requests, row.traffic),
      part("cell errors", row.errors, row.errorShare),
      part("cell latency", row.quantiles, row.latency),
      part("cell backends", row.health),
      part("cell flight", row.flight)),
    row.listHead, row.list, row.more);
  return row;
}

let nextId = 0;

/** What the columns are, where there is room for columns; elsewhere each field says it itself. */
function backendHead() {
  const words = ["State", "Backend", "Weight", "In flight", "Req/s", "Err/s", "Lease left", ""];
  return h("div", { class: "backend-head", "aria-hidden": "true", hidden: true }, ...words.map((word) => h("span", { text: word })));
}

function toggle(name) {
  open.set(name, !isOpen(name));
  draw();
}

function updateService(row, service, filter) {
  setText(row.toggle.lastChild, service.name);
  setText(row.requests, rate(service.requests));
  setText(row.errors, rate(service.errors));
  setText(row.errorShare, share(service.errors, service.requests));
  setAttribute(row.errors.parentNode, "class", `cell errors${service.errors ? " some" : ""}`);
  setText(row.quantiles, service.p50 === null ? "–" : `${latency(service.p50)} · ${latency(service.p99)}`);
  setText(row.flight, count(service.inFlight));
  drawHealth(row.health, service);
  if (row.slot !== `${state.numbers?.epoch}/${state.lastSlot}`) {
    row.slot = `${state.numbers?.epoch}/${state.lastSlot}`;
    const slots = past(service.name);
    drawTraffic(row.traffic, slots, `Requests of the last two minutes: ${rate(service.requests)} a second now, ${rate(service.errors)} of them errors`);
    drawLatency(row.latency, slots, `Latency of the last two minutes: median ${latency(service.p50)}, 99th percentile ${latency(service.p99)}`);
  }
  // What is looked for is shown, also where it is inside.
  const inside = filter && !service.name.toLowerCase().includes(filter);
  const shows = isOpen(service.name) || Boolean(inside);
  setAttribute(row.toggle, "aria-expanded", String(shows));
  row.list.hidden = !shows;
  row.listHead.hidden = !shows || service.backends.size === 0;
  if (shows) drawBackends(row, service, inside ? filter : "");
  else row.more.hidden = true;
}

function drawHealth(node, service) {
  const parts = [{ key: "up", class: service.total && service.up === service.total ? "state good" : "state", glyph: "●", text: `${service.up}/${service.total} up` }];
  if (!service.total) parts[0] = { key: "none", class: "state bad", glyph: "✕", text: "no backend" };
  if (service.bad) parts.push({ key: "bad", class: "state bad", glyph: "✕", text: `${service.bad} down` });
  if (service.warn) parts.push({ key: "warn", class: "state warn", glyph: "▲", text: `${service.warn} spared` });
  if (service.draining) parts.push({ key: "draining", class: "state calm", glyph: "▮", text: `${service.draining} draining` });
  if (service.drained) parts.push({ key: "drained", class: "state calm", glyph: "▯", text: `${service.drained} drained` });
  list(node, parts, (part) => part.key, () => h("span"), (each, part) => {
    mark(each, part.glyph, part.text, part.class.replace("state ", "").replace("state", ""));
  });
}

function drawBackends(row, service, filter) {
  const found = inOrder(service).filter((backend) => !filter || matchesBackend(backend, filter));
  const drawn = firstOf(found, Math.min(room, MOST_BACKENDS), row.more, "filter by id, address or state");
  room -= drawn.length;
  list(row.list, drawn, (backend) => backend.id, makeBackend, (node, backend) => updateBackend(node, backend, service));
}

function field(name, label) {
  const value = h("span", { class: "value" });
  return [h("div", { class: `field ${name}` }, h("span", { class: "label", text: label }), value), value];
}

function makeBackend() {
  const node = h("div", { class: "backend", role: "listitem" });
  node.mark = h("span");
  node.idPart = h("span", { class: "id" });
  node.addressPart = h("span", { class: "address" });
  [node.weightField, node.weight] = field("weight", "weight");
  [node.flightField, node.flight] = field("flight", "in flight");
  [node.rateField, node.rate] = field("rate", "req/s");
  [node.errorField, node.errors] = field("errors", "err/s");
  [node.leaseField, node.lease] = field("lease", "lease");
  node.meter = meter();
  node.leaseField.append(node.meter);
  node.why = h("p", { class: "why" });
  node.drainButton = h("button", { type: "button", class: "small", onclick: () => press(node) });
  node.weightButton = h("button", { type: "button", class: "small", text: "Weight", "aria-expanded": "false", onclick: () => openWeight(node) });
  node.actions = h("div", { class: "actions" }, node.drainButton, node.weightButton);
  node.append(node.mark, h("div", { class: "who" }, node.idPart, node.addressPart), node.weightField, node.flightField, node.rateField, node.errorField, node.leaseField, node.actions, node.why);
  return node;
}

function updateBackend(node, backend, service) {
  node.backend = backend;
  node.isLast = service.up === 1 && backend.kind === "up";
  setAttribute(node, "class", `backend ${backend.level}`);
  mark(node.mark, backend.glyph, backend.word, backend.level);
  setText(node.idPart, backend.id);
  setText(node.addressPart, backend.address + (backend.zone ? ` · ${backend.zone}` : ""));
  setText(node.flight, count(backend.inFlight));
  setText(node.rate, rate(backend.rates[0]));
  setText(node.errors, rate(backend.rates[1]));
  setAttribute(node.errorField, "class", `field errors${backend.rates[1] ? " some" : ""}`);
  for (const part of [node.weightField, node.leaseField, node.actions]) part.hidden = Boolean(backend.gone);
  if (!backend.gone) {
    setText(node.weight, backend.override?.weight === undefined ? backend.weight : `${backend.weight} (own ${backend.ownWeight})`);
    drawLease(node, backend);
    updateButtons(node, backend);
  }
  const since = backend.at ? ` · ${ago(Date.now() - backend.at)} ago` : "";
  setText(node.why, backend.kind === "up" ? "" : backend.gone ? `${backend.why || "its key went"}${since}` : backend.why + since);
}

function drawLease(node, backend) {
  const time = own(state.leases.get(backend.service), backend.id);
  node.meter.hidden = !backend.lease || !time;
  if (!backend.lease) setText(node.lease, backend.key && backend.kind === "expired" ? "gone" : "none");
  else if (!time) setText(node.lease, "…");
  else {
    setText(node.lease, `${time.left_s} of ${time.ttl_s} s`);
    drawMeter(node.meter, time.left_s / Math.max(1, time.ttl_s));
    setAttribute(node.meter, "class", `meter${time.left_s <= time.ttl_s / 3 ? " low" : ""}`);
  }
}

function updateButtons(node, backend) {
  const drains = backend.drains && (backend.override?.drain || backend.ownDrain);
  if (!node.drainButton.asking) {
    setText(node.drainButton, drains ? "Undrain" : "Drain");
    setAttribute(node.drainButton, "aria-label", `${drains ? "Undrain" : "Drain"} ${backend.service}/${backend.id}`);
  }
  setAttribute(node.weightButton, "aria-label", `Weight of ${backend.service}/${backend.id}`);
}

/** To drain the last one that is up takes a second press. */
function press(node) {
  const { backend } = node;
  const button = node.drainButton;
  if (button.textContent === "Undrain") return busy(button, () => undrain(backend));
  const label = `Really drain ${backend.service}/${backend.id}, the last that is up?`;
  if (node.isLast && !confirmed(button, "Drain the last one?", label, () => updateButtons(node, node.backend))) return undefined;
  return busy(button, () => drain(backend));
}

function openWeight(node) {
  if (node.weightForm) return closeWeight(node);
  const { backend } = node;
  const input = h("input", { type: "number", min: 0, max: MOST_WEIGHT, step: 1, required: true, value: backend.weight, "aria-label": `New weight of ${backend.service}/${backend.id}` });
  const own = h("button", { type: "button", class: "small", text: `Own (${backend.ownWeight})`, onclick: () => { closeWeight(node); weigh(node.backend, null); } });
  own.hidden = backend.override?.weight === undefined;
  const submit = (event) => {
    event.preventDefault();
    const weight = input.valueAsNumber;
    closeWeight(node);
    weigh(node.backend, weight);
  };
  node.weightForm = h("form", { class: "weigh", onsubmit: submit, onkeydown: (event) => event.key === "Escape" && closeWeight(node) }, input, h("button", { type: "submit", class: "small", text: "Set" }), own);
  node.actions.append(node.weightForm);
  setAttribute(node.weightButton, "aria-expanded", "true");
  input.select();
  return undefined;
}

function closeWeight(node) {
  node.weightForm?.remove();
  node.weightForm = null;
  setAttribute(node.weightButton, "aria-expanded", "false");
  node.weightButton.focus();
}
