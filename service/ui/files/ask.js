// Requests to the service this page came from. A key stays in this tab's session storage.

const KEY = "plaudit-key";

export const key = () => sessionStorage.getItem(KEY) ?? "";
export const hasKey = () => key() !== "";

export function keepKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/** A refusal in the words of problem+json. */
export class Problem extends Error {
  constructor({ title, detail, remedy, status, instance }) {
    super(detail);
    Object.assign(this, { title, detail, remedy, status, instance });
  }
}

export const models = async () => (await ask("GET", "/models")).models;

/** The answer, and the seconds from the first byte sent to the last one read. */
export async function score(route, body, signal) {
  const began = performance.now();
  const answer = await ask("POST", route, JSON.stringify(body), signal);
  return { answer, seconds: (performance.now() - began) / 1000 };
}

async function ask(method, path, body, signal) {
  const headers = hasKey() ? { authorization: `Bearer ${key()}` } : {};
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      title: "No answer",
      detail: `${location.origin} does not answer.`,
      remedy: "see whether the server still runs, then try again",
    });
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw new Problem(answer ?? strange(response));
}

// What stands between the page and the service may answer in its own words.
const strange = (response) => ({
  title: "An answer that is not the service's",
  detail: `${response.status} ${response.statusText}, without JSON.`,
  remedy: "look at what stands between this page and the server",
  status: response.status,
});
