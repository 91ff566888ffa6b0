/** The functions of /v1/range, applied to live samples step by step. */

export const FUNCTIONS = [
  "avg", "min", "max", "sum", "count", "first", "last", "rate", "increase", "p50", "p90", "p95", "p99", "stddev",
] as const;
export type Fn = (typeof FUNCTIONS)[number];

export const ACROSS = ["sum", "avg", "min", "max", "count"] as const;
export type Across = (typeof ACROSS)[number];

/** The samples of one series within one step, and the gain of a counter in it. */
export class Cell {
  private readonly values: number[] = [];
  private gained = 0;
  private gains = 0;
  private sinceMs = 0;
  private untilMs = 0;

  add(timeMs: number, value: number, before: readonly [number, number] | undefined): void {
    this.values.push(value);
    if (!before) return;
    const [beforeMs, beforeValue] = before;
    // A counter that fell has restarted from 0.
    this.gained += value < beforeValue ? value : value - beforeValue;
    if (this.gains++ === 0) this.sinceMs = beforeMs;
    this.untilMs = timeMs;
  }

  result(fn: Fn): number | null {
    const { values } = this;
    switch (fn) {
      case "rate":
        return this.gains ? (this.gained * 1000) / (this.untilMs - this.sinceMs) : null;
      case "increase":
        return this.gains ? this.gained : null;
      case "first":
        return values[0] ?? null;
      case "last":
        return values[values.length - 1] ?? null;
      case "stddev": {
        const mean = combine(values, "avg");
        return Math.sqrt(combine(values.map((value) => (value - mean) ** 2), "avg"));
      }
      case "p50":
      case "p90":
      case "p95":
      case "p99":
        return quantile(values, Number(fn.slice(1)) / 100);
      default:
        return combine(values, fn);
    }
  }
}

/** Combines values into one; there is at least one. */
export function combine(values: readonly number[], how: Across): number {
  switch (how) {
    case "count":
      return values.length;
    case "min":
      return values.reduce((a, b) => Math.min(a, b));
    case "max":
      return values.reduce((a, b) => Math.max(a, b));
    case "sum":
      return values.reduce((a, b) => a + b, 0);
    case "avg":
      return values.reduce((a, b) => a + b, 0) / values.length;
  }
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)] ?? NaN;
  const high = sorted[Math.ceil(at)] ?? NaN;
  return low + (high - low) * (at % 1);
}
