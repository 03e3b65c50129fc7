// What people change from here: the operator's word on a backend, `overrides/<service>/<id>`, and nothing else.

import { keyPath, send } from "./api.js";
import { byId, setText } from "./dom.js";
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

/** Change members of the override; `null` takes one back. What is left empty is removed. */
export async function override(backend, patch, words) {
  const place = `${backend.service}/${backend.id}`;
  const path = keyPath("overrides", backend.service, backend.id);
  const held = item(`overrides/${place}`);
  try {
    await write(path, held, patch);
    toast(`${place}: ${words}`);
  } catch (error) {
    const changed = error.status === 412 || error.status === 404;
    toast(changed ? `${place} was changed by somebody else meanwhile: look and try again` : `${place}: ${error.message}`, "bad");
  }
}

async function write(path, held, patch) {
  const value = held !== undefined && held.value !== null && typeof held.value === "object" ? held.value : {};
  const over = value.until && Date.parse(value.until) <= Date.now();
  const wanted = without({ ...(over ? {} : value), ...patch });
  const condition = held ? { "If-Match": `"${held.mod_revision}"` } : { "If-None-Match": "*" };
  if (Object.keys(wanted).some((name) => name !== "until")) await send("PUT", path, wanted, condition);
  else if (held) await send("DELETE", path, undefined, condition);
}

function without(value) {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null));
}

export const drain = (backend) => override(backend, { drain: true }, "drained, gets no new requests");

/** Take the operator's word back; where the backend itself wishes to drain, say that it shall not. */
export const undrain = (backend) =>
  override(backend, { drain: backend.ownDrain && !backend.override?.drain ? false : null }, "no longer drained by us");

export const weigh = (backend, weight) =>
  override(backend, { weight }, weight === null ? "has its own weight again" : `has weight ${weight}`);
