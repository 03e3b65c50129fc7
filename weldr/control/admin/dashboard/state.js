// What is known: every key as it is now, and what follows from the keys. Owner of all of it; the panels only read.

const KINDS = ["backends", "overrides", "services", "routes", "vips", "settings", "instances", "instance_overrides", "elections", "holders", "health"];
/** Keys of each kind that are held; the page says how many more there are. */
export const MOST_HELD = 10_000;
const LEFT_SHOWN_MS = 120_000;
const MOST_LEFT = 200;

/** How bad each state of a backend is; the first is the worst. */
const STATES = {
  invalid: { glyph: "!", word: "invalid", level: "bad" },
  down: { glyph: "✕", word: "down", level: "bad" },
  ejected: { glyph: "▲", word: "ejected", level: "warn" },
  expired: { glyph: "◇", word: "no lease", level: "warn" },
  resting: { glyph: "▽", word: "resting", level: "warn" },
  draining: { glyph: "▮", word: "draining", level: "calm" },
  drained: { glyph: "▯", word: "drained", level: "calm" },
  left: { glyph: "–", word: "left", level: "gone" },
  up: { glyph: "●", word: "up", level: "good" },
};
/** What instances write of themselves. */
const REPORTED = new Set(["instances", "elections", "holders", "health", "moves", "secrets", "viewers"]);
const BY_HEALTH = ["down", "ejected", "expired", "resting"];
const WHY_LEFT = { drained: "it had been drained", expired: "its lease ran out", removed: "removed by hand, or it deregistered" };

/** A member that the object itself has: names come from outside, and may be `constructor`. */
export const own = (object, name) => (object && Object.hasOwn(object, name) ? object[name] : undefined);

export const state = {
  revision: 0,
  /** Of the last event, which tells one past of etcd from another; empty before the first. */
  eventId: "",
  /** The last revision that is known to have changed configuration: no instance has to be further. */
  configured: 0,
  loaded: false,
  problems: new Map(),
  /** By the key without the prefix. */
  problemOf: new Map(),
  problemCount: 0,
  numbers: null,
  lastSlot: 0,
  leases: new Map(),
  order: null,
  /** By kind, how many keys there are beyond those that are held. */
  leftOut: new Map(),
};

const kinds = new Map(KINDS.map((kind) => [kind, new Map()]));
const left = new Map();

const collator = new Intl.Collator("en", { numeric: true });
/** As people count: b2 before b10. */
export const byName = collator.compare;

/** The ids of each service's backends in order: sorting thousands at each drawing would be felt. */
const sortedIds = new Map();

const isConfiguration = (key) => !REPORTED.has(key.split("/", 1)[0]);

/** Every key, anew. */
export function load(answer) {
  for (const held of kinds.values()) held.clear();
  state.configured = 0;
  for (const item of answer.items) {
    held(item.key)?.set(item.key, item);
    if (isConfiguration(item.key)) state.configured = Math.max(state.configured, item.mod_revision);
  }
  state.leftOut = new Map(Object.entries(answer.left_out ?? {}).filter(([kind]) => kinds.has(kind)));
  sortedIds.clear();
  state.revision = answer.revision;
  state.eventId = "";
  state.loaded = true;
}

export function loadProblems(answer) {
  state.problems = new Map(answer.items.map((problem) => [problem.key, problem]));
  state.problemCount = answer.count;
  indexProblems();
}

/** A revision has changed these keys. */
export function change(data) {
  state.revision = Math.max(state.revision, data.revision);
  for (const { key, action, after, before } of data.changes) {
    if (isConfiguration(key)) state.configured = Math.max(state.configured, data.revision);
    const into = held(key);
    if (action === "delete") {
      if (into?.delete(key) === false) countLeftOut(key, -1);
      if (key.startsWith("backends/")) noteLeft(key, before);
    } else {
      if (into?.has(key) || into?.size < MOST_HELD) into.set(key, { key, ...after });
      else if (into && !before) countLeftOut(key, 1);
      left.delete(key);
    }
    if (key.startsWith("backends/") && !(before && after)) sortedIds.delete(names(key)[0]);
  }
}

