// Elements. Whatever comes from outside becomes text, here and nowhere else: there is no way to markup in these files.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, `text`, and handlers such as `onclick`; children may be elements or text. */
export function h(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Likewise, of SVG. */
export function s(tag, given = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(given)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Text, written only if it is another: what did not change is not laid out again, and not read out again. */
export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : value);
}

/** Show `items` as the children of `parent`: a node stays with its key, and with it focus and what was typed. */
export function list(parent, items, keyOf, make, update) {
  const held = parent.heldNodes ?? (parent.heldNodes = new Map());
  const wanted = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, node] of held) {
    if (!wanted.has(key)) {
      node.remove();
      held.delete(key);
    }
  }
  let place = parent.firstChild;
  for (const [key, item] of wanted) {
    let node = held.get(key);
    if (!node) {
      node = make(item);
      held.set(key, node);
    }
    update(node, item);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
}

/** The first `most` of what is found; `node` says how many more there are, and how they are found. */
export function firstOf(found, most, node, how) {
  const more = found.length - most;
  node.hidden = more <= 0;
  if (more > 0) setText(node, `and ${more.toLocaleString("en")} more: ${how}`);
  return found.slice(0, most);
}

/** A mark that says by its shape what its colour says, too, with its word beside it. */
export function state(node, glyph, word, level) {
  setAttribute(node, "class", `state ${level}`);
  if (!node.firstChild) node.append(h("span", { class: "glyph", "aria-hidden": "true" }), h("span", { class: "words" }));
  setText(node.firstChild, glyph);
  setText(node.lastChild, word);
}
