// Elements. Text becomes text nodes and nothing else: names come from agents.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (null: left out) and children (strings, nodes; null: left out). */
export function el(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function byId(id) {
  return document.getElementById(id);
}

const shown = new Map();

/** Replace what a place holds, but only when `data` is other than last time: focus and titles under a pointer stay. */
export function show(id, data, draw) {
  const text = JSON.stringify(data);
  if (shown.get(id) === text) return;
  shown.set(id, text);
  byId(id).replaceChildren(...[draw()].flat());
}