function countLeftOut(key, more) {
  const kind = key.split("/", 1)[0];
  const count = (state.leftOut.get(kind) ?? 0) + more;
  if (count > 0) state.leftOut.set(kind, count);
  else state.leftOut.delete(kind);
}

/** A service's backends in the order of their ids. */
export function inOrder(service) {
  const { backends, name } = service;
  let ids = sortedIds.get(name);
  // Some come and go without a key: those that have left, and those that are used without one.
  if (ids?.length !== backends.size || !ids.every((id) => backends.has(id))) {
    ids = [...backends.keys()].sort(byName);
    sortedIds.set(name, ids);
  }
  return ids.map((id) => backends.get(id));
}

export function changeProblems(data) {
  for (const key of data.gone) state.problems.delete(key);
  for (const problem of data.appeared) state.problems.set(problem.key, problem);
  state.problemCount = data.count;
  indexProblems();
}

function indexProblems() {
  state.problemOf = new Map([...state.problems.values()].map((problem) => [shortKey(problem.key), problem]));
}

/** Why a backend left is known a moment after it has. */
export function departed(data) {
  const found = left.get(data.key);
  if (found) found.reason = WHY_LEFT[data.reason] ?? data.reason;
}

function noteLeft(key, before) {
  left.set(key, { at: Date.now(), value: before?.value, reason: "" });
  if (left.size > MOST_LEFT) left.delete(left.keys().next().value);
}

function held(key) {
  return kinds.get(key.split("/", 1)[0]);
}

export function item(key) {
  return held(key)?.get(key);
}

export const all = (kind) => [...kinds.get(kind).values()];
export const size = (kind) => kinds.get(kind).size;
export const names = (key) => key.split("/").slice(1);

/** A key as people name it, from one with the prefix. */
export function shortKey(key) {
  const found = /(?:^|\/)((?:backends|overrides|services|routes|vips|certs|settings|instances|instance_overrides|elections|holders|health|moves|secrets)(?:\/.*)?)$/s.exec(key);
  return found ? found[1] : key;
}

