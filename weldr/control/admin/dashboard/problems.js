// What needs somebody's attention, the worst first.

import { byId, h, list, setText, state as mark } from "./dom.js";
import { reasonOf } from "./fleet.js";
import { count, plural } from "./format.js";
import { reveal } from "./services.js";
import { byName, shortKey, state } from "./state.js";

const MOST = 60;
const FEW = 4;

export function drawProblems(services, instances, vips, live) {
  const found = [...connection(live), ...ofVips(vips), ...ofKeys(), ...ofServices(services), ...ofInstances(instances)];
  const drawn = found.slice(0, MOST);
  const more = found.length - drawn.length + Math.max(0, state.problemCount - state.problems.size);
  if (more > 0) drawn.push({ id: "more", glyph: "…", word: "more", level: "calm", what: plural(more, "more", "more"), why: "" });
  list(byId("problems-list"), drawn, (each) => each.id, makeProblem, updateProblem);
  setText(byId("problems-count"), found.length ? count(found.length) : "");
  byId("problems").classList.toggle("some", found.length > 0);
  byId("problems-empty").hidden = found.length > 0 || !state.loaded;
}

function connection(live) {
  return live.ok ? [] : [{ id: "live", glyph: "✕", word: "not live", level: "bad", what: "This page shows what was last known", why: live.why }];
}

function* ofKeys() {
  const problems = [...state.problems.values()].sort((a, b) => byName(a.key, b.key));
  for (const problem of problems) {
    const key = shortKey(problem.key);
    const [kind, service] = key.split("/");
    const at = kind === "backends" ? service : undefined;
    yield { id: `key ${problem.key}`, glyph: "!", word: "problem", level: "bad", what: key, why: `${problem.place}: ${problem.reason}`, at };
  }
}

function* ofServices(services) {
  for (const service of services.values()) {
    const bad = [...service.backends.values()].filter((each) => each.level === "bad" || each.level === "warn");
    // A value that cannot be understood is a problem of its key already.
    const told = bad.filter((each) => each.kind !== "invalid");
    if (service.total > 0 && service.up === 0) {
      yield { id: `none ${service.name}`, glyph: "✕", word: "none up", level: "bad", what: service.name, why: `none of its ${plural(service.total, "backend")} is up`, at: service.name };
    }
    for (const each of told.length <= FEW ? told : []) {
      yield { id: `backend ${service.name}/${each.id}`, glyph: each.glyph, word: each.word, level: each.level, what: `${service.name}/${each.id}`, why: each.why, at: service.name };
    }
    if (told.length > FEW) {
      yield { id: `many ${service.name}`, glyph: told[0].glyph, word: "many", level: "bad", what: service.name, why: `${told.length} of ${plural(service.total, "backend")} not well, as ${told[0].id}: ${told[0].why}`, at: service.name };
    }
  }
}

function* ofInstances(instances) {
  for (const each of instances) {
    if (each.level === "warn") yield { id: `instance ${each.name}`, glyph: each.glyph, word: each.word, level: "warn", what: each.name, why: reasonOf(each.numbers) };
    const told = Array.isArray(each.value.problems) ? each.value.problems : [];
    for (const text of told) {
      // What is wrong with keys is told once, and not by each instance.
      if (typeof text !== "string" || [...state.problems.keys()].some((key) => text.startsWith(key))) continue;
      yield { id: `says ${each.name} ${text}`, glyph: "!", word: "problem", level: "warn", what: each.name, why: text };
    }
  }
}

function* ofVips(vips) {
  for (const vip of vips) {
    if (!vip.held) yield { id: `vip ${vip.name}`, glyph: "✕", word: "no holder", level: "bad", what: `${vip.name} ${vip.address}`, why: vip.candidates ? `${plural(vip.candidates, "candidate")}, none holds it` : "no instance can take it" };
  }
}

function makeProblem(problem) {
  const node = h("li", { class: "problem" });
  node.mark = h("span");
  node.what = problem.at === undefined ? h("span", { class: "what" }) : h("button", { type: "button", class: "what", onclick: () => reveal(problem.at) });
  node.why = h("p", { class: "why" });
  node.append(node.mark, node.what, node.why);
  return node;
}

function updateProblem(node, problem) {
  mark(node.mark, problem.glyph, problem.word, problem.level);
  setText(node.what, problem.what);
  setText(node.why, problem.why);
}
