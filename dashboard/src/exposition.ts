/** Parses the server's own metrics: the part of the Prometheus text format that they use. */

import type { Labels } from "./api";

export interface ParsedSample {
  name: string;
  labels: Labels;
  value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export function parseExposition(text: string): ParsedSample[] {
  const found: ParsedSample[] = [];
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (!match) continue;
    const labels: Labels = {};
    for (const [, name = "", value = ""] of (match[2] ?? "").matchAll(LABEL))
      labels[name] = value.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c));
    found.push({ name: match[1] ?? "", labels, value: match[3] === "+Inf" ? Infinity : Number(match[3]) });
  }
  return found;
}

export const sumOf = (all: readonly ParsedSample[], name: string): number =>
  all.reduce((sum, one) => (one.name === name ? sum + one.value : sum), 0);

/** The values of a metric, summed by one of its labels. */
export function sumsBy(all: readonly ParsedSample[], name: string, label: string): Map<string, number> {
  const sums = new Map<string, number>();
  for (const one of all)
    if (one.name === name) sums.set(one.labels[label] ?? "", (sums.get(one.labels[label] ?? "") ?? 0) + one.value);
  return sums;
}

/** A quantile of the observations between two readings of a histogram; null if there are none. */
export function quantileOf(before: readonly ParsedSample[], after: readonly ParsedSample[], name: string, q: number): number | null {
  const earlier = sumsBy(before, `${name}_bucket`, "le");
  const counts = [...sumsBy(after, `${name}_bucket`, "le")]
    .map(([le, count]) => ({ le: le === "+Inf" ? Infinity : Number(le), count: count - (earlier.get(le) ?? 0) }))
    .sort((a, b) => a.le - b.le);
  const all = counts[counts.length - 1]?.count ?? 0;
  if (all <= 0) return null;
  let [low, below] = [0, 0];
  for (const { le, count } of counts) {
    if (count >= q * all) return le === Infinity ? low : low + ((le - low) * (q * all - below)) / (count - below || 1);
    [low, below] = [le, count];
  }
  return low;
}
