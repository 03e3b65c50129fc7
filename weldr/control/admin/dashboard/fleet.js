// Instances, virtual IPs, and the sums of all.

import { busy, confirmed, drainInstance, undrainInstance } from "./actions.js";
import { drawTraffic, trafficGraph } from "./chart.js";
import { byId, firstOf, h, list, setAttribute, setText, state as mark } from "./dom.js";
import { ago, count, latency, plural, rate, share } from "./format.js";
import { past } from "./numbers.js";
import { activeOverride, all, byName, item, names, own, size, state } from "./state.js";

const MOST = 100;
const HOW = "weldr get tells of all";

/** Each instance, with what there is to say of it. */
export function instances(vips) {
  return all("instances").map((entry) => {
    const [name] = names(entry.key);
    const value = entry.value !== null && typeof entry.value === "object" ? entry.value : {};
    const numbers = own(state.numbers?.instances, name);
    const holds = vips.filter((vip) => vip.holder === name && vip.held);
    const drained = activeOverride(name, "instance_overrides")?.drain === true;
    return { name, value, numbers, holds, drained, ...condition(numbers, drained, holds) };
  });
}

function condition(numbers, drained, holds) {
  if (!numbers) return { glyph: "○", word: "there", level: "calm" };
  if (numbers.reason) return { glyph: "△", word: "no numbers", level: "warn" };
  if (numbers.follows_etcd === false) return { glyph: "△", word: "without etcd", level: "warn", lost: true };
  if (numbers.serving < numbers.workers) return { glyph: "▲", word: `${numbers.serving} of ${numbers.workers} workers`, level: "warn" };
  if (drained) return numbers.in_flight || holds.length ? { glyph: "▮", word: "draining", level: "calm" } : { glyph: "▯", word: "drained", level: "calm" };
  return { glyph: "●", word: "serving", level: "good" };
}

/** Each virtual IP, and who has it. */
export function holders() {
  const candidates = new Map();
  for (const entry of all("elections")) {
    const [vip] = names(entry.key);
    candidates.set(vip, (candidates.get(vip) ?? 0) + 1);
  }
  return all("vips").map((entry) => {
    const [name] = names(entry.key);
    const record = item(`holders/${name}`)?.value;
    const held = record?.state === "held" && item(`instances/${record.instance}`) !== undefined;
    return {
      name, address: entry.value?.address ?? "", held, holder: record?.instance ?? "", since: Date.parse(record?.since),
      reason: record?.reason ?? "", candidates: candidates.get(name) ?? 0,
    };
  });
}

export function drawInstances(found, vips) {
  setText(byId("instances-count"), count(found.length));
  byId("instances-empty").hidden = found.length > 0 || !state.loaded;
  found.sort((a, b) => byName(a.name, b.name));
  const inService = found.filter((each) => !each.drained).length;
  list(byId("instances-list"), firstOf(found, MOST, byId("instances-more"), HOW), (each) => each.name, makeInstance, (node, each) => updateInstance(node, each, inService));
  byId("vips").hidden = vips.length === 0;
  vips.sort((a, b) => byName(a.name, b.name));
  list(byId("vips-list"), firstOf(vips, MOST, byId("vips-more"), HOW), (each) => each.name, makeVip, updateVip);
}

function makeInstance() {
  const node = h("li", { class: "instance" });
  node.mark = h("span");
  node.name = h("span", { class: "id" });
  node.here = h("span", { class: "here", text: "this page" });
  node.holds = h("span", { class: "holds" });
  node.figures = h("p", { class: "figures" });
  node.details = h("p", { class: "details" });
  node.reason = h("p", { class: "why" });
  node.drainButton = h("button", { type: "button", class: "small", onclick: () => press(node) });
  node.append(h("div", { class: "line" }, node.mark, node.name, node.here, node.drainButton), node.holds, node.figures, node.details, node.reason);
  return node;
}

/** To drain the last one in service takes a second press. */
function press(node) {
  const { name, drained } = node.instance;
  if (drained) return busy(node.drainButton, () => undrainInstance(name));
  if (node.isLast && !confirmed(node.drainButton, "Drain the last one?", `Really drain the instance ${name}, the last in service?`, () => updateButton(node))) return undefined;
  return busy(node.drainButton, () => drainInstance(name));
}

function updateButton(node) {
  if (node.drainButton.asking) return;
  const word = node.instance.drained ? "Undrain" : "Drain";
  setText(node.drainButton, word);
  setAttribute(node.drainButton, "aria-label", `${word} the instance ${node.instance.name}`);
}

