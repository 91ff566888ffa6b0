/** A continuous query: history from /v1/range, new samples from live updates. */

import { useEffect, useState } from "preact/hooks";
import { type Across, Cell, combine, type Fn } from "./aggregate";
import { api, drawable, type Labels, serverNow, type WireValue } from "./api";
import { live, type Samples, type SeriesName } from "./live";
import { cellsOf, durationText, type Span } from "./span";

export interface RangeQuery {
  match: string;
  fn: Fn;
  by?: readonly string[];
  across?: Across;
}

/** One line of a chart: a series, or a group of them. */
export interface Line {
  key: string;
  metric: string | null;
  labels: Labels;
  /** One value per step; null is a gap, undefined a step too short to have a sample. */
  values: (number | null | undefined)[];
}

export interface QueryResult {
  status: "loading" | "ready" | "failed";
  problem: string;
  stepMs: number;
  /** The beginning of each step, in seconds. */
  times: number[];
  lines: Line[];
}

interface Group {
  metric: string | null;
  labels: Labels;
  byCell: Map<number, number | null>;
}

/** Rates need the previous sample; the newest rate of slower senders comes from history. */
const TAIL_MARGIN_MS = 60_000;
/** With longer steps, history is queried again instead, to avoid too many raw samples. */
const MAX_LIVE_STEP_MS = 120_000;
/** Gaps up to this are bridged, because senders are slower than the step. */
const MIN_BRIDGE_MS = 25_000;
/** … and longer ones of lines with few samples throughout, up to this. */
const MAX_BRIDGE_MS = 300_000;
/** How long the samples of a step are kept: other series of its group may arrive later. */
const TAIL_KEPT_MS = 120_000;
const MANY_LINES = 40;
const DRAW_MANY_EVERY_MS = 2_500;
const LATE_RELOAD_MS = 2_000;

export class LiveQuery {
  private readonly groups = new Map<string, Group>();
  private readonly names = new Map<string, SeriesName>();
  private readonly lastSamples = new Map<string, [number, number]>();
  private readonly tail = new Map<number, Map<string, Cell>>();
  private readonly touched = new Set<number>();
  private boundary = 0;
  private status: QueryResult["status"] = "loading";
  private problem = "";
  private controller = new AbortController();
  private unsubscribe: (() => void) | null = null;
  private timer: number | undefined;
  private reloading: number | undefined;
  private drawing = 0;
  private drawnAt = 0;

  constructor(
    private readonly query: RangeQuery,
    private readonly span: Span,
    private readonly stepMs: number,
    private readonly onResult: (result: QueryResult) => void,
  ) {
    this.load();
    // Time passes even if nothing arrives.
    if (span.endMs === null) this.timer = window.setInterval(() => this.draw(), Math.min(stepMs, 5_000));
  }

  close(): void {
    this.controller.abort();
    this.unsubscribe?.();
    window.clearInterval(this.timer);
    window.clearTimeout(this.reloading);
    window.clearTimeout(this.drawing);
  }

  private load(): void {
    window.clearTimeout(this.reloading);
    this.reloading = undefined;
    this.controller.abort();
    this.controller = new AbortController();
    this.unsubscribe?.();
    this.unsubscribe = null;
    this.boundary = cellsOf(this.span, this.stepMs).last - 1;
    const isLive = this.span.endMs === null && this.stepMs <= MAX_LIVE_STEP_MS;
    if (isLive) this.subscribe();
    else if (this.span.endMs === null) this.reload(Math.min(this.stepMs / 2, 60_000));
    void this.fetch(this.controller.signal, isLive);
  }

  private reload(afterMs: number): void {
    this.reloading ??= window.setTimeout(() => this.load(), afterMs);
  }

