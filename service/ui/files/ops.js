// Reads /metrics every two seconds, keeps some minutes of it, and draws.
import { byId, el } from "./element.js";
import { parse } from "./exposition.js";
import { charts, models, scores, stages, state, tiles } from "./panels.js";
import { Scrape, Span } from "./scrapes.js";

const EVERY_MS = 2000;
const WAIT_MS = 10_000;
const KEPT_SECONDS = 310;
let scrapes = [];
let loaded = [];
let timer = null;

async function read() {
  const [metrics, listed] = await Promise.all([get("/metrics"), get("/ops/models")]);
  scrapes.push(new Scrape(parse(await metrics.text()), Date.now() / 1000));
  scrapes = scrapes.filter(({ at }) => at > scrapes.at(-1).at - KEPT_SECONDS);
  loaded = (await listed.json()).models;
}

async function get(path) {
  const signal = AbortSignal.timeout(WAIT_MS);
  const response = await fetch(path, { credentials: "omit", signal }).catch((error) => {
    throw new Error(lost(error)); // the browser's own words differ, and say less
  });
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return response;
}

const lost = (error) =>
  error.name === "TimeoutError"
    ? `${location.origin} took the request and did not answer within ${WAIT_MS / 1000} s`
    : `Nothing answers at ${location.origin}: the server, or what leads to it, is gone`;

/** From the oldest scrape within the chosen time, or from the start of the process. */
function span() {
  const later = scrapes.at(-1);
  const chosen = byId("span").value;
  if (chosen === "all" || scrapes.length === 1) return new Span(later, null);
  return new Span(later, scrapes.find(({ at }) => at >= later.at - Number(chosen) - 1));
}

function draw() {
  const now = span();
  const { text, kind } = state(now.later);
  byId("state").textContent = text;
  byId("state").className = `mark ${kind}`;
  byId("read").textContent = `Read at ${new Date(now.later.at * 1000).toLocaleTimeString()}, over ${
    now.earlier ? `${Math.round(now.seconds)} s` : "all since the start"
  }.`;
  byId("tiles").replaceChildren(...tiles(now));
  byId("charts").replaceChildren(...charts(scrapes));
  byId("models").replaceChildren(models(now, loaded));
  byId("scores").replaceChildren(...scores(now));
  byId("stages").replaceChildren(stages(now));
}

/** Nothing of the last reading may pass for the present. */
function mourn(error) {
  const since = scrapes.length ? scrapes.at(-1).at * 1000 : performance.timeOrigin;
  byId("state").textContent = `no answer since ${new Date(since).toLocaleTimeString()}`;
  byId("state").className = "mark wrong";
  const below = scrapes.length ? " What is below is of the last reading." : "";
  byId("problem").replaceChildren(
    el("h2", {}, "No answer"),
    el("p", {}, `${error.message}.${below} The next try follows.`),
  );
  byId("problem").hidden = false;
}

async function turn() {
  try {
    await read();
    byId("problem").hidden = true;
    draw();
  } catch (error) {
    mourn(error);
  }
  if (timer === null) return;
  clearTimeout(timer); // of a turn that a quick pause and resume began beside this one
  timer = setTimeout(turn, EVERY_MS);
}

byId("pause").addEventListener("click", () => {
  const paused = timer !== null;
  clearTimeout(timer);
  timer = paused ? null : setTimeout(turn, 0);
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("pause").textContent = paused ? "Resume" : "Pause";
});
byId("span").addEventListener("change", draw);
timer = setTimeout(turn, 0);
