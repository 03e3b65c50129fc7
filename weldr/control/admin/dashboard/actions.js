// What people change from here: the operator's word on a backend, `overrides/<service>/<id>`, and on an instance,
// `instance_overrides/<instance>`, and nothing else.

import { send } from "./api.js";
import { byId, setAttribute, setText } from "./dom.js";
import { item } from "./state.js";

const TOAST_MS = 6000;
let toastTimer = 0;

/** Tell what became of something that was asked for. */
export function toast(text, level = "good") {
  const node = byId("toast");
  clearTimeout(toastTimer);
  node.className = `toast ${level}`;
  node.hidden = false;
  setText(node, text);
  toastTimer = setTimeout(() => (node.hidden = true), level === "bad" ? 2 * TOAST_MS : TOAST_MS);
}

/** Have a button say that work is under way. */
export async function busy(button, work) {
  button.asking = false;
  setAttribute(button, "aria-busy", "true");
  try {
    await work();
  } finally {
    setAttribute(button, "aria-busy", null);
  }
}

/** Whether this is the second press; the first has the button ask, until it loses the focus, and then `reset`. */
export function confirmed(button, question, label, reset) {
  if (button.asking) {
    button.asking = false;
    return true;
  }
  button.asking = true;
  setText(button, question);
  setAttribute(button, "aria-label", label);
  button.addEventListener("blur", () => (button.asking = false, reset()), { once: true });
  return false;
}

/** Change members of an override; `null` takes one back. What is left empty is removed. */
async function override(kind, names, patch, words) {
  const place = names.join("/");
  const key = `${kind}/${place}`;
  try {
    await write(key, item(key), patch);
    toast(`${place}: ${words}`);
  } catch (error) {
    const changed = error.status === 412 || error.status === 404;
    toast(changed ? `${place} was changed by somebody else meanwhile: look and try again` : `${place}: ${error.message}`, "bad");
  }
}

// Not by the key's own path: browsers resolve `.` and `..` in one, however they are written, so it may lead to another key.
async function write(key, held, patch) {
  const value = held !== undefined && held.value !== null && typeof held.value === "object" ? held.value : {};
  const over = value.until && Date.parse(value.until) <= Date.now();
  const wanted = without({ ...(over ? {} : value), ...patch });
  const operation = { key, if_revision: held?.mod_revision ?? 0 };
  if (Object.keys(wanted).some((name) => name !== "until")) await commit({ op: "put", value: wanted, ...operation });
  else if (held) await commit({ op: "delete", ...operation });
}

const commit = (operation) => send("POST", "/api/v1/transaction", { operations: [operation] });

function without(value) {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null));
}

const ofBackend = (backend, patch, words) => override("overrides", [backend.service, backend.id], patch, words);

export const drain = (backend) => ofBackend(backend, { drain: true }, "drained, gets no new requests");

/** Take the operator's word back; where the backend itself wishes to drain, say that it shall not. */
export const undrain = (backend) =>
  ofBackend(backend, { drain: backend.ownDrain && !backend.override?.drain ? false : null }, "no longer drained by us");

export const weigh = (backend, weight) =>
  ofBackend(backend, { weight }, weight === null ? "has its own weight again" : `has weight ${weight}`);

export const drainInstance = (name) =>
  override("instance_overrides", [name], { drain: true }, "drained: not ready any more, gives its virtual IPs away");

export const undrainInstance = (name) => override("instance_overrides", [name], { drain: null }, "in service again");