/** Of a backend's value, in whatever shape its owner writes it. */
export function address(value) {
  if (typeof value === "string") return value.replace(/^https?:\/\//, "").replace(/\/$/, "");
  if (value === null || typeof value !== "object") return "";
  if (typeof value.url === "string") return address(value.url);
  if (typeof value.Addr === "string") return value.Addr;
  if (Array.isArray(value.endpoints)) return address(String(value.endpoints[0] ?? "").replace(/^[a-z]+:\/\//, ""));
  if (value.host !== undefined) return value.port === undefined ? String(value.host) : `${value.host}:${value.port}`;
  return "";
}

/** By service: everything that the page shows of it. Made once for each time that something is drawn. */
export function services() {
  const found = new Map();
  const of = (name) => {
    if (!found.has(name)) found.set(name, { name, backends: new Map(), policy: item(`services/${name}`) });
    return found.get(name);
  };
  const health = healthByBackend();
  for (const entry of all("services")) of(names(entry.key)[0]);
  for (const entry of all("backends")) {
    const [service, id] = names(entry.key);
    of(service).backends.set(id, backend(service, id, entry, health.get(`${service}/${id}`)));
  }
  for (const [place, seen] of health) {
    const [service, id] = place.split("/");
    // It has no key any more, and is used as long as it answers.
    if (seen.some((each) => each.state === "expired") && !item(`backends/${place}`)) {
      of(service).backends.set(id, backend(service, id, null, seen));
    }
  }
  const now = Date.now();
  for (const [key, gone] of left) {
    if (now - gone.at > LEFT_SHOWN_MS) {
      left.delete(key);
      continue;
    }
    const [service, id] = names(key);
    const into = of(service).backends;
    if (!into.has(id)) {
      into.set(id, { service, id, kind: "left", ...STATES.left, why: gone.reason, at: gone.at, address: address(gone.value), inFlight: 0, rates: [0, 0], gone: true });
    }
  }
  for (const entry of all("routes")) for (const name of targets(entry.value)) of(name);
  for (const name of Object.keys(state.numbers?.services ?? {})) if (name) of(name);
  for (const service of found.values()) summarize(service);
  return found;
}

export function targets(route) {
  if (route === null || typeof route !== "object") return [];
  const split = route.services !== null && typeof route.services === "object" ? Object.keys(route.services) : [];
  return [route.service, ...split, route.mirror?.service].filter((name) => typeof name === "string" && name);
}

function healthByBackend() {
  const found = new Map();
  for (const { key, value } of all("health")) {
    const [instance, service, id] = names(key);
    const place = `${service}/${id}`;
    if (!found.has(place)) found.set(place, []);
    found.get(place).push({ instance, ...value });
  }
  return found;
}

function backend(service, id, entry, health = []) {
  const override = activeOverride(`${service}/${id}`);
  const value = entry?.value;
  const word = value !== null && typeof value === "object" ? value : {};
  const weight = override?.weight ?? word.weight ?? 1;
  const drain = override?.drain ?? word.drain ?? false;
  const [requests, errors, loaded] = own(own(state.numbers?.backends, service), id) ?? [0, 0, 0];
  const found = {
    service, id, key: `backends/${service}/${id}`, override, weight, ownWeight: word.weight ?? 1, ownDrain: word.drain === true,
    address: address(value) || health[0]?.address || "", lease: entry?.lease ?? null, zone: typeof word.zone === "string" ? word.zone : "",
    inFlight: loaded, rates: [requests, errors], drains: drain || weight === 0, at: null, why: "",
  };
  Object.assign(found, judged(found, entry, health, drain));
  return { ...found, ...STATES[found.kind] };
}

/** Its state and why, the worst first. */
function judged(found, entry, health, drain) {
  const problem = state.problemOf.get(found.key);
  if (problem && entry) return { kind: "invalid", why: `${problem.place}: ${problem.reason}` };
  const told = health.filter((each) => each.state !== "up");
  for (const kind of BY_HEALTH) {
    const saying = told.filter((each) => each.state === kind);
    if (saying.length && !(found.drains && kind !== "down")) {
      const who = size("instances") > 1 ? ` (${saying.length === size("instances") ? "for all instances" : `for ${saying.map((each) => each.instance).join(", ")}`})` : "";
      return { kind, why: `${saying[0].reason}${who}`, at: Date.parse(saying[0].at) };
    }
  }
  if (found.drains) {
    const idle = found.inFlight === 0;
    const by = found.override?.drain ? "by the operator" : drain ? "by its own word" : "its weight is 0";
    return { kind: idle ? "drained" : "draining", why: idle ? `${by}; nothing is in flight` : `${by}; ${found.inFlight} in flight` };
  }
  const back = health.filter((each) => each.state === "up").map((each) => Date.parse(each.at));
  return { kind: "up", why: "", at: back.length ? Math.max(...back) : null };
}

/** The operator's word on a backend or an instance, while it is in force. */
export function activeOverride(place, kind = "overrides") {
  const value = item(`${kind}/${place}`)?.value;
  if (value === null || typeof value !== "object") return null;
  return value.until && Date.parse(value.until) <= Date.now() ? null : value;
}

function summarize(service) {
  const there = [...service.backends.values()].filter((each) => !each.gone);
  service.total = there.length;
  service.up = there.filter((each) => each.kind === "up").length;
  service.bad = there.filter((each) => each.level === "bad").length;
  service.warn = there.filter((each) => each.level === "warn").length;
  service.draining = there.filter((each) => each.kind === "draining").length;
  service.drained = there.filter((each) => each.kind === "drained").length;
  service.inFlight = there.reduce((sum, each) => sum + each.inFlight, 0);
  const [requests, errors, p50, p99] = own(state.numbers?.services, service.name) ?? [0, 0, null, null];
  Object.assign(service, { requests, errors, p50, p99 });
}
