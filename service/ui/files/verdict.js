// An answer of the service, or its refusal, as the page shows it.
import { byId, el, fact, svg } from "./element.js";
import { fixed, percent, seconds as inSeconds, signed } from "./numbers.js";

const SIDES = ["a", "b"];

export function clear() {
  for (const id of ["problem", "verdict"]) {
    byId(id).hidden = true;
    byId(id).replaceChildren();
  }
  for (const side of SIDES) byId(`result-${side}`).replaceChildren();
}

export function showProblem({ title, detail, remedy, instance }) {
  clear();
  byId("problem").append(
    el("h2", {}, title ?? "The page failed"),
    el("p", {}, detail ?? ""),
    remedy ? el("p", {}, el("strong", {}, "What mends it: "), remedy) : null,
    instance ? el("p", { class: "note" }, `request ${instance}`) : null,
  );
  byId("problem").hidden = false;
}

export function showAnswer(answer, seconds) {
  clear();
  SIDES.forEach((side, place) => byId(`result-${side}`).append(...result(answer, place)));
  byId("verdict").append(headline(answer), summary(answer, seconds), members(answer));
  byId("verdict").hidden = false;
}

function result(answer, place) {
  const item = answer.items[place];
  if (item.error) {
    return [
      el("p", { class: "wrong" }, el("strong", {}, item.error.type), `: ${item.error.detail}`),
    ];
  }
  return [
    el("p", { class: "reward" }, el("span", { "data-fact": "reward" }, fixed(item.reward)), " reward"),
    el("dl", { class: "facts" }, ...facts(answer, item, place)),
    marks(item),
  ];
}

function* facts(answer, item, place) {
  if (item.score !== undefined) yield fact("score", fixed(item.score));
  if (answer.mean) yield fact("mean", fixed(answer.mean[place]));
  if (answer.variance) yield fact("disagreement", fixed(spread(answer, place)));
  yield fact("tokens", String(item.tokens));
}

/** Standard deviation of the members' rewards; null of a single member. */
const spread = ({ variance }, place) =>
  variance[place] == null ? null : Math.sqrt(variance[place]);

function marks(item) {
  const failed = Object.entries(item.failed ?? {});
  return el(
    "p",
    { class: "marks" },
    el("span", { class: "mark" }, item.cached ? "cached" : "computed"),
    item.truncated ? el("span", { class: "mark warn" }, `${item.truncated} tokens cut`) : null,
    ...failed.map(([name, error]) =>
      el("span", { class: "mark warn" }, `without ${name}: ${error.detail}`),
    ),
  );
}

function headline(answer) {
  const [a, b] = answer.rewards;
  if (a == null || b == null) return el("h2", {}, "No verdict: a response has no reward");
  if (a === b) return el("h2", {}, "Equal rewards");
  const winner = a > b ? "A" : "B";
  return el(
    "h2",
    {},
    el("span", { class: `chip ${winner.toLowerCase()}`, "aria-hidden": "true" }, winner),
    `Response ${winner} is preferred`,
  );
}

function summary(answer, seconds) {
  const [a, b] = answer.rewards;
  const margin = a == null || b == null ? null : a - b;
  const chance = winChance(answer);
  const cached = answer.items.filter((item) => item.cached).length;
  return el(
    "div",
    { class: "panel summary" },
    chance === null ? null : chanceBar(chance),
    el(
      "dl",
      { class: "facts wide" },
      fact("margin, A − B", signed(margin), "margin"),
      chance === null ? null : fact("Bradley–Terry, A wins", percent(chance), "chance"),
      answer.aggregate ? fact("aggregate", howAggregated(answer), "aggregate") : null,
      fact("round trip", inSeconds(seconds), "latency"),
      fact("tokens computed", String(answer.usage.computed_tokens), "computed"),
      fact("from the cache", `${cached} of ${answer.items.length}`, "cached"),
    ),
  );
}

const PENALISED = ["lcb", "uwo"];
const howAggregated = ({ aggregate, coefficient }) =>
  PENALISED.includes(aggregate) ? `${aggregate}, k = ${coefficient}` : aggregate;

