// Elements are built, never parsed: whatever a caller wrote or a model is named stays text.

export const byId = (id) => document.getElementById(id);

/** An HTML element; attributes that are false, null or undefined are left out. */
export const el = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** The same of SVG. */
export const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** A row of a list of terms. */
export const fact = (term, value, name) =>
  el("div", {}, el("dt", {}, term), el("dd", { "data-fact": name ?? term }, value));
