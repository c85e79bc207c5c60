// Prometheus' text format 0.0.4, as /metrics gives it.

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { "\\\\": "\\", '\\"': '"', "\\n": "\n" };

/** A Map from a sample's name to its series: objects of labels and value. */
export function parse(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [, name, labels, value] = SAMPLE.exec(line) ?? [];
    if (name === undefined) continue; // a comment, or nothing
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ labels: labelsOf(labels ?? ""), value: number(value) });
  }
  return found;
}

const labelsOf = (text) =>
  Object.fromEntries([...text.matchAll(LABEL)].map(([, name, value]) => [name, unescape(value)]));

const unescape = (value) => value.replace(/\\[\\"n]/g, (escaped) => ESCAPES[escaped]);

export const number = (text) =>
  text.endsWith("Inf") ? (text.startsWith("-") ? -Infinity : Infinity) : Number(text);