/** By raw scores, which is what the loss compares; of an ensemble the mean over its members. */
function winChance(answer) {
  const chances = scoreRows(answer)
    .filter((row) => row.votes)
    .map(chanceOf)
    .filter((chance) => chance !== null);
  return chances.length ? chances.reduce((sum, one) => sum + one, 0) / chances.length : null;
}

const chanceOf = ({ a, b }) => (a == null || b == null ? null : 1 / (1 + Math.exp(b - a)));

function scoreRows(answer) {
  const [first, second] = answer.items;
  if (answer.members) {
    const score = (place, member) => answer.member_scores[place]?.[member];
    const rows = answer.members.map(({ name }, member) => ({
      name, a: score(0, member), b: score(1, member), votes: true,
    }));
    const { name, scores } = answer.centre ?? {};
    return name ? [...rows, { name: `${name} (centre)`, a: scores[0], b: scores[1] }] : rows;
  }
  if (answer.weights) {
    return Object.entries(answer.weights).map(([name, weight]) => ({
      name: `${name} × ${weight}`, a: first.objectives?.[name], b: second.objectives?.[name],
    }));
  }
  return [{ name: answer.model, a: first.score, b: second.score, votes: true }];
}

function chanceBar(chance) {
  const label = `Response A wins with ${percent(chance)}, response B with ${percent(1 - chance)}`;
  const at = chance * 100;
  const part = (side, x, width) => svg("rect", { class: side, x, width, height: 10 });
  return el(
    "div",
    { class: "chance" },
    el("span", { class: "a" }, percent(chance)),
    svg(
      "svg",
      { viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": label },
      part("a", 0, Math.max(at - 0.2, 0)),
      part("b", Math.min(at + 0.2, 100), Math.max(100 - at - 0.2, 0)),
    ),
    el("span", { class: "b" }, percent(1 - chance)),
  );
}

function members(answer) {
  const rows = scoreRows(answer);
  const what = answer.weights ? "Rewards by objective" : "Raw scores by model";
  const widest = Math.max(...rows.flatMap(({ a, b }) => [a, b]).map((one) => Math.abs(one ?? 0)), 1e-9);
  const head = ["model", "", "A", "B", "A − B", ...(answer.weights ? [] : ["A wins"])];
  return el(
    "div",
    { class: "panel scroll", tabindex: 0, role: "region", "aria-label": what },
    el(
      "table",
      { id: "members" },
      el("caption", {}, what, agreement(rows)),
      el("thead", {}, el("tr", {}, ...head.map(headCell))),
      el("tbody", {}, ...rows.map((row) => memberRow(row, widest, !answer.weights))),
    ),
  );
}

const headCell = (text) =>
  text ? el("th", { scope: "col", class: text === "model" ? null : "number" }, text) : el("td");

function agreement(rows) {
  const votes = rows.filter(({ a, b, votes }) => votes && a != null && b != null);
  if (votes.length < 2) return null;
  const forA = votes.filter(({ a, b }) => a > b).length;
  return el("span", { class: "note" }, `${forA} of ${votes.length} members prefer A`);
}

const memberRow = (row, widest, withChance) =>
  el(
    "tr",
    {},
    el("th", { scope: "row" }, row.name),
    el("td", { class: "bars" }, bars(row, widest)),
    el("td", { class: "number" }, fixed(row.a)),
    el("td", { class: "number" }, fixed(row.b)),
    el("td", { class: "number" }, signed(row.a == null || row.b == null ? null : row.a - row.b)),
    withChance ? el("td", { class: "number" }, percent(chanceOf(row))) : null,
  );

/** Two bars from a common zero in the middle; the numbers stand beside them. */
function bars({ a, b }, widest) {
  const bar = (side, value, y) => {
    const width = (Math.abs(value ?? 0) / widest) * 48;
    return svg("rect", { class: side, x: value < 0 ? 50 - width : 50, y, width, height: 8, rx: 0.6 });
  };
  return svg(
    "svg",
    { viewBox: "0 0 100 22", preserveAspectRatio: "none", "aria-hidden": "true" },
    bar("a", a, 2),
    bar("b", b, 12),
    svg("path", { class: "zero", d: "M50 0V22" }),
  );
}
