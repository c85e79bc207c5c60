// What two scrapes say of the time between them: rates, ratios, quantiles.
import { number } from "./exposition.js";

const all = () => true;

/** The time between two scrapes; without an earlier one, since the process began. */
export class Span {
  constructor(later, earlier) {
    this.later = later;
    this.earlier = earlier;
    const began = later.value("process_start_time_seconds");
    this.seconds = earlier ? later.at - earlier.at : later.at - began;
  }

  /** By how much a counter grew, over the series that ``keep`` lets through; null if unknown. */
  grew(name, keep = all) {
    const now = this.later.sum(name, keep);
    if (now === null || !this.earlier) return now;
    const before = this.earlier.sum(name, keep) ?? 0;
    return now < before ? now : now - before; // smaller: the process is another one
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
    this.samples = samples;
    this.at = at;
  }

  series(name) {
    return this.samples.get(name) ?? [];
  }

  /** Over the series that ``keep`` lets through; null where the metric does not exist. */
  sum(name, keep = all) {
    const series = this.samples.get(name);
    if (!series) return null;
    return series.filter(({ labels }) => keep(labels)).reduce((sum, { value }) => sum + value, 0);
  }

  value(name, wanted = {}) {
    const fits = ({ labels }) => Object.entries(wanted).every(([key, one]) => labels[key] === one);
    return this.series(name).find(fits)?.value ?? null;
  }

  labels(name, label) {
    return [...new Set(this.series(name).map(({ labels }) => labels[label]))].sort();
  }
}

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