  private async fetch(signal: AbortSignal, isLive: boolean): Promise<void> {
    const { first, last } = cellsOf(this.span, this.stepMs);
    const { match, fn, by, across } = this.query;
    try {
      const response = await api.range(
        {
          match,
          fn,
          ...(by?.length ? { by: by.join(",") } : {}),
          ...(across ? { across } : {}),
          step: durationText(this.stepMs),
          start: String((first * this.stepMs) / 1000),
          end: String(((last + 1) * this.stepMs) / 1000),
        },
        signal,
      );
      for (const one of response.series) {
        const group = this.groupOf(one.id, one.metric, one.labels);
        for (const [timeMs, value] of one.samples) {
          const cell = Math.round(timeMs / this.stepMs);
          if (!isLive || cell < this.boundary || !group.byCell.has(cell)) group.byCell.set(cell, drawable(value));
        }
      }
      this.status = "ready";
    } catch (error) {
      if (signal.aborted) return;
      this.status = "failed";
      this.problem = error instanceof Error ? error.message : String(error);
      this.reload(5_000);
    }
    this.draw();
  }

  private subscribe(): void {
    this.names.clear();
    this.forgetTail();
    this.unsubscribe = live.subscribe({
      match: this.query.match,
      since: () => String((this.boundary * this.stepMs - Math.max(2 * this.stepMs, TAIL_MARGIN_MS)) / 1000),
      everyMs: Math.min(Math.max(this.stepMs / 5, 500), 5_000),
      onSeries: (series) => {
        for (const one of series) this.names.set(one.id, one);
      },
      onSnapshot: (samples) => {
        this.forgetTail();
        this.addSamples(samples, true);
      },
      onUpdate: (samples) => this.addSamples(samples, false),
      onGap: () => this.reload(0),
      onProblem: (detail) => {
        this.status = "failed";
        this.problem = detail;
        this.draw();
      },
    });
  }

  private forgetTail(): void {
    this.tail.clear();
    this.lastSamples.clear();
    this.touched.clear();
  }

  private addSamples(samples: Samples, isSnapshot: boolean): void {
    const oldest = this.oldestKept();
    for (const [id, pairs] of Object.entries(samples))
      for (const [timeMs, value] of pairs) {
        const isKept = this.add(id, timeMs, value, oldest);
        // Past steps are history: a snapshot repeats it, an update changes it.
        if (!isKept && !isSnapshot) this.reload(LATE_RELOAD_MS);
      }
    for (const at of this.touched) this.combineStep(at);
    this.touched.clear();
    this.draw();
  }

  private oldestKept(): number {
    return Math.max(this.boundary, cellsOf(this.span, this.stepMs).last - Math.ceil(TAIL_KEPT_MS / this.stepMs));
  }

  /** Whether the tail now contains the sample or an equivalent one. */
  private add(id: string, timeMs: number, value: WireValue, oldest: number): boolean {
    if (typeof value !== "number") return true;
    const before = this.lastSamples.get(id);
    // Repeated, late, or corrected: the store has the current value.
    if (before && timeMs <= before[0]) return timeMs === before[0] && value === before[1];
    this.lastSamples.set(id, [timeMs, value]);
    const at = Math.floor(timeMs / this.stepMs);
    if (at < oldest) return false;
    let series = this.tail.get(at);
    if (!series) this.tail.set(at, (series = new Map()));
    let cell = series.get(id);
    if (!cell) series.set(id, (cell = new Cell()));
    cell.add(timeMs, value, before);
    this.touched.add(at);
    return true;
  }

  /** Adds the samples of a step to its groups. */
  private combineStep(at: number): void {
    const parts = new Map<Group, number[]>();
    for (const [id, cell] of this.tail.get(at) ?? []) {
      const name = this.names.get(id);
      const value = cell.result(this.query.fn);
      if (!name || value === null) continue;
      const group = this.groupOf(id, name.metric, name.labels);
      const values = parts.get(group);
      if (values) values.push(value);
      else parts.set(group, [value]);
    }
    const how = this.query.across ?? "sum";
    for (const [group, values] of parts) group.byCell.set(at, this.isGrouped ? combine(values, how) : (values[0] ?? null));
  }

