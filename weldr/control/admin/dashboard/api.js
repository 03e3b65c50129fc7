// The API of the instance that this page comes from: requests with the token, if there is one, and the event stream.

const TOKEN = "weldr-token";
const SILENCE_MS = 25_000;
const LIMIT_MS = 15_000;

/** The API said no; `message` is its sentence. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The token lives as long as the tab, and nowhere else. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

let onTokenWanted = () => {};

/** `wanted` is called with the API's sentence when a token is missing or wrong. */
export function whenTokenIsWanted(wanted) {
  onTokenWanted = wanted;
}

function headers(more = {}) {
  const held = token.get();
  return held ? { ...more, Authorization: `Bearer ${held}` } : more;
}

async function refusal(response) {
  let detail = `the answer has status ${response.status}`;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // No problem document: the status has to do.
  }
  if (response.status === 401) onTokenWanted(detail);
  return new Refused(response.status, detail);
}

async function answered(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(LIMIT_MS), ...options });
  } catch {
    throw new Refused(0, "this instance does not answer");
  }
  if (!response.ok) throw await refusal(response);
  try {
    return readable(await response.text());
  } catch {
    throw new Refused(0, "this instance broke off its answer");
  }
}

export const get = (path) => answered(path, { headers: headers() });

export async function send(method, path, body) {
  const fields = headers({ "Content-Type": "application/json" });
  return answered(path, { method, headers: fields, body: JSON.stringify(body) });
}

/** JSON, every object of which can become text: one that has a member `toString` otherwise stops whoever shows it. */
function readable(text) {
  // A reviver is slow, and keys are many.
  return text.includes('"toString"') ? JSON.parse(text, (name, value) => (hides(value) ? withText(value) : value)) : JSON.parse(text);
}

const hides = (value) => value !== null && typeof value === "object" && Object.hasOwn(value, "toString");
const withText = (value) => Object.defineProperty(value, Symbol.toPrimitive, { value: () => "[object Object]" });

// A name's text has `\xNN` for a byte that is no text and two backslashes for one; a path has the bytes themselves.
const segment = (name) => encodeURIComponent(name).replace(/%5C(?:%5C|x([0-9a-f]{2}))/g, (_, byte) => `%${byte ?? "5C"}`);

/** Where a service's leases are told; browsers leave `.` and `..` out of a path, so these are named in the query. */
export function leasePath(service) {
  return /^\.\.?$/.test(service) ? `/api/v1/leases?service=${service}` : `/api/v1/leases/${segment(service)}`;
}

/**
 * Events since a revision, or behind the event with this id, until the stream ends: `onEvent` gets the kind, the data
 * and the id of each. Throws `Refused`.
 * `fetch` and not EventSource, which cannot send a token.
 */
export async function follow(since, id, onOpen, onEvent) {
  const stop = new AbortController();
  let timer = setTimeout(() => stop.abort(), SILENCE_MS);
  try {
    const place = id ? { "Last-Event-ID": id } : {};
    const response = await fetch(`/api/v1/events?since=${since}`, { headers: headers(place), cache: "no-store", signal: stop.signal });
    if (!response.ok) throw await refusal(response);
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), SILENCE_MS);
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const event = parsed(part);
        if (event) onEvent(event.kind, event.data, event.id);
      }
    }
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused(0, "the stream of events broke off");
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}

function parsed(text) {
  let kind = "message";
  let data = "";
  let id = "";
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("id: ")) id = line.slice(4);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  return data ? { kind, data: readable(data), id } : null;
}
