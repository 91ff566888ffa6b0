/** A chart: synchronised cursor, zoom by dragging or by keys, and a legend as text. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Labels } from "./api";
import type { Line, QueryResult } from "./query";
import { moved, NOW_15M, scaled, type Span, zoomed } from "./span";
import { colour, LINE_COLOURS, lineColour, onThemeChange } from "./theme";
import { formatted, type Unit } from "./units";

export interface ChartProps {
  title: string;
  note?: string;
  result: QueryResult;
  unit: Unit;
  isRate?: boolean;
  /** Lines are stacked, as parts of a whole. */
  isStacked?: boolean;
  /** Names of lines in the order of their colours; by default, the largest come first. */
  order?: readonly string[];
  height?: number;
  /** Said instead of a chart where there are no lines. */
  whenEmpty?: string;
  span: Span;
  onSpan: (span: Span) => void;
}

/** All charts of the page share one cursor. */
const CURSOR = uPlot.sync("page");
const MAX_LEGEND = 6;

export function Chart(props: ChartProps) {
  const { title, note, result, unit, isRate = false, isStacked = false, height = 180, span, onSpan, order } = props;
  const lines = useMemo(() => (order ? inOrder(result.lines, order, isStacked) : ordered(result.lines)), [result]);
  const [at, setAt] = useState<number | null>(null);
  const [near, setNear] = useState<string | null>(null);
  const canvas = useRef<HTMLDivElement>(null);
  usePlot(canvas, { ...props, lines, height, setAt, setNear });
  const index = at ?? lastIndex(lines);
  const nameOf = nameIn(lines);
  const shown = inLegend(lines, near);
  return (
    <figure class="chart" tabIndex={0} aria-label={`${title}. ${KEYS}`} onKeyDown={(event) => onKey(event, span, onSpan)}>
      <figcaption>
        <h3>{title}</h3>
        {at === null ? note && <span class="note" title={note}>{note}</span> : <time class="note">{momentText(result.times[at])}</time>}
      </figcaption>
      <div class="plot" ref={canvas} style={{ height: `${height}px` }}>
        {lines.length === 0 && <p class="hint">{(result.status === "ready" && props.whenEmpty) || HINTS[result.status](result)}</p>}
      </div>
      <ul class="legend">
        {shown.map((line) => (
          <li key={line.key} class={line.key === near ? "near" : undefined}>
            <i class={`swatch line-${colourAt(line, lines.indexOf(line), order) % LINE_COLOURS}`} />
            <span class="name" title={plainLabels(line.labels) || nameOf(line)}>{nameOf(line)}</span>
            <b>{formatted(line.values[index], unit, isRate)}</b>
          </li>
        ))}
        {lines.length > shown.length && <li class="more">and {lines.length - shown.length} more</li>}
      </ul>
    </figure>
  );
}

/** The largest lines, and the one under the cursor. */
function inLegend(lines: readonly Line[], near: string | null): readonly Line[] {
  if (lines.length <= MAX_LEGEND) return lines;
  const largest = lines.slice(0, MAX_LEGEND - 1);
  const other = lines.find((line) => line.key === near && !largest.includes(line));
  return other ? [...largest.slice(0, -1), other] : largest;
}

const KEYS = "Arrow keys move in time, plus and minus zoom, 0 goes back to now.";

const HINTS: Record<QueryResult["status"], (result: QueryResult) => string> = {
  loading: () => "Loading…",
  ready: () => "No samples in this time.",
  failed: (result) => result.problem,
};