  private get isGrouped(): boolean {
    return !!this.query.by?.length || this.query.across !== undefined;
  }

  private groupOf(id: string | null, metric: string | null, labels: Labels): Group {
    let key = `#${id}`;
    if (this.isGrouped) {
      const kept = (this.query.by ?? []).filter((name) => labels[name]);
      labels = Object.fromEntries(kept.map((name) => [name, labels[name] ?? ""]));
      key = JSON.stringify(labels);
    }
    let group = this.groups.get(key);
    if (!group) this.groups.set(key, (group = { metric, labels, byCell: new Map() }));
    else if (group.metric !== metric) group.metric = null; // several metrics in one group
    return group;
  }

  /** Redraws soon, once for several requests, because many lines take long to draw. */
  private draw(): void {
    if (this.drawing !== 0) return;
    const restMs = this.groups.size > MANY_LINES ? DRAW_MANY_EVERY_MS - (performance.now() - this.drawnAt) : 0;
    this.drawing = window.setTimeout(() => {
      this.drawing = 0;
      this.drawnAt = performance.now();
      this.onResult(this.result());
    }, Math.max(restMs, 0));
  }

  private result(): QueryResult {
    const { first, last } = cellsOf(this.span, this.stepMs);
    const oldest = this.oldestKept();
    for (const at of this.tail.keys()) if (at < oldest) this.tail.delete(at);
    const times: number[] = [];
    for (let at = first; at <= last; at++) times.push((at * this.stepMs) / 1000);
    const lines: Line[] = [];
    for (const [key, group] of this.groups) {
      for (const at of group.byCell.keys()) if (at < first) group.byCell.delete(at);
      const values = times.map((_, index) => group.byCell.get(first + index) ?? null);
      if (values.some((value) => value !== null))
        lines.push({ key, metric: group.metric, labels: group.labels, values: bridgeGaps(values, this.stepMs) });
    }
    return { status: this.status, problem: this.problem, stepMs: this.stepMs, times, lines };
  }
}

/** Bridges the gaps of a line that exist only because its sender is slower than the step. */
function bridgeGaps(values: (number | null)[], stepMs: number): Line["values"] {
  const present = values.flatMap((value, at) => (value === null ? [] : [at]));
  const distances = present.slice(1).map((at, index) => at - (present[index] ?? 0));
  const longest = Math.max(1, MIN_BRIDGE_MS / stepMs, Math.min(1.5 * median(distances), MAX_BRIDGE_MS / stepMs));
  const line: Line["values"] = values;
  distances.forEach((steps, index) => {
    const from = present[index] ?? 0;
    if (steps - 1 <= longest) line.fill(undefined, from + 1, from + steps);
  });
  return line;
}

/** The median; 0 if there are too few values. */
function median(steps: readonly number[]): number {
  return steps.length < 3 ? 0 : ([...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)] ?? 0);
}

const EMPTY: QueryResult = { status: "loading", problem: "", stepMs: 5_000, times: [], lines: [] };

/** The current result; null disables the query. */
export function useQuery(query: RangeQuery | null, span: Span, stepMs: number): QueryResult {
  const [result, setResult] = useState(EMPTY);
  const key = JSON.stringify([query, span, stepMs]);
  useEffect(() => {
    setResult((before) => (before.status === "failed" ? EMPTY : before));
    if (query === null) return setResult(EMPTY);
    const running = new LiveQuery(query, span, stepMs, setResult);
    return () => running.close();
  }, [key]);
  return result;
}

/** The newest value of a line, unless it is older than `maxAgeMs`. */
export function newest(result: QueryResult, line: Line | undefined, maxAgeMs = 60_000): number | null {
  if (!line) return null;
  for (let at = line.values.length - 1; at >= 0; at--) {
    if (serverNow() - (result.times[at] ?? 0) * 1000 - result.stepMs > maxAgeMs) return null;
    const value = line.values[at];
    if (typeof value === "number") return value;
  }
  return null;
}
