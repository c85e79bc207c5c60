// What the page says of the service: one function a part, of a span of time.
import { histogram, lines } from "./charts.js";
import { el, fact } from "./element.js";
import { figures, fixed, percent, seconds, shortRevision } from "./numbers.js";
import { Span } from "./scrapes.js";

const LATENCY = "plaudit_http_request_duration_seconds";
const SCORING = new Set([
  "/score", "/ensemble_score", "/classify", "/pooling", "/rerank", "/v1/rerank", "/v2/rerank",
  "/predict", "/encode", "/v1/embeddings", "/get_reward", "/slime", "/v2/models/{model}/infer",
]);
const scoring = ({ route }) => SCORING.has(route);
const real = ({ kind }) => kind === "real";

export function state(scrape) {
  if (scrape.value("plaudit_ready") === 0) return { text: "not ready", kind: "wrong" };
  const version = scrape.labels("plaudit_build_info", "version").join(", ");
  return { text: `ready, version ${version}`, kind: "good" };
}

export function tiles(span) {
  const last = span.later;
  const hits = cacheHits(span);
  return [
    tile("requests", `${figures(span.rate("plaudit_http_requests_total", scoring))} / s`, "requests"),
    tile("rewards", `${figures(span.rate("plaudit_rewards_total"))} / s`, "rewards"),
    tile("tokens", `${figures(span.rate("plaudit_tokens_total", real))} / s`, "tokens"),
    tile("latency, median", seconds(span.quantile(0.5, LATENCY, scoring)), "p50"),
    tile("latency, 95 %", seconds(span.quantile(0.95, LATENCY, scoring)), "p95"),
    tile("latency, 99 %", seconds(span.quantile(0.99, LATENCY, scoring)), "p99"),
    tile("failed requests", percent(failedShare(span)), "failed"),
    tile("from the cache", percent(hits), "hits"),
    tile("batch fill, mean", percent(span.mean("plaudit_batch_fill_ratio")), "fill"),
    tile("items waiting", figures(last.value("plaudit_queue_items")), "queue"),
    tile("oldest waiting", seconds(last.value("plaudit_queue_oldest_age_seconds")), "oldest"),
    tile("engine busy", percent(last.value("plaudit_worker_busy_ratio")), "busy"),
  ];
}

function tile(term, value, name) {
  const made = fact(term, value, name);
  made.className = "panel";
  return made;
}

const serverFault = (labels) => scoring(labels) && labels.code.startsWith("5");

function failedShare(span) {
  const all = span.grew("plaudit_http_requests_total", scoring);
  return all ? span.grew("plaudit_http_requests_total", serverFault) / all : null;
}

/** Of what was looked up in memory, what either tier had. */
function cacheHits(span) {
  const asked = span.grew("plaudit_cache_lookups_total", ({ tier }) => tier === "l1");
  return asked ? span.grew("plaudit_cache_lookups_total", ({ result }) => result === "hit") / asked : null;
}

const STEPS_SECONDS = 10; // a point of a chart is over the ten seconds before it

export function charts(scrapes) {
  const spans = scrapes.slice(1).map((later, place) => {
    const earlier = scrapes.slice(0, place + 1).find(({ at }) => at >= later.at - STEPS_SECONDS);
    return new Span(later, earlier);
  });
  const over = (read) => spans.map(read);
  const latency = (q) => over((span) => span.quantile(q, LATENCY, scoring));
  return [
    lines("Latency", { "50 %": latency(0.5), "95 %": latency(0.95), "99 %": latency(0.99) }, seconds),
    lines("Requests and rewards a second", {
      requests: over((span) => span.rate("plaudit_http_requests_total", scoring)),
      rewards: over((span) => span.rate("plaudit_rewards_total")),
    }, figures),
    lines("Tokens a second", { tokens: over((span) => span.rate("plaudit_tokens_total", real)) }, figures),
    lines("Items waiting", { items: over((span) => span.later.value("plaudit_queue_items")) }, figures),
    lines("Batch fill and cache hits", {
      fill: over((span) => span.mean("plaudit_batch_fill_ratio")),
      hits: over(cacheHits),
    }, percent),
    lines("Engine busy", { busy: over((span) => span.later.value("plaudit_worker_busy_ratio")) }, percent),
  ];
}

