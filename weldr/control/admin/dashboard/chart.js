// Small graphs. Each says in words what it shows, too.

import { h, s, setAttribute } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 26;

function path(points) {
  let text = "";
  let pen = false;
  for (const point of points) {
    if (point === null) pen = false;
    else {
      // A point by itself is a dot, by the line's round ends.
      text += `${pen ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}${pen ? "" : "h0"}`;
      pen = true;
    }
  }
  return text;
}

function graph(kind, ...parts) {
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: `graph ${kind}`, role: "img" }, ...parts);
  svg.parts = parts;
  return svg;
}

const line = (name) => s("path", { class: name, fill: "none", "vector-effect": "non-scaling-stroke" });

/** Requests as an area, errors as bars at its foot. */
export function trafficGraph() {
  return graph("traffic", s("path", { class: "area" }), line("requests"), s("path", { class: "errors" }));
}

/** The median as a thin line, the 99th percentile as a dotted one. */
export function latencyGraph() {
  return graph("latency", line("p99"), line("p50"));
}

const x = (index, length) => (length < 2 ? WIDTH : (index * WIDTH) / (length - 1));

export function drawTraffic(svg, past, words) {
  const most = Math.max(1e-9, ...past.map((slot) => slot?.[0] ?? 0));
  const y = (value) => HEIGHT - 1.5 - (value / most) * (HEIGHT - 4);
  const points = past.map((slot, index) => slot && [x(index, past.length), y(slot[0])]);
  const [area, requests, errors] = svg.parts;
  const known = points.filter(Boolean);
  const quiet = !past.some((slot) => slot?.[0]);
  setAttribute(requests, "d", path(points));
  setAttribute(area, "d", known.length > 1 && !quiet ? `${path(known)}L${known.at(-1)[0].toFixed(1)} ${HEIGHT}L${known[0][0].toFixed(1)} ${HEIGHT}Z` : "M0 0");
  const step = WIDTH / past.length;
  let bars = "";
  past.forEach((slot, index) => {
    if (!slot?.[1]) return;
    const height = Math.max(2.5, (slot[1] / most) * (HEIGHT - 4));
    bars += `M${(x(index, past.length) - step / 2).toFixed(1)} ${HEIGHT}v${(-height).toFixed(1)}h${(step * 0.8).toFixed(1)}V${HEIGHT}Z`;
  });
  setAttribute(errors, "d", bars || "M0 0");
  setAttribute(svg, "aria-label", words);
}

/** By a logarithmic scale of its own: a tail ten times the median is not to flatten the median. */
export function drawLatency(svg, past, words) {
  const values = past.flatMap((slot) => (slot?.[2] ? [slot[2], slot[3]] : []));
  const low = Math.log(Math.max(1e-6, Math.min(...values, Infinity)));
  const high = Math.log(Math.max(...values, 1e-6));
  const span = Math.max(high - low, 0.7);
  const y = (value) => HEIGHT - 3 - ((Math.log(value) - low) / span) * (HEIGHT - 6);
  const points = (index) => past.map((slot, place) => (slot?.[2] ? [x(place, past.length), y(slot[index])] : null));
  const [p99, p50] = svg.parts;
  setAttribute(p99, "d", values.length ? path(points(3)) : "M0 0");
  setAttribute(p50, "d", values.length ? path(points(2)) : "M0 0");
  setAttribute(svg, "aria-label", words);
}

/** How much of a lease is left. */
export function meter() {
  const fill = h("span", { class: "fill" });
  const node = h("span", { class: "meter", "aria-hidden": "true" }, fill);
  node.fillPart = fill;
  return node;
}

export function drawMeter(node, part) {
  node.fillPart.style.inlineSize = `${Math.round(100 * Math.min(1, Math.max(0, part)))}%`;
}
