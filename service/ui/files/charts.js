// Small drawings: lines over the last minutes, and the shape of a histogram.
import { el, svg } from "./element.js";
import { figures } from "./numbers.js";

const WIDTH = 320;
const HEIGHT = 84;
const CLASSES = ["a", "b", "c"];

/** Lines over time. ``lines``: name to values, oldest first, null where there is none. */
export function lines(title, byName, show) {
  const names = Object.keys(byName);
  const values = names.flatMap((name) => byName[name]).filter((value) => value !== null);
  const top = Math.max(...values, 0);
  const last = names.map((name) => `${name} ${show(byName[name].at(-1))}`);
  return el(
    "figure",
    { class: "panel" },
    el("figcaption", {}, title, key(names, byName, show)),
    drawing(
      `${title}: ${last.join(", ")}`,
      svg("path", { class: "rule", d: `M0 1H${WIDTH}M0 ${HEIGHT}H${WIDTH}` }),
      ...names.map((name, place) =>
        svg("path", { class: `line ${CLASSES[place]}`, d: path(byName[name], top) }),
      ),
    ),
    el("p", { class: "note axis" }, values.length ? `0 to ${show(top)}` : "no traffic"),
  );
}

const key = (names, byName, show) =>
  el(
    "span",
    { class: "key" },
    ...names.map((name, place) =>
      el("span", { class: CLASSES[place] }, `${name} `, el("b", {}, show(byName[name].at(-1)))),
    ),
  );

const drawing = (label, ...children) =>
  svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    ...children,
  );

function path(values, top) {
  const step = WIDTH / Math.max(values.length - 1, 1);
  let pen = "M";
  return values
    .map((value, place) => {
      if (value === null) {
        pen = "M"; // a gap
        return "";
      }
      const y = HEIGHT - 2 - (top ? (value / top) * (HEIGHT - 8) : 0);
      const point = `${pen}${(place * step).toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
      return point;
    })
    .join("");
}

function range(buckets, place) {
  const [from, to] = [buckets[place - 1]?.edge, buckets[place].edge];
  if (from === undefined) return `≤ ${figures(to)}`;
  return to === Infinity ? `> ${figures(from)}` : `${figures(from)} to ${figures(to)}`;
}

/** The shape of a histogram's cumulative ``buckets``; the two ends hold all beyond them. */
export function histogram(title, buckets, note) {
  const counts = buckets.map(({ count }, place) => count - (buckets[place - 1]?.count ?? 0));
  const tallest = Math.max(...counts, 1);
  const width = WIDTH / counts.length;
  const total = buckets.at(-1)?.count ?? 0;
  const bars = counts.map((count, place) => {
    const height = (count / tallest) * (HEIGHT - 4);
    const bar = { class: "a", x: place * width + 1, y: HEIGHT - height, width: width - 2, height };
    return svg("rect", bar, svg("title", {}, `${range(buckets, place)}: ${figures(count)}`));
  });
  return el(
    "figure",
    { class: "panel" },
    el("figcaption", {}, title, el("span", { class: "note" }, `${figures(total)} scores, ${note}`)),
    drawing(`${title}: ${figures(total)} scores, ${note}`, ...bars),
    el(
      "p",
      { class: "note axis ends" },
      el("span", {}, `≤ ${figures(buckets[0]?.edge)}`),
      el("span", {}, `> ${figures(buckets.at(-2)?.edge)}`),
    ),
  );
}
