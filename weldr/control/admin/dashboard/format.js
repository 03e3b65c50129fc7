// Numbers and times as people read them.

/** A rate: three figures, and none that say nothing. */
export function rate(value) {
  if (value === undefined || value === null) return "–";
  if (value === 0) return "0";
  if (value < 0.1) return "<0.1";
  if (value < 10) return value.toFixed(1);
  if (value < 10_000) return Math.round(value).toLocaleString("en");
  return `${(value / 1000).toFixed(value < 100_000 ? 1 : 0)}k`;
}

export function count(value) {
  return value === undefined || value === null ? "–" : value.toLocaleString("en");
}

/** A latency, given in seconds. */
export function latency(seconds) {
  if (seconds === undefined || seconds === null) return "–";
  const milliseconds = seconds * 1000;
  if (milliseconds < 1) return `${Math.max(1, Math.round(milliseconds * 1000))} µs`;
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

export function share(part, whole) {
  if (!whole || !part) return "";
  const percent = (100 * part) / whole;
  return percent < 0.1 ? "<0.1%" : `${percent.toFixed(percent < 10 ? 1 : 0)}%`;
}

/** How long ago, given in milliseconds. */
export function ago(elapsed) {
  const seconds = Math.max(0, Math.round(elapsed / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}

export function clock(date) {
  return date.toTimeString().slice(0, 8);
}

export function compact(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 160 ? `${text.slice(0, 157)}…` : text;
}

export function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many ?? `${one}s`}`;
}
