// What two scrapes say of the time between them: rates, ratios, quantiles.
import { number } from "./exposition.js";

const all = () => true;
const START = "process_start_time_seconds";

/** The time between two scrapes; without an earlier one, since the process began. */
export class Span {
  constructor(later, earlier) {
    this.later = later;
    this.earlier = earlier;
    const began = later.value(START);
    this.seconds = earlier ? later.at - earlier.at : later.at - began;
    // All that another process has counted was added since.
    this.known = earlier?.value(START) === began ? earlier : null;
    this.increases = new Map();
  }

  /** By how much a counter grew, over the series that ``keep`` lets through; null if unknown. */
  grew(name, keep = all) {
    if (!this.later.samples.has(name)) return null;
    if (!this.increases.has(name)) {
      this.increases.set(name, grown(this.known?.series(name) ?? [], this.later.series(name)));
    }
    const kept = this.increases.get(name).filter(({ labels }) => keep(labels));
    return kept.reduce((sum, { value }) => sum + value, 0);
  }

  rate(name, keep) {
    const grew = this.grew(name, keep);
    return grew === null || !(this.seconds > 0) ? null : grew / this.seconds;
  }

  /** Of a histogram: its mean, null where nothing was observed. */
  mean(name, keep) {
    const count = this.grew(`${name}_count`, keep);
    return count ? this.grew(`${name}_sum`, keep) / count : null;
  }

  quantile(q, name, keep) {
    return quantile(q, this.buckets(name, keep));
  }

  /** Of a histogram: upper edges, rising, each with how many observations are at or below it. */
  buckets(name, keep = all) {
    const series = this.later.series(`${name}_bucket`).filter(({ labels }) => keep(labels));
    const edges = new Set(series.map(({ labels }) => labels.le));
    return [...edges]
      .map((le) => ({
        edge: number(le),
        count: this.grew(`${name}_bucket`, (labels) => labels.le === le && keep(labels)),
      }))
      .sort((one, other) => one.edge - other.edge);
  }
}

/** One reading of /metrics, ``at`` seconds since 1970. */
export class Scrape {
  constructor(samples, at) {
    for (const series of samples.values()) {
      // By which to find it in another scrape.
      for (const one of series) one.key = JSON.stringify(one.labels);
    }
    this.samples = samples;
    this.at = at;
  }

  series(name) {
    return this.samples.get(name) ?? [];
  }

  value(name, wanted = {}) {
    const fits = ({ labels }) => Object.entries(wanted).every(([key, one]) => labels[key] === one);
    return this.series(name).find(fits)?.value ?? null;
  }

  labels(name, label) {
    return [...new Set(this.series(name).map(({ labels }) => labels[label]))].sort();
  }
}

/** By how much each series of a name grew. One that is new began at zero. So did one that is
    smaller, and all of a histogram that is or has lost a bucket: a swap begins a model's scores
    anew, between edges of their own. */
function grown(before, now) {
  const has = valuesOf(now);
  const smaller = before.filter(({ key, value }) => (has.get(key) ?? 0) < value);
  const begun = new Set(smaller.map(withoutEdge));
  const had = valuesOf(before.filter((one) => begun.size === 0 || !begun.has(withoutEdge(one))));
  return now.map(({ labels, key, value }) => ({ labels, value: value - (had.get(key) ?? 0) }));
}

const valuesOf = (series) => new Map(series.map(({ key, value }) => [key, value]));

const withoutEdge = ({ labels }) => JSON.stringify({ ...labels, le: null });

/** As Prometheus' histogram_quantile: linear within a bucket, the last edge beyond it. */
export function quantile(q, buckets) {
  const total = buckets.at(-1)?.count;
  if (!total) return null;
  const rank = q * total;
  const place = buckets.findIndex(({ count }) => count >= rank);
  const { edge, count } = buckets[place];
  if (edge === Infinity) return buckets.at(-2)?.edge ?? null;
  if (place === 0 && edge <= 0) return edge;
  const below = place === 0 ? { edge: 0, count: 0 } : buckets[place - 1];
  if (count === below.count) return edge;
  return below.edge + ((edge - below.edge) * (rank - below.count)) / (count - below.count);
}