function updateInstance(node, instance, inService) {
  const { name, value, numbers, holds, drained, glyph, word, level } = instance;
  node.instance = instance;
  node.isLast = !drained && inService === 1;
  updateButton(node);
  mark(node.mark, glyph, word, level);
  setText(node.name, name);
  node.here.hidden = name !== state.numbers?.instance;
  node.holds.hidden = holds.length === 0;
  setText(node.holds, holds.length ? `holds ${holds.map((vip) => `${vip.name} ${vip.address}`).join(", ")}` : "");
  const known = numbers && numbers.requests_per_s !== null && numbers.requests_per_s !== undefined;
  setText(node.figures, known ? `${rate(numbers.requests_per_s)} req/s · ${count(numbers.in_flight)} in flight · ${plural(numbers.connections, "connection")}` : "");
  const listen = Array.isArray(value.addresses) ? value.addresses.join(", ") : "";
  const up = Date.parse(value.started);
  setText(node.details, [listen, value.version ? `version ${value.version}` : "", Number.isNaN(up) ? "" : `up ${ago(Date.now() - up)}`, `applied ${value.applied ?? "?"}${value.applied < state.configured ? ` (behind ${state.configured})` : ""}`].filter(Boolean).join(" · "));
  setText(node.reason, reasonOf(numbers) || (drained ? "by the operator: not ready, and no virtual IP while others stand" : ""));
}

/** Why an instance is not well, if it is not. */
export function reasonOf(numbers) {
  if (!numbers) return "";
  return numbers.reason || (numbers.follows_etcd === false ? "it hears nothing from etcd, and serves what it last knew" : "");
}

function makeVip() {
  const node = h("li", { class: "vip" });
  node.mark = h("span");
  node.name = h("span", { class: "id" });
  node.address = h("span", { class: "address" });
  node.why = h("p", { class: "details" });
  node.append(h("div", { class: "line" }, node.mark, node.name, node.address), node.why);
  return node;
}

function updateVip(node, vip) {
  mark(node.mark, vip.held ? "●" : "✕", vip.held ? "held" : "nobody has it", vip.held ? "good" : "bad");
  setText(node.name, vip.name);
  setText(node.address, vip.address);
  const since = Number.isNaN(vip.since) ? "" : `for ${ago(Date.now() - vip.since)}`;
  setText(node.why, [vip.held ? `at ${vip.holder}` : vip.reason, vip.held ? since : "", plural(vip.candidates, "candidate")].filter(Boolean).join(" · "));
}

const SUMS = [
  { key: "requests", title: "Requests/s", graph: true },
  { key: "errors", title: "Errors/s" },
  { key: "latency", title: "Slowest p99" },
  { key: "flight", title: "In flight" },
  { key: "backends", title: "Backends up" },
  { key: "instances", title: "Instances" },
  { key: "revision", title: "Revision" },
];

/** The strip on top. */
export function drawSums(services, found) {
  const every = [...services.values()];
  const total = (name) => every.reduce((sum, each) => sum + each[name], 0);
  const lost = own(state.numbers?.services, "") ?? [0, 0];
  const requests = total("requests") + lost[0];
  const errors = total("errors") + lost[1];
  const slow = every.reduce((worst, each) => ((each.p99 ?? 0) > (worst?.p99 ?? 0) ? each : worst), null);
  const up = total("up");
  const all = total("total");
  const drained = found.filter((each) => each.drained).length;
  const silent = found.filter((each) => each.level === "warn").length;
  const values = {
    requests: [rate(requests), lost[0] ? `${rate(lost[0])} to no service` : ""],
    errors: [rate(errors), share(errors, requests), errors > 0 ? "bad" : ""],
    latency: [slow ? latency(slow.p99) : "–", slow?.name ?? ""],
    flight: [count(total("inFlight")), ""],
    backends: [`${count(up)}/${count(all)}`, all > up ? `${count(all - up)} not` : "", total("bad") ? "bad" : ""],
    instances: [count(found.length), silent ? `${silent} not well` : drained ? `${drained} drained` : size("vips") ? plural(size("vips"), "virtual IP") : "", silent ? "warn" : ""],
    revision: [count(state.revision), ""],
  };
  list(byId("sums"), SUMS, (each) => each.key, makeSum, (node, each) => {
    const [value, note, level] = values[each.key];
    setText(node.value, value);
    setText(node.note, note);
    setAttribute(node, "class", `sum ${each.key} ${level ?? ""}`);
    if (node.graph && node.slot !== `${state.numbers?.epoch}/${state.lastSlot}`) {
      node.slot = `${state.numbers?.epoch}/${state.lastSlot}`;
      drawTraffic(node.graph, past(), `Requests of all services in the last two minutes: ${value} a second now`);
    }
  });
}

function makeSum(each) {
  const node = h("div", { class: "sum" });
  node.value = h("span", { class: "figure" });
  node.note = h("span", { class: "note" });
  node.graph = each.graph ? trafficGraph() : null;
  node.append(h("dt", { text: each.title }), h("dd", {}, node.value, node.note, ...(node.graph ? [node.graph] : [])));
  return node;
}
