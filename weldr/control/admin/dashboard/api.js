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
  return response;
}

export async function get(path) {
  return (await answered(path, { headers: headers() })).json();
}

export async function send(method, path, body, more = {}) {
  const fields = headers(body === undefined ? more : { ...more, "Content-Type": "application/json" });
  const response = await answered(path, { method, headers: fields, body: body === undefined ? undefined : JSON.stringify(body) });
  return response.json();
}

/** The path of a key such as `overrides/shop/b1`, whose names may hold anything. */
export function keyPath(...names) {
  return `/api/v1/${names.map(encodeURIComponent).join("/")}`;
}

/**
 * Events since a revision, until the stream ends: `onEvent` gets the kind and the data of each. Throws `Refused`.
 * `fetch` and not EventSource, which cannot send a token.
 */
export async function follow(since, onOpen, onEvent) {
  const stop = new AbortController();
  let timer = setTimeout(() => stop.abort(), SILENCE_MS);
  try {
    const response = await fetch(`/api/v1/events?since=${since}`, { headers: headers(), cache: "no-store", signal: stop.signal });
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
        if (event) onEvent(event.kind, event.data);
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
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  return data ? { kind, data: JSON.parse(data) } : null;
}
