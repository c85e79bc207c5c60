// Numbers as they are shown. What is not a number is a dash, never 0.

const DASH = "–";
const MINUS = "\u2212";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function fixed(value, digits = 3) {
  if (!isNumber(value)) return DASH;
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

export const signed = (value, digits = 3) =>
  isNumber(value) && value > 0 ? `+${fixed(value, digits)}` : fixed(value, digits);

export const percent = (share, digits = 1) =>
  isNumber(share) ? `${(share * 100).toFixed(digits)} %` : DASH;

/** Three figures with a unit: 1.25 ms, 340 ms, 2.1 s. */
export function seconds(value) {
  if (!isNumber(value)) return DASH;
  return value < 1 ? `${figures(value * 1000)} ms` : `${figures(value)} s`;
}

/** Three figures, thousands as k, millions as M. */
export function figures(value) {
  if (!isNumber(value)) return DASH;
  const size = Math.abs(value);
  if (size >= 999_500) return `${short(value / 1e6)} M`;
  if (size >= 9_995) return `${short(value / 1e3)} k`;
  return short(value);
}

function short(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.01 ? 2 : 4;
  return String(Number(value.toFixed(digits))).replace("-", MINUS);
}

export const shortRevision = (revision) => revision.slice(0, "sha256:".length + 12);
