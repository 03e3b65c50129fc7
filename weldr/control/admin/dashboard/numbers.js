// The numbers of the fleet: asked for every second while the page is seen. Each service's past is kept for its graphs.

import { get } from "./api.js";
import { own, state } from "./state.js";

const PERIOD_MS = 1000;
const FIRST_MS = 20;
export const SLOTS = 60;

let epoch = null;
const slots = new Map();

/** Ask for good; `onNumbers` is called after each answer, `onLost` when there is none. */
export async function keepAsking(onNumbers, onLost) {
  for (;;) {
    await seen();
    if (!state.loaded) {
      await new Promise((done) => setTimeout(done, FIRST_MS));
      continue;
    }
    try {
      take(await get(epoch === null ? "/api/v1/numbers" : `/api/v1/numbers?epoch=${epoch}&since_slot=${state.lastSlot}`));
      onNumbers();
    } catch (error) {
      onLost(error);
    }
    await new Promise((done) => setTimeout(done, PERIOD_MS));
  }
}

/** A page that nobody sees asks for nothing. */
function seen() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

function take(answer) {
  if (answer.epoch !== epoch || answer.last_slot < state.lastSlot) slots.clear();
  epoch = answer.epoch;
  state.numbers = answer;
  state.lastSlot = Math.max(0, answer.last_slot);
  for (const { number, services } of answer.slots) slots.set(number, services);
  for (const number of slots.keys()) if (number <= answer.last_slot - SLOTS) slots.delete(number);
}

/** The past of a service, the oldest first; of all services together without a name. `null` where it is not known. */
export function past(name) {
  const found = [];
  for (let number = state.lastSlot - SLOTS + 1; number <= state.lastSlot; number++) {
    const services = slots.get(number);
    if (!services) found.push(null);
    else found.push(name === undefined ? sum(services) : own(services, name) ?? [0, 0, null, null]);
  }
  return found;
}

function sum(services) {
  let requests = 0;
  let errors = 0;
  for (const [more, failed] of Object.values(services)) {
    requests += more;
    errors += failed;
  }
  return [requests, errors, null, null];
}
