/** A continuous query: history from /v1/range, new samples from live updates. */

import { useEffect, useState } from "preact/hooks";
import { type Across, Cell, type Fn, folded } from "./aggregate";
import { api, drawable, type Labels, serverNow, type WireValue } from "./api";
import { live, type Samples, type SeriesName } from "./live";
import { cellsOf, durationText, type Span } from "./span";

export interface Question {
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

export interface Picture {
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
const LONGEST_LIVE_STEP_MS = 120_000;
/** Gaps up to this are bridged, because senders are slower than the step. */
const BRIDGED_MS = 25_000;
/** … and longer ones of lines with few samples throughout, up to this. */
const LONGEST_BRIDGE_MS = 300_000;
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
  private status: Picture["status"] = "loading";
  private problem = "";
  private aborter = new AbortController();
  private unfollow: (() => void) | null = null;
  private timer: number | undefined;
  private reloading: number | undefined;
  private drawing = 0;
  private drawnAt = 0;

  constructor(
    private readonly question: Question,
    private readonly span: Span,
    private readonly stepMs: number,
    private readonly show: (picture: Picture) => void,
  ) {
    this.load();
    // Time passes even if nothing arrives.
    if (span.endMs === null) this.timer = window.setInterval(() => this.draw(), Math.min(stepMs, 5_000));
  }

  close(): void {
    this.aborter.abort();
    this.unfollow?.();
    window.clearInterval(this.timer);
    window.clearTimeout(this.reloading);
    window.clearTimeout(this.drawing);
  }

  private load(): void {
    window.clearTimeout(this.reloading);
    this.reloading = undefined;
    this.aborter.abort();
    this.aborter = new AbortController();
    this.unfollow?.();
    this.unfollow = null;
    this.boundary = cellsOf(this.span, this.stepMs).last - 1;
    const isLive = this.span.endMs === null && this.stepMs <= LONGEST_LIVE_STEP_MS;
    if (isLive) this.follow();
    else if (this.span.endMs === null) this.reload(Math.min(this.stepMs / 2, 60_000));
    void this.fetch(this.aborter.signal, isLive);
  }

  private reload(afterMs: number): void {
    this.reloading ??= window.setTimeout(() => this.load(), afterMs);
  }

  private async fetch(signal: AbortSignal, isLive: boolean): Promise<void> {
    const { first, last } = cellsOf(this.span, this.stepMs);
    const { match, fn, by, across } = this.question;
    try {
      const answer = await api.range(
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
      for (const one of answer.series) {
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

  private follow(): void {
    this.names.clear();
    this.forgetTail();
    this.unfollow = live.follow({
      match: this.question.match,
      since: () => String((this.boundary * this.stepMs - Math.max(2 * this.stepMs, TAIL_MARGIN_MS)) / 1000),
      everyMs: Math.min(Math.max(this.stepMs / 5, 500), 5_000),
      onSeries: (series) => {
        for (const one of series) this.names.set(one.id, one);
      },
      onSnapshot: (samples) => {
        this.forgetTail();
        this.take(samples, true);
      },
      onUpdate: (samples) => this.take(samples, false),
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

  private take(samples: Samples, isSnapshot: boolean): void {
    const oldest = this.oldestKept();
    for (const [id, pairs] of Object.entries(samples))
      for (const [timeMs, value] of pairs) {
        const isKept = this.add(id, timeMs, value, oldest);
        // Past steps are history: a snapshot repeats it, an update changes it.
        if (!isKept && !isSnapshot) this.reload(LATE_RELOAD_MS);
      }
    for (const at of this.touched) this.fold(at);
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
  private fold(at: number): void {
    const parts = new Map<Group, number[]>();
    for (const [id, cell] of this.tail.get(at) ?? []) {
      const name = this.names.get(id);
      const value = cell.answer(this.question.fn);
      if (!name || value === null) continue;
      const group = this.groupOf(id, name.metric, name.labels);
      const values = parts.get(group);
      if (values) values.push(value);
      else parts.set(group, [value]);
    }
    const how = this.question.across ?? "sum";
    for (const [group, values] of parts) group.byCell.set(at, this.isGrouped ? folded(values, how) : (values[0] ?? null));
  }

  private get isGrouped(): boolean {
    return !!this.question.by?.length || this.question.across !== undefined;
  }

  private groupOf(id: string | null, metric: string | null, labels: Labels): Group {
    let key = `#${id}`;
    if (this.isGrouped) {
      const kept = (this.question.by ?? []).filter((name) => labels[name]);
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
      this.show(this.picture());
    }, Math.max(restMs, 0));
  }

  private picture(): Picture {
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
        lines.push({ key, metric: group.metric, labels: group.labels, values: bridged(values, this.stepMs) });
    }
    return { status: this.status, problem: this.problem, stepMs: this.stepMs, times, lines };
  }

}

/** A line without the gaps that exist only because its sender is slower than the step. */
function bridged(values: (number | null)[], stepMs: number): Line["values"] {
  const told = values.flatMap((value, at) => (value === null ? [] : [at]));
  const apart = told.slice(1).map((at, index) => at - (told[index] ?? 0));
  const longest = Math.max(1, BRIDGED_MS / stepMs, Math.min(1.5 * usual(apart), LONGEST_BRIDGE_MS / stepMs));
  const line: Line["values"] = values;
  apart.forEach((steps, index) => {
    const from = told[index] ?? 0;
    if (steps - 1 <= longest) line.fill(undefined, from + 1, from + steps);
  });
  return line;
}

/** The median; 0 if there are too few values. */
function usual(steps: readonly number[]): number {
  return steps.length < 3 ? 0 : ([...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)] ?? 0);
}

const NOTHING: Picture = { status: "loading", problem: "", stepMs: 5_000, times: [], lines: [] };

/** The current result; null disables the query. */
export function useQuery(question: Question | null, span: Span, stepMs: number): Picture {
  const [picture, setPicture] = useState(NOTHING);
  const asked = JSON.stringify([question, span, stepMs]);
  useEffect(() => {
    setPicture((before) => (before.status === "failed" ? NOTHING : before));
    if (question === null) return setPicture(NOTHING);
    const query = new LiveQuery(question, span, stepMs, setPicture);
    return () => query.close();
  }, [asked]);
  return picture;
}

/** The newest value of a line, unless it is older than `maxAgeMs`. */
export function newest(picture: Picture, line: Line | undefined, maxAgeMs = 60_000): number | null {
  if (!line) return null;
  for (let at = line.values.length - 1; at >= 0; at--) {
    if (serverNow() - (picture.times[at] ?? 0) * 1000 - picture.stepMs > maxAgeMs) return null;
    const value = line.values[at];
    if (typeof value === "number") return value;
  }
  return null;
}