function onKey(event: KeyboardEvent, span: Span, onSpan: (span: Span) => void): void {
  const to: Record<string, () => Span> = {
    ArrowLeft: () => moved(span, -0.25),
    ArrowRight: () => moved(span, 0.25),
    "+": () => scaled(span, 0.5),
    "-": () => scaled(span, 2),
    "0": () => NOW_15M,
    Escape: () => NOW_15M,
  };
  const go = to[event.key];
  if (!go || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  onSpan(go());
}

/** Sorts lines, the largest first. */
function ordered(lines: readonly Line[]): Line[] {
  const weights = new Map(lines.map((line) => [line, line.values.reduce<number>((sum, v) => sum + Math.abs(v ?? 0), 0)]));
  // By name among nearly equal ones, so that colours do not change with every sample.
  const rank = (line: Line) => Math.round(Math.log2((weights.get(line) ?? 0) + 1e-9));
  return [...lines].sort((a, b) => rank(b) - rank(a) || (a.key < b.key ? -1 : 1));
}

/** In the order of the panel; parts of a whole that are always 0 are left out. */
function inOrder(lines: readonly Line[], order: readonly string[], isStacked: boolean): Line[] {
  const rank = (line: Line) => colourAt(line, order.length, order);
  const some = lines.filter((line) => !isStacked || line.values.some((value) => value));
  return (some.length ? some : [...lines]).sort((a, b) => rank(a) - rank(b) || (a.key < b.key ? -1 : 1));
}

/** A line keeps its colour while others come and go. */
function colourAt(line: Line, number: number, order: readonly string[] | undefined): number {
  const at = order?.findIndex((name) => name === line.metric || Object.values(line.labels).includes(name)) ?? -1;
  return at < 0 ? number : at;
}

/** The time of the step under the cursor, in the viewer's locale. */
function momentText(s: number | undefined): string {
  const isToday = new Date().toDateString() === new Date((s ?? 0) * 1000).toDateString();
  const day = isToday ? {} : ({ day: "numeric", month: "short" } as const);
  return s === undefined ? "" : new Date(s * 1000).toLocaleString(undefined, { ...day, hour: "numeric", minute: "2-digit", second: "2-digit" });
}

function lastIndex(lines: readonly Line[]): number {
  const length = lines[0]?.values.length ?? 0;
  for (let at = length - 1; at > length - 8 && at >= 0; at--)
    if (lines.some((line) => typeof line.values[at] === "number")) return at;
  return length - 1;
}

/** Names lines by the labels that distinguish them. */
export function nameIn(lines: readonly Line[]): (line: Line) => string {
  const values = new Map<string, Set<string>>();
  for (const line of lines)
    for (const [name, value] of Object.entries({ ...line.labels, __name__: line.metric ?? "" }))
      (values.get(name) ?? values.set(name, new Set()).get(name))?.add(value);
  const differs = (name: string) => (values.get(name)?.size ?? 0) > 1;
  const short = shortened([...(values.get("__name__") ?? [])]);
  return (line) => {
    const all = Object.entries(line.labels);
    const present = all.length === 1 ? all : all.filter(([name]) => differs(name));
    const parts = present.map(([name, value]) => (present.length === 1 ? "" : `${name}=`) + withoutPrefix(value, values.get(name) ?? []));
    if (differs("__name__") && line.metric) parts.unshift(short.get(line.metric) ?? line.metric);
    return parts.join(" ") || line.metric || plainLabels(line.labels) || "all";
  };
}

/** A long value by its end, where all values begin alike: only the end distinguishes them. */
function withoutPrefix(value: string, others: Iterable<string>): string {
  let length = value.length;
  for (const other of others) while (!other.startsWith(value.slice(0, length))) length--;
  const isLong = value.length > LONG_VALUE && length < value.length && length > KEPT_PREFIX;
  return isLong ? `…${value.slice(length - KEPT_PREFIX)}` : value;
}

const [LONG_VALUE, KEPT_PREFIX] = [40, 8];

/** Metrics without their common first and last words: `MemFree` for `node_memory_MemFree_bytes`. */
function shortened(metrics: readonly string[]): Map<string, string> {
  if (metrics.length < 2) return new Map();
  const words = metrics.map((metric) => metric.split("_"));
  const first = words[0] ?? [];
  const fewest = Math.min(...words.map((one) => one.length));
  let [head, tail] = [0, 0];
  while (head < fewest - 1 && words.every((one) => one[head] === first[head])) head++;
  while (tail < fewest - head - 1 && words.every((one) => one[one.length - 1 - tail] === first[first.length - 1 - tail])) tail++;
  return new Map(metrics.map((metric, at) => [metric, (words[at] ?? []).slice(head, (words[at] ?? []).length - tail).join("_")]));
}

export const plainLabels = (labels: Labels): string =>
  Object.entries(labels).map(([name, value]) => `${name}=${value}`).join(" ");

interface Plotted extends ChartProps {
  lines: Line[];
  height: number;
  setAt: (at: number | null) => void;
  setNear: (key: string | null) => void;
}

function usePlot(canvas: { current: HTMLDivElement | null }, props: Plotted): void {
  const plot = useRef<uPlot | null>(null);
  const now = useRef(props);
  now.current = props;
  const shape = props.lines.map((line) => line.key).join("\n");
  const [palette, setPalette] = useState(0);
  useEffect(() => onThemeChange(() => setPalette((n) => n + 1)), []);
  useEffect(() => {
    const element = canvas.current;
    if (!element || shape === "") return;
    const made = new uPlot(options(element.clientWidth, now), toData(now.current), element);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: now.current.height }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, palette, props.unit, props.isStacked]);
  useEffect(() => plot.current?.setData(toData(now.current)), [props.result]);
}

/** A row of times, then a row per line; stacked lines include the sum of those below. */
function toData({ result, lines, isStacked }: Plotted): uPlot.AlignedData {
  if (!isStacked) return [result.times, ...lines.map((line) => line.values)] as uPlot.AlignedData;
  const sums = new Array<number>(result.times.length).fill(0);
  const rows = lines.map((line) =>
    line.values.map((value, at) => (typeof value === "number" ? (sums[at] = (sums[at] ?? 0) + value) : value)),
  );
  return [result.times, ...rows] as uPlot.AlignedData;
}

