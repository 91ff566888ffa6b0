/** The displayed time span, and its steps. */

import { serverNow } from "./api";

/** `endMs` null: until now, moving with the time. */
export interface Span {
  lengthMs: number;
  endMs: number | null;
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const LENGTHS: readonly { text: string; name: string; ms: number }[] = [
  { text: "5m", name: "5 minutes", ms: 5 * MINUTE },
  { text: "15m", name: "15 minutes", ms: 15 * MINUTE },
  { text: "1h", name: "1 hour", ms: HOUR },
  { text: "6h", name: "6 hours", ms: 6 * HOUR },
  { text: "24h", name: "24 hours", ms: DAY },
  { text: "7d", name: "7 days", ms: 7 * DAY },
  { text: "30d", name: "30 days", ms: 30 * DAY },
];

const MIN_LENGTH_MS = MINUTE;
const MAX_LENGTH_MS = 90 * DAY;

/** About the number of steps that fit a chart. */
const STEPS_PER_CHART = 200;

const STEPS_MS = [
  1_000, 2_000, 5_000, 10_000, 15_000, 30_000,
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 6, 12].map((n) => n * HOUR),
  DAY,
];

export const NOW_15M: Span = { lengthMs: 15 * MINUTE, endMs: null };

/** The default span: shorter if there is less data, so that it fills the chart. */
export function spanSince(firstMs: number): Span {
  const ageMs = serverNow() - firstMs;
  const lengthMs = [2 * MINUTE, 5 * MINUTE].find((length) => ageMs < length);
  return lengthMs === undefined ? NOW_15M : { lengthMs, endMs: null };
}

export function stepFor(lengthMs: number): number {
  const ideal = lengthMs / STEPS_PER_CHART;
  // Agents send every 5 s; steps shorter than that would mostly be empty.
  return STEPS_MS.find((step) => step >= Math.max(ideal, lengthMs <= 2 * MINUTE ? 1_000 : 5_000)) ?? DAY;
}

/** The first and last step of a span now, as numbers of steps since the epoch. */
export function cellsOf(span: Span, stepMs: number): { first: number; last: number } {
  const end = span.endMs ?? serverNow();
  return { first: Math.floor((end - span.lengthMs) / stepMs) + 1, last: Math.floor((end - 1) / stepMs) };
}

export function zoomed(startMs: number, endMs: number): Span {
  const lengthMs = Math.min(Math.max(endMs - startMs, MIN_LENGTH_MS), MAX_LENGTH_MS);
  return moved({ lengthMs, endMs: (startMs + endMs + lengthMs) / 2 }, 0);
}

/** Moves a span by multiples of its length; one that reaches now keeps moving with the time. */
export function moved(span: Span, lengths: number): Span {
  const endMs = (span.endMs ?? serverNow()) + lengths * span.lengthMs;
  return { lengthMs: span.lengthMs, endMs: endMs >= serverNow() - 1_000 ? null : Math.round(endMs) };
}

/** Zooms in (factor < 1) or out around the middle; a span that ends now still does. */
export function scaled(span: Span, factor: number): Span {
  const lengthMs = Math.min(Math.max(span.lengthMs * factor, MIN_LENGTH_MS), MAX_LENGTH_MS);
  if (span.endMs === null) return { lengthMs, endMs: null };
  return moved({ lengthMs, endMs: span.endMs - span.lengthMs / 2 + lengthMs / 2 }, 0);
}

export function toText(span: Span): string {
  const named = LENGTHS.find((one) => one.ms === span.lengthMs)?.text ?? `${Math.round(span.lengthMs / 1000)}s`;
  return span.endMs === null ? named : `${named}@${span.endMs}`;
}

export function fromText(text: string | null, otherwise: Span = NOW_15M): Span {
  const [length = "", end] = (text ?? "").split("@");
  const known = LENGTHS.find((one) => one.text === length)?.ms ?? parseFloat(length) * 1000;
  if (!(known >= MIN_LENGTH_MS && known <= MAX_LENGTH_MS)) return otherwise;
  return { lengthMs: known, endMs: end && Number.isFinite(+end) ? +end : null };
}

/** Formats a duration as in the API: `90s`, `15m`, `2h`. */
export function durationText(ms: number): string {
  for (const [unit, size] of [["d", DAY], ["h", HOUR], ["m", MINUTE]] as const)
    if (ms % size === 0) return `${ms / size}${unit}`;
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}

const UNITS_MS: Record<string, number> = { ms: 1, s: 1000, m: MINUTE, h: HOUR, d: DAY, w: 7 * DAY, y: 365 * DAY };

/** Parses a duration; null if it is none. */
export function parseDuration(text: string): number | null {
  const parts = [...text.trim().matchAll(/(\d+)(ms|s|m|h|d|w|y)/g)];
  if (!parts.length || parts.map((part) => part[0]).join("") !== text.trim()) return null;
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * (UNITS_MS[unit ?? ""] ?? 0), 0);
}
