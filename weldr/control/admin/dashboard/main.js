// Starts everything: reads all keys, follows what changes from there, asks for numbers, and draws when there is news.

import { Refused, follow, get, leasePath, token, whenTokenIsWanted } from "./api.js";
import { byId, setText, state as mark } from "./dom.js";
import { drawInstances, drawSums, holders, instances } from "./fleet.js";
import { count, plural } from "./format.js";
import { keepAsking } from "./numbers.js";
import { drawProblems } from "./problems.js";
import * as routes from "./routes.js";
import * as services from "./services.js";
import * as known from "./state.js";
import * as story from "./story.js";

const { state } = known;
const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 5000;
const LEASES_MS = 2000;
const MOST_LEASE_SERVICES = 4;
const TICK_MS = 1000;
/** Of the time, drawing takes a third at most, however much there is. */
const REST = 2;
const LONGEST_REST_MS = 2000;

const live = { ok: true, why: "" };
let due = false;
let waiting = 0;
let restUntil = 0;
let drawn = false;
let leaseTurn = 0;

/** Draw soon, once for all that has changed by then. */
function draw() {
  if (due || waiting) return;
  const pause = restUntil - performance.now();
  if (pause <= 0) return drawAtOnce();
  waiting = setTimeout(drawAtOnce, pause);
  return undefined;
}

/** What the user does is seen at once. */
function drawAtOnce() {
  clearTimeout(waiting);
  waiting = 0;
  if (due) return;
  due = true;
  // A page that is not seen draws nothing until it is.
  requestAnimationFrame(() => {
    due = false;
    const began = performance.now();
    drawNow();
    // What the browser makes of it comes before the next task.
    setTimeout(() => {
      const now = performance.now();
      restUntil = now + Math.min(LONGEST_REST_MS, (now - began) * REST);
    });
  });
}

function drawNow() {
  const filter = byId("filter").value.trim().toLowerCase();
  const found = known.services();
  const vips = holders();
  const there = instances(vips);
  services.drawServices(found, filter);
  drawSums(found, there);
  drawInstances(there, vips);
  drawProblems(found, there, vips, live);
  routes.drawRoutes(filter);
  drawLeftOut();
  if (state.loaded && !drawn) performance.mark("weldr-drawn");
  drawn ||= state.loaded;
}

function drawLeftOut() {
  const parts = [...state.leftOut].map(([kind, more]) => `${count(more)} ${kind}`);
  byId("left-out").hidden = parts.length === 0;
  setText(byId("left-out"), `There is more than this page holds: ${parts.join(", ")} are left out, here and in all sums. The commands show all: weldr get, weldr top.`);
}

function setLive(ok, why = "") {
  live.ok = ok;
  live.why = why;
  mark(byId("live"), ok ? "●" : "✕", ok ? "live" : `not live: ${why}`, ok ? "good live" : "bad live");
  draw();
}

/** Read all, then follow; again and again, for as long as the page is there. */
async function keepFollowing() {
  let pause = FIRST_PAUSE_MS;
  for (;;) {
    try {
      if (!state.loaded) await load();
      await follow(state.revision, state.eventId, () => {
        setLive(true);
        pause = FIRST_PAUSE_MS;
      }, take);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      setLive(false, error.message);
      if (error.status === 401) await tokenGiven();
    }
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

async function load() {
  const [keys, problems] = await Promise.all([get(`/api/v1/keys?limit=${known.MOST_HELD}`), get("/api/v1/problems")]);
  known.load(keys);
  known.loadProblems(problems);
  story.note("here", `${plural(known.size("backends"), "backend")}, ${plural(known.size("instances"), "instance")} at revision ${keys.revision}`);
  routes.routesChanged();
  draw();
}

function take(kind, data, id) {
  if (id) state.eventId = id;
  if (kind === "change") {
    known.change(data);
    story.tellChange(data);
    if (data.changes.some((each) => each.key.startsWith("routes/"))) routes.routesChanged();
  } else if (kind === "problems") {
    known.changeProblems(data);
    story.tellProblems(data);
  } else if (kind === "departure") {
    known.departed(data);
    story.tellDeparture(data);
  } else if (kind === "reset") {
    state.loaded = false;
    throw new Refused(0, "everything is read anew");
  } else return;
  draw();
}

// --- leases, of those services whose backends are seen

async function keepAskingForLeases() {
  for (;;) {
    const shown = services.shown();
    const wanted = shown.slice(leaseTurn, leaseTurn + MOST_LEASE_SERVICES);
    leaseTurn = leaseTurn + MOST_LEASE_SERVICES < shown.length ? leaseTurn + MOST_LEASE_SERVICES : 0;
    for (const name of document.hidden || !state.loaded ? [] : wanted) {
      try {
        state.leases.set(name, (await get(leasePath(name))).backends);
      } catch {
        state.leases.delete(name);
      }
    }
    if (wanted.length) draw();
    for (const name of state.leases.keys()) if (!shown.includes(name)) state.leases.delete(name);
    await new Promise((done) => setTimeout(done, LEASES_MS));
  }
}

// --- the token

let onToken = () => {};

function tokenGiven() {
  return new Promise((done) => (onToken = done));
}

function askForToken(why) {
  const held = token.get() !== "";
  byId("token-open").hidden = false;
  byId("token-forget").hidden = !held;
  setText(byId("token-why"), held ? why : "");
  if (byId("token").hidden) {
    byId("token").hidden = false;
    byId("token-value").focus();
  }
}

function beginToken() {
  whenTokenIsWanted(askForToken);
  byId("token-open").hidden = token.get() === "";
  byId("token-open").addEventListener("click", () => {
    byId("token").hidden = !byId("token").hidden;
    byId("token-forget").hidden = token.get() === "";
    if (!byId("token").hidden) byId("token-value").focus();
  });
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(byId("token-value").value.trim());
    byId("token-value").value = "";
    byId("token").hidden = true;
    byId("token-open").hidden = false;
    onToken();
  });
  byId("token-forget").addEventListener("click", () => {
    token.forget();
    location.reload();
  });
  byId("token").addEventListener("keydown", (event) => event.key === "Escape" && (byId("token").hidden = true));
}

// --- begin

function beginKeys() {
  const filter = byId("filter");
  filter.addEventListener("input", drawAtOnce);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("input, textarea, select") && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      filter.focus();
    }
  });
  filter.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    filter.value = "";
    drawAtOnce();
  });
}

beginToken();
beginKeys();
services.begin(drawAtOnce);
routes.begin(drawAtOnce);
keepFollowing();
keepAsking(draw, () => {});
keepAskingForLeases();
setInterval(draw, TICK_MS);
document.addEventListener("visibilitychange", draw);
