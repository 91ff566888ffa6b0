/** The charts of a host's metrics: known ones by hand, all others by family. */

import type { Across, Fn } from "./aggregate";
import type { Metadata, Series } from "./api";
import { NO_REAL_DEVICE, NO_REAL_FILESYSTEM } from "./hosts";
import type { Line, RangeQuery } from "./query";
import { type Matcher, toSelector } from "./selector";
import { isCounter, type Unit, unitOf } from "./units";

export interface Panel {
  title: string;
  note: string;
  query: RangeQuery;
  unit: Unit;
  isRate: boolean;
  isStacked?: boolean;
  order?: readonly string[];
  /** Transforms the result of the query before it is drawn. */
  transform?: (lines: readonly Line[]) => Line[];
}

export interface Family {
  name: string;
  panels: Panel[];
}

interface PanelDefinition {
  title: string;
  note?: string;
  metrics: readonly string[];
  matchers?: readonly Matcher[];
  fn: Fn;
  by?: readonly string[];
  across?: Across;
  unit: Unit;
  isStacked?: boolean;
  isShare?: boolean;
  order?: readonly string[];
  transform?: Panel["transform"];
}

const NOT_IDLE: Matcher = { label: "mode", operator: "!=", value: "idle" };
const MEMORY = { total: "node_memory_MemTotal_bytes", available: "node_memory_MemAvailable_bytes", free: "node_memory_MemFree_bytes" };

const PANELS: readonly PanelDefinition[] = [
  {
    title: "CPU",
    note: "cores in use, by mode",
    metrics: ["node_cpu_seconds_total"],
    matchers: [NOT_IDLE],
    fn: "rate",
    by: ["mode"],
    across: "sum",
    unit: "none",
    isShare: true,
    isStacked: true,
    order: ["user", "system", "iowait", "nice", "steal", "softirq", "irq"],
  },
  {
    title: "Memory",
    metrics: Object.values(MEMORY),
    fn: "avg",
    unit: "bytes",
    isStacked: true,
    order: ["used", "cache", "free", "available"],
    transform: memoryParts,
  },
  { title: "Load", metrics: ["node_load1", "node_load5", "node_load15"], fn: "avg", unit: "none", order: ["node_load1", "node_load5", "node_load15"] },
  {
    title: "Programs by CPU",
    note: "cores in use",
    metrics: ["namedprocess_namegroup_cpu_seconds_total"],
    fn: "rate",
    by: ["groupname"],
    across: "sum",
    unit: "none",
    isShare: true,
  },
  {
    title: "Programs by memory",
    note: "without shared",
    metrics: ["namedprocess_namegroup_memory_bytes"],
    matchers: [{ label: "memtype", operator: "=", value: "private" }],
    fn: "avg",
    by: ["groupname"],
    across: "sum",
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
    order: ["node_pressure_cpu_waiting_seconds_total", "node_pressure_io_waiting_seconds_total", "node_pressure_memory_waiting_seconds_total"],
  },
  {
    title: "Network",
    metrics: ["node_network_receive_bytes_total", "node_network_transmit_bytes_total"],
    matchers: [NO_REAL_DEVICE],
    fn: "rate",
    unit: "bytes",
  },
  { title: "Disk throughput", metrics: ["node_disk_read_bytes_total", "node_disk_written_bytes_total"], fn: "rate", unit: "bytes" },
  { title: "Disk busy", note: "share of the time", metrics: ["node_disk_io_time_seconds_total"], fn: "rate", by: ["device"], across: "max", unit: "seconds" },
  {
    title: "Disk space left",
    metrics: ["node_filesystem_avail_bytes"],
    matchers: [NO_REAL_FILESYSTEM],
    fn: "avg",
    by: ["mountpoint"],
    across: "max",
    unit: "bytes",
  },
  { title: "CPU by core", metrics: ["node_cpu_seconds_total"], matchers: [NOT_IDLE], fn: "rate", by: ["cpu"], across: "sum", unit: "seconds" },
  { title: "TCP connections", note: "established", metrics: ["node_netstat_Tcp_CurrEstab"], fn: "avg", unit: "none" },
  { title: "Temperatures", metrics: ["node_hwmon_temp_celsius"], fn: "avg", unit: "celsius" },
];

