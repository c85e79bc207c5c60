// The form, what it asks, and where the answer goes.
import { hasKey, keepKey, models, score } from "./ask.js";
import { byId, el } from "./element.js";
import { shortRevision } from "./numbers.js";
import * as snippets from "./snippets.js";
import { clear, showAnswer, showProblem } from "./verdict.js";

const GROUPS = [
  ["Ensembles", (model) => model.kind === "ensemble"],
  ["Objectives", (model) => model.kind === "objectives"],
  ["Models", (model) => !["ensemble", "objectives"].includes(model.kind)],
];
const WEIGHT = { type: "number", min: 0, step: "any", required: true };
let loaded = [];
let running = null;

const chosen = () => loaded[Number(byId("model").value)];

/** What the form asks: a route and a body. */
function request() {
  const prompt = byId("prompt").value;
  const items = ["a", "b"].map((side) => ({ prompt, response: byId(`response-${side}`).value }));
  const judge = chosen();
  const truncation = byId("truncation").value;
  const cut = truncation === "error" ? {} : { truncation };
  if (judge.kind === "ensemble") {
    return { route: "/ensemble_score", body: { ensemble: judge.name, items, ...cut, ...penalty() } };
  }
  const weights = judge.kind === "objectives" ? { weights: ownWeights() } : {};
  return { route: "/score", body: { model: judge.name, items, ...cut, ...weights } };
}

function penalty() {
  const aggregate = byId("aggregate").value;
  const coefficient = byId("coefficient").value;
  return {
    ...(aggregate && { aggregate }),
    ...(coefficient !== "" && { coefficient: Number(coefficient) }),
  };
}

const ownWeights = () =>
  Object.fromEntries(
    [...byId("weights").querySelectorAll("input")].map((one) => [one.name, Number(one.value)]),
  );

async function load() {
  try {
    loaded = await models();
  } catch (problem) {
    if (problem.status === 401) askForKey();
    else showProblem(problem);
    return;
  }
  byId("key-panel").hidden = true;
  byId("model").replaceChildren(...GROUPS.map(optionsOf).filter((group) => group.children.length));
  byId("model").disabled = byId("score").disabled = false;
  chose();
}

function optionsOf([label, belongs]) {
  const options = loaded
    .map((model, place) => [model, place])
    .filter(([model]) => belongs(model))
    .map(([model, place]) => el("option", { value: place }, model.name));
  return el("optgroup", { label }, ...options);
}

function askForKey() {
  byId("key-wrong").textContent = hasKey() ? "The server does not accept this key." : "";
  byId("key-panel").hidden = false;
  byId("key").focus();
}

function chose() {
  const judge = chosen();
  const of = judge.members.length ? ` of ${judge.members.join(", ")}` : "";
  const centre = judge.centre ? ` around ${judge.centre}` : "";
  byId("about").replaceChildren(
    `${judge.kind}${of}${centre}; up to ${judge.max_tokens} tokens, ${judge.dtype}`,
    el("br"),
    el("code", { title: judge.revision }, shortRevision(judge.revision)),
  );
  byId("of-ensemble").hidden = judge.kind !== "ensemble";
  byId("coefficient").disabled = judge.kind !== "ensemble"; // what is hidden is not checked
  // A centre takes the place of the mean; these two would not read it and are refused.
  for (const name of ["median", "wco"]) {
    const option = byId("aggregate").querySelector(`[value=${name}]`);
    option.disabled = Boolean(judge.centre);
    if (option.disabled && option.selected) byId("aggregate").value = "";
  }
  byId("weights").hidden = judge.kind !== "objectives";
  byId("weights").replaceChildren(el("legend", {}, "Weights"), ...weightFields(judge));
  changed();
}

const weightFields = (judge) =>
  Object.entries(judge.weights ?? {}).map(([name, weight]) =>
    el("label", {}, name, el("input", { ...WEIGHT, name, value: weight })),
  );

function changed() {
  if (loaded.length === 0) return;
  const language = document.querySelector("[name=language]:checked").value;
  byId("snippet").textContent = snippets[language](location.origin, request(), hasKey());
  byId("copied").textContent = "";
  if (!byId("verdict").hidden) byId("status").textContent = "Changed since it was scored.";
}

async function submit() {
  if (loaded.length === 0 || !byId("form").reportValidity()) return;
  running?.abort();
  const mine = (running = new AbortController());
  byId("status").textContent = "Scoring …";
  byId("score").setAttribute("aria-busy", "true");
  try {
    const { route, body } = request();
    const { answer, seconds } = await score(route, body, mine.signal);
    showAnswer(answer, seconds);
    byId("status").textContent = "";
  } catch (problem) {
    if (mine.signal.aborted) return;
    byId("status").textContent = "";
    showProblem(problem);
    if (problem.status === 401) askForKey();
  }
  if (mine === running) byId("score").removeAttribute("aria-busy");
}

async function copy() {
  const text = byId("snippet").textContent;
  try {
    await navigator.clipboard.writeText(text);
    byId("copied").textContent = "Copied.";
  } catch {
    // A browser gives its clipboard to pages of https and loopback only.
    getSelection().selectAllChildren(byId("snippet"));
    byId("copied").textContent = "Selected: press Ctrl+C.";
  }
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  if (event.target.closest("#key-form")) return; // which has an answer of its own
  event.preventDefault();
  submit();
});
byId("form").addEventListener("input", changed);
byId("model").addEventListener("change", () => {
  clear();
  chose();
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(byId("key").value.trim());
  byId("key").value = "";
  clear();
  load();
});
document.querySelector(".choices").addEventListener("change", changed);
byId("copy").addEventListener("click", copy);
load();