function options(width: number, now: { current: Plotted }): uPlot.Options {
  const { lines, unit, isRate, isStacked, height, order } = now.current;
  const colours = lines.map((line, at) => lineColour(colourAt(line, at, order)));
  const grid = { stroke: colour("grid"), width: 1 };
  const axis = { stroke: colour("muted"), font: `11px ${colour("font")}`, grid, ticks: { show: false } };
  const series = colours.map((stroke, at): uPlot.Series => {
    const isAlone = lines.length === 1 || (isStacked && at === 0);
    return { stroke, width: 1.5, points: { show: true, size: 4, fill: stroke, filter: isolated }, ...(isAlone ? { fill: alpha(stroke, isStacked ? "66" : "1f") } : {}) };
  });
  return {
    width,
    height,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    series: [{}, ...series],
    bands: isStacked ? lines.slice(1).map((_, at) => ({ series: [at + 2, at + 1], fill: alpha(colours[at + 1] ?? "", "66") })) : [],
    scales: { x: { time: true }, y: { range: (_plot, low, high) => scale(low, high) } },
    axes: [
      { ...axis, space: 74, size: 24, incrs: TIME_STEPS, values: (_plot, ticks, _at, _space, step) => ticks.map((tick) => clock(tick, step)) },
      { ...axis, size: 68, space: 34, values: (_plot, ticks) => ticks.map((tick) => formatted(tick, unit, isRate)), ...(unit === "bytes" ? { incrs: BINARY_STEPS } : {}) },
    ],
    focus: { alpha: isStacked ? 1 : 0.3 },
    cursor: {
      focus: { prox: isStacked || lines.length < 2 ? -1 : NEAR_PX },
      sync: { key: CURSOR.key, setSeries: false },
      points: { size: 6 },
      drag: { x: true, y: false, setScale: false },
      bind: { dblclick: () => () => (now.current.onSpan(NOW_15M), null), mousedown: panned(now) },
    },
    hooks: {
      setSeries: [(_plot, number) => now.current.setNear(number ? (now.current.lines[number - 1]?.key ?? null) : null)],
      setCursor: [(plot) => now.current.setAt(plot.cursor.idx ?? null)],
      setSelect: [
        (plot) => {
          const { left, width: wide } = plot.select;
          if (wide > 6) now.current.onSpan(zoomed(plot.posToVal(left, "x") * 1000, plot.posToVal(left + wide, "x") * 1000));
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    },
  };
}

/** Dragging selects a range to zoom to; with shift, it moves in time. */
function panned(now: { current: Plotted }): uPlot.Cursor.MouseListenerFactory {
  return (plot, _target, handler) => (event) => {
    if (!event.shiftKey) return handler(event);
    const stop = (end: MouseEvent) => now.current.onSpan(moved(now.current.span, (event.clientX - end.clientX) / plot.over.clientWidth));
    window.addEventListener("mouseup", stop, { once: true });
    return null;
  };
}

/** Labels of ticks, as precise as the distance between them. */
function clock(tick: number, step: number): string {
  const date = new Date(tick * 1000);
  const isMidnight = date.getHours() === 0 && date.getMinutes() === 0;
  if (step >= 86_400 || (step >= 3_600 && isMidnight)) return date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  const seconds = step < 60 ? ({ second: "2-digit" } as const) : {};
  return date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", ...seconds });
}

const NEAR_PX = 24;
const [MINUTE, HOUR, DAY] = [60, 3_600, 86_400];
const TIME_STEPS = [
  ...[1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR),
  ...[1, 2, 3, 7, 14, 30].map((n) => n * DAY),
];
const BINARY_STEPS = Array.from({ length: 60 }, (_, n) => [2 ** n, 2 ** n * 5]).flat().sort((a, b) => a - b);

function scale(low: number | null, high: number | null): [number, number] {
  const from = Math.min(low ?? 0, 0);
  const to = Math.max(high ?? 0, 0);
  return from === to ? [0, 1] : [from < 0 ? from * 1.08 : 0, to * 1.08];
}

/** Indexes of samples without a neighbour, which no line would show. */
function isolated(plot: uPlot, at: number): number[] {
  const present = [...(plot.data[at]?.entries() ?? [])].filter(([, value]) => value !== undefined);
  const isHole = (index: number) => (present[index]?.[1] ?? null) === null;
  return present.flatMap(([where], index) => (!isHole(index) && isHole(index - 1) && isHole(index + 1) ? [where] : []));
}

const alpha = (hex: string, opacity: string): string => hex + opacity;
