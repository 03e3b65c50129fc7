// The running story: who came, who went and why, what changed, who leads, what broke. The newest first.

import { byId, h, setText, state as mark } from "./dom.js";
import { clock, compact } from "./format.js";
import { address, names, shortKey } from "./state.js";

const MOST = 200;
const AT_ONCE = 30;
const GLYPHS = { came: ["+", "good"], went: ["−", "bad"], changed: ["~", "calm"], trouble: ["!", "warn"], well: ["✓", "good"], here: ["·", "calm"] };
const WHY = { drained: "after it had been drained", expired: "since its lease expired", removed: "removed by hand, or it deregistered" };

/** Backends that have left, by key: why is told a moment later. */
const leaving = new Map();

/** A line of the story. */
export function note(kind, text) {
  const [glyph, level] = GLYPHS[kind];
  const line = h("li", { class: "line" }, h("time", { text: clock(new Date()) }), h("span"), h("span", { class: "text", text }));
  mark(line.children[1], glyph, kind, level);
  const parent = byId("story-list");
  parent.prepend(line);
  while (parent.children.length > MOST) parent.lastChild.remove();
  byId("story-empty").hidden = true;
  return line;
}

/** All of one revision. */
export function tellChange(data) {
  const told = data.changes.flatMap((each) => {
    const line = words(each);
    return line ? [{ each, line }] : [];
  });
  for (const { each, line } of told.slice(0, AT_ONCE)) {
    const node = note(...line);
    if (each.action === "delete" && each.key.startsWith("backends/")) {
      leaving.set(each.key, node);
      if (leaving.size > MOST) leaving.delete(leaving.keys().next().value);
    }
  }
  if (told.length > AT_ONCE) note("changed", `${told.length - AT_ONCE} more keys changed at that moment`);
}

export function tellDeparture(data) {
  const node = leaving.get(data.key);
  leaving.delete(data.key);
  if (node) setText(node.lastChild, `backend ${names(data.key).join("/")} left, ${WHY[data.reason] ?? data.reason}`);
}

export function tellProblems(data) {
  for (const problem of data.appeared.slice(0, AT_ONCE)) note("trouble", `${shortKey(problem.key)} has a problem, at ${problem.place}: ${problem.reason}`);
  for (const key of data.gone.slice(0, AT_ONCE)) note("well", `${shortKey(key)} has no problem any more, or is gone`);
}

function words({ key, action, before, after }) {
  const kind = key.split("/", 1)[0];
  const place = names(key).join("/");
  const teller = { backends: backend, overrides: override, instances: instance, instance_overrides: instanceOverride, holders: holder, health, elections: nothing, viewers: nothing, moves: nothing, secrets: nothing }[kind];
  return teller ? teller(place, action, before, after) : anything(key, action, after);
}

const nothing = () => null;

function anything(key, action, after) {
  if (action === "delete") return ["went", `${key} was removed`];
  return [action === "create" ? "came" : "changed", `${key} ${action === "create" ? "came" : "changed"}: ${compact(after.value)}`];
}

function backend(place, action, before, after) {
  if (action === "delete") return ["went", `backend ${place} left`];
  const lease = after.lease ? "" : ", without a lease";
  if (action === "create") return ["came", `backend ${place} ${before ? "registered again" : "came"}: ${address(after.value)}${lease}`];
  if (after.value?.drain && !before?.value?.drain) return ["changed", `backend ${place} is draining by its own word`];
  if (JSON.stringify(before?.value) === JSON.stringify(after.value)) return before?.lease === after.lease ? null : ["came", `backend ${place} registered again`];
  return ["changed", `backend ${place} changed: ${compact(after.value)}`];
}

function override(place, action, before, after) {
  const was = before?.value ?? {};
  const now = action === "delete" ? {} : after.value ?? {};
  const parts = [];
  if (was.drain !== now.drain) parts.push(now.drain ? "drained" : now.drain === false ? "kept from draining" : "no longer drained");
  if (was.weight !== now.weight) parts.push(now.weight === undefined ? "its own weight again" : `weight ${now.weight}`);
  if (now.until && was.until !== now.until) parts.push(`until ${now.until}`);
  return parts.length ? ["changed", `backend ${place}, by the operator: ${parts.join(", ")}`] : null;
}

function instance(place, action, before) {
  // Each change of configuration makes every instance write its key: only its coming and going is news.
  if (action === "delete") return ["went", `instance ${place} left`];
  return before ? null : ["came", `instance ${place} came`];
}

function instanceOverride(place, action, before, after) {
  const now = action === "delete" ? {} : after.value ?? {};
  if ((before?.value?.drain === true) === (now.drain === true)) return null;
  return ["changed", `instance ${place}, by the operator: ${now.drain === true ? "drained" : "in service again"}${now.until ? `, until ${now.until}` : ""}`];
}

function holder(place, action, before, after) {
  const now = after?.value;
  const was = before?.value;
  if (action === "delete" || !now) return ["went", `nobody holds the virtual IP ${place}`];
  if (now.state === was?.state && now.instance === was?.instance && now.token === was?.token) return null;
  if (now.state === "held") return ["came", `${now.instance} holds the virtual IP ${place} (${now.address})`];
  return ["went", `${now.instance} let the virtual IP ${place} go${now.reason ? `: ${now.reason}` : ""}`];
}

function health(place, action, before, after) {
  if (action === "delete" || !after.value) return null;
  const [who, ...which] = place.split("/");
  if (before?.value?.state === after.value.state && before?.value?.reason === after.value.reason) return null;
  const { state, reason } = after.value;
  return [state === "up" ? "well" : "trouble", `backend ${which.join("/")} is ${state} for ${who}${reason ? `: ${reason}` : ""}`];
}