export function models(span, loaded) {
  const head = ["name", "kind", "revision", "limit", "rewards / s", "state", "canary", "drift"];
  return table(head, loaded.map((model) => modelRow(span, model)));
}

function modelRow(span, model) {
  const last = span.later;
  const single = model.members.length === 0;
  const up = last.value("plaudit_member_up", { model: model.name });
  return [
    model.name,
    single ? `${model.kind}, ${model.dtype}` : `${model.kind} of ${model.members.length}`,
    el("code", { title: model.revision }, shortRevision(model.revision)),
    `${model.max_tokens}`,
    figures(span.rate("plaudit_rewards_total", (labels) => labels.model === model.name)),
    up === 0 ? el("span", { class: "mark wrong" }, "down") : el("span", { class: "mark good" }, "loaded"),
    single ? canary(last, model.name) : "–",
    single ? drift(last, model.name) : "–",
  ];
}

/** Whether the checkpoint's probes still get their stored scores, and when that was last tried. */
function canary(scrape, model) {
  const moved = scrape.value("plaudit_canary_score_drift", { model });
  const age = scrape.value("plaudit_canary_age_seconds", { model });
  if (moved === null) return "–";
  const held = Math.abs(moved) <= scrape.value("plaudit_canary_score_tolerance", { model });
  const kind = held ? "mark good" : "mark wrong";
  const word = held ? "as stored" : `off by ${fixed(moved)}`;
  return el("span", { class: kind, title: `difference ${moved}` }, `${word}, ${seconds(age)} ago`);
}

/** Population stability of the scores; the usual bands are 0.1 and 0.25. */
function drift(scrape, model) {
  const values = ["15m", "24h"].map((window) => scrape.value("plaudit_score_psi", { model, window }));
  const known = values.filter((value) => value !== null && !Number.isNaN(value));
  if (known.length === 0) return "–";
  const worst = Math.max(...known);
  const [word, kind] =
    worst < 0.1 ? ["steady", "good"] : worst < 0.25 ? ["moving", "warn"] : ["shifted", "wrong"];
  const psi = values.map((value) => fixed(value, 2)).join(" / ");
  return el("span", { class: `mark ${kind}`, title: "PSI over 15 minutes / 24 hours" }, `${word} ${psi}`);
}

export const scores = (span) =>
  span.later.labels("plaudit_score_bucket", "model").map((name) => {
    const own = ({ model }) => model === name;
    const buckets = span.buckets("plaudit_score", own);
    const mean = span.later.value("plaudit_score_mean", { model: name });
    const reference = span.later.value("plaudit_score_reference_mean", { model: name });
    const beside = reference === null ? "" : `, reference ${fixed(reference, 2)}`;
    return histogram(name, buckets, `mean ${fixed(mean, 2)}${beside}`);
  });

const ORDER = ["decode", "tokenize", "cache_get", "admit", "queue", "compute", "cache_set", "encode"];

export function stages(span) {
  const name = "plaudit_stage_duration_seconds";
  const found = span.later.labels(`${name}_count`, "stage");
  const sorted = found.sort((one, other) => ORDER.indexOf(one) - ORDER.indexOf(other));
  return table(["stage", "a second", "mean", "95 %", "99 %"], sorted.map((stage) => {
    const own = (labels) => labels.stage === stage;
    return [
      stage,
      figures(span.rate(`${name}_count`, own)),
      seconds(span.mean(name, own)),
      seconds(span.quantile(0.95, name, own)),
      seconds(span.quantile(0.99, name, own)),
    ];
  }));
}

const table = (head, rows) =>
  el(
    "table",
    {},
    el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, ...rows.map(row)),
  );

const row = ([first, ...rest]) =>
  el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((cell) => el("td", {}, cell)));