/** The main charts of a host, as far as it has the metrics. */
export function mainPanelsOf(series: readonly Series[], place: Matcher): Panel[] {
  const there = new Set(series.map((one) => one.metric));
  return PANELS.flatMap((definition) => {
    const metrics = definition.metrics.filter((metric) => there.has(metric));
    if (metrics.length === 0) return [];
    const { title, fn, by, across, unit, note = "", isStacked = false, isShare = false, order, transform } = definition;
    const matchers = [place, ...(definition.matchers ?? [])];
    const match = toSelector(metrics.length === 1 ? (metrics[0] ?? null) : null, [...(metrics.length > 1 ? [oneOf(metrics)] : []), ...matchers]);
    const query: RangeQuery = { match, fn, ...(by ? { by } : {}), ...(across ? { across } : {}) };
    return [{ title, note, query, unit, isRate: fn === "rate" && !isShare, isStacked, ...(order && { order }), ...(transform && { transform }) }];
  });
}

/** Memory used by programs, reclaimable memory, and the rest; only the total if less is known. */
function memoryParts(lines: readonly Line[]): Line[] {
  const [total, available, free] = [MEMORY.total, MEMORY.available, MEMORY.free].map((metric) => lines.find((one) => one.metric === metric));
  if (!total || !available) return [...lines];
  const part = (name: string, all: Line, rest?: Line): Line => ({
    key: name,
    metric: null,
    labels: { part: name },
    values: rest ? all.values.map((value, at) => lessThan(value, rest.values[at])) : all.values,
  });
  const rest = free ? [part("cache", available, free), part("free", free)] : [part("available", available)];
  return [part("used", total, available), ...rest];
}

function lessThan(value: Line["values"][number], other: Line["values"][number]): Line["values"][number] {
  return typeof value === "number" && typeof other === "number" ? value - other : (value ?? other) === undefined ? undefined : null;
}

export const oneOf = (metrics: readonly string[]): Matcher => ({ label: "__name__", operator: "=~", value: metrics.join("|") });

/** All metrics, one chart each, by family; `filter` selects by name and help. */
export function families(series: readonly Series[], place: Matcher, metadata: Metadata, filter: string): Family[] {
  const needle = filter.trim().toLowerCase();
  const found = new Map<string, Panel[]>();
  for (const metric of [...new Set(series.map((one) => one.metric))].sort()) {
    const help = metadata[metric]?.help ?? "";
    if (/_info$/.test(metric) || !`${metric} ${help}`.toLowerCase().includes(needle)) continue;
    const isRate = isCounter(metric, metadata);
    const panel: Panel = {
      title: metric,
      note: help,
      query: { match: toSelector(metric, [place]), fn: isRate ? "rate" : "avg" },
      unit: unitOf(metric, metadata),
      isRate,
    };
    const name = familyOf(metric);
    const panels = found.get(name);
    if (panels) panels.push(panel);
    else found.set(name, [panel]);
  }
  const all = [...found].map(([name, panels]) => ({ name, panels }));
  // A metric without relatives is not a family.
  const alone = all.filter((one) => one.panels.length === 1);
  if (alone.length < 2) return all;
  return [...all.filter((one) => one.panels.length > 1), { name: "others", panels: alone.flatMap((one) => one.panels) }];
}

/** The first word or two of a name: `node_memory`, `infrawatch_agent`, `http_server`. */
function familyOf(metric: string): string {
  const words = metric.split(/[_.:]/).filter(Boolean);
  return words.slice(0, words.length > 2 ? 2 : 1).join(" ").replace(/\d+$/, "");
}
