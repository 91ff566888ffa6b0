/** Which charts a host's metrics make: the known ones by hand, all others by family. */

import type { Across, Fn } from "./aggregate";
import type { Metadata, Series } from "./api";
import { NO_REAL_DEVICE, NO_REAL_FILESYSTEM } from "./hosts";
import { type Question } from "./query";
import { type Matcher, toSelector } from "./selector";
import { isCounter, type Unit, unitOf } from "./units";

export interface Panel {
  title: string;
  note: string;
  question: Question;
  unit: Unit;
  isRate: boolean;
  isStacked?: boolean;
}

export interface Family {
  name: string;
  panels: Panel[];
}

interface Known {
  title: string;
  metrics: readonly string[];
  matchers?: readonly Matcher[];
  fn: Fn;
  by?: readonly string[];
  across?: Across;
  unit: Unit;
  isStacked?: boolean;
}

const KNOWN: readonly Known[] = [
  {
    title: "CPU",
    metrics: ["node_cpu_seconds_total"],
    matchers: [{ label: "mode", operator: "!=", value: "idle" }],
    fn: "rate",
    by: ["mode"],
    across: "sum",
    unit: "none",
    isStacked: true,
  },
  {
    title: "Memory",
    metrics: ["node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes", "node_memory_Cached_bytes", "node_memory_MemFree_bytes"],
    fn: "avg",
    unit: "bytes",
  },
  { title: "Load", metrics: ["node_load1", "node_load5", "node_load15"], fn: "avg", unit: "none" },
  {
    title: "Network",
    metrics: ["node_network_receive_bytes_total", "node_network_transmit_bytes_total"],
    matchers: [NO_REAL_DEVICE],
    fn: "rate",
    unit: "bytes",
  },
  { title: "Disk throughput", metrics: ["node_disk_read_bytes_total", "node_disk_written_bytes_total"], fn: "rate", unit: "bytes" },
  {
    title: "Disk space left",
    metrics: ["node_filesystem_avail_bytes"],
    matchers: [NO_REAL_FILESYSTEM],
    fn: "avg",
    by: ["mountpoint"],
    across: "max",
    unit: "bytes",
  },
  {
    title: "Waiting for CPU, disk, memory",
    metrics: [
      "node_pressure_cpu_waiting_seconds_total",
      "node_pressure_io_waiting_seconds_total",
      "node_pressure_memory_waiting_seconds_total",
    ],
    fn: "rate",
    unit: "seconds",
  },
  { title: "Temperatures", metrics: ["node_hwmon_temp_celsius"], fn: "avg", unit: "celsius" },
];

/** The charts of a host at a glance, those it has metrics for. */
export function glance(series: readonly Series[], place: Matcher): Panel[] {
  const there = new Set(series.map((one) => one.metric));
  return KNOWN.flatMap((known) => {
    const metrics = known.metrics.filter((metric) => there.has(metric));
    if (metrics.length === 0) return [];
    const { title, fn, by, across, unit, isStacked = false } = known;
    const matchers = [place, ...(known.matchers ?? [])];
    const match = toSelector(metrics.length === 1 ? (metrics[0] ?? null) : null, [...oneOf(metrics), ...matchers]);
    const question: Question = { match, fn, ...(by ? { by } : {}), ...(across ? { across } : {}) };
    const note = title === "CPU" ? "cores in use, by mode" : "";
    return [{ title, note, question, unit, isRate: fn === "rate" && title !== "CPU", isStacked }];
  });
}

const oneOf = (metrics: readonly string[]): Matcher[] =>
  metrics.length > 1 ? [{ label: "__name__", operator: "=~", value: metrics.join("|") }] : [];

/** Everything, one chart a metric, by family; `wanted` keeps those whose name or help has it. */
export function families(series: readonly Series[], place: Matcher, metadata: Metadata, wanted: string): Family[] {
  const needle = wanted.trim().toLowerCase();
  const found = new Map<string, Panel[]>();
  for (const metric of [...new Set(series.map((one) => one.metric))].sort()) {
    const help = metadata[metric]?.help ?? "";
    if (/_info$/.test(metric) || !`${metric} ${help}`.toLowerCase().includes(needle)) continue;
    const isRate = isCounter(metric, metadata);
    const panel: Panel = {
      title: metric,
      note: help,
      question: { match: toSelector(metric, [place]), fn: isRate ? "rate" : "avg" },
      unit: unitOf(metric, metadata),
      isRate,
    };
    const name = familyOf(metric);
    const panels = found.get(name);
    if (panels) panels.push(panel);
    else found.set(name, [panel]);
  }
  return [...found].map(([name, panels]) => ({ name, panels }));
}

/** The first words of a name: `node_memory`, `infrawatch_agent`, `http_server`. */
function familyOf(metric: string): string {
  const words = metric.split(/[_.:]/).filter(Boolean);
  return words.slice(0, words.length > 2 ? 2 : 1).join(" ").replace(/\d+$/, "");
}
