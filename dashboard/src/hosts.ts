/** Hosts, identified by the labels `instance` or `host`, and their state. */

import type { Across, Fn } from "./aggregate";
import { api, type Series, serverNow } from "./api";
import { type Line, newest, type QueryResult, useQuery } from "./query";
import { equal, type Matcher, toSelector } from "./selector";
import type { Span } from "./span";

const PLACES = ["instance", "host"] as const;
export type Place = (typeof PLACES)[number];

export interface Host {
  place: Place;
  name: string;
  series: number;
  /** Whether it sends node_exporter's load, by which hosts are found. */
  hasLoad: boolean;
  lastSeenMs: number | null;
}

export interface Vitals {
  cpu: number | null;
  memory: number | null;
  memoryTotal: number | null;
  disk: number | null;
  diskMount: string;
  received: number | null;
  sent: number | null;
  load: number | null;
  cores: number | null;
  history: readonly (number | null | undefined)[];
  lastMs: number | null;
}

/** Longer than usual intervals between samples (node_exporter is scraped every 15 to 60 s). */
export const SILENT_AFTER_MS = 90_000;

const SPAN: Span = { lengthMs: 15 * 60_000, endMs: null };
const STEP_MS = 15_000;
/** Devices that repeat the traffic of others, or that are local. */
export const NO_REAL_DEVICE: Matcher = {
  label: "device",
  operator: "!~",
  value: "lo|veth.*|docker.*|br-.*|virbr.*|cni.*|flannel.*|cali.*|tap.*|ifb.*|dummy.*",
};
export const NO_REAL_FILESYSTEM: Matcher = {
  label: "fstype",
  operator: "!~",
  value: "tmpfs|devtmpfs|overlay|squashfs|ramfs|iso9660|erofs|fuse.*|nsfs",
};

/** All hosts and the times of their last samples, by one series that is cheap to query. */
export async function findHosts(signal: AbortSignal): Promise<Host[]> {
  const found = await Promise.all(PLACES.map((place) => hostsBy(place, signal)));
  return found.flat();
}

async function hostsBy(place: Place, signal: AbortSignal): Promise<Host[]> {
  const { values } = await api.labelValues(place, null, signal);
  if (values.length === 0) return [];
  const known = lastSeen(await api.series(toSelector("node_load1", [{ label: place, operator: "!=", value: "" }]), signal), place);
  const withLoad = new Set(known.keys());
  const others = values.filter((one) => !withLoad.has(one.value)).slice(0, MAX_OTHERS);
  const rest = await Promise.all(
    others.map((one) => api.latest(toSelector(null, [equal(place, one.value)]), "1h", signal).catch(() => ({ series: [] }))),
  );
  others.forEach((one, at) => {
    const times = (rest[at]?.series ?? []).map((sample) => sample.time);
    known.set(one.value, times.length ? Math.max(...times) : null);
  });
  return values.map((one) => ({ place, name: one.value, series: one.series, hasLoad: withLoad.has(one.value), lastSeenMs: known.get(one.value) ?? null }));
}

/** Hosts without node_exporter's metrics are queried one by one. */
const MAX_OTHERS = 50;

function lastSeen(series: readonly Series[], place: Place): Map<string, number | null> {
  const seen = new Map<string, number | null>();
  for (const one of series) {
    const name = one.labels[place] ?? "";
    seen.set(name, Math.max(seen.get(name) ?? 0, one.last_time ?? 0) || null);
  }
  return seen;
}

/** The vitals of all hosts with node_exporter's metrics, live; no queries unless enabled. */
export function useVitals(place: Place, isEnabled: boolean): { status: QueryResult["status"]; of: (name: string) => Vitals } {
  const has: Matcher = { label: place, operator: "!=", value: "" };
  const select = (metric: string, ...more: Matcher[]) => toSelector(metric, [has, ...more]);
  const by = [place];
  const useMetric = (match: string, fn: Fn, across: Across, names: readonly string[] = by) =>
    useQuery(isEnabled ? { match, fn, by: names, across } : null, SPAN, STEP_MS);
  const idle = useMetric(select("node_cpu_seconds_total", equal("mode", "idle")), "rate", "avg");
  const cores = useMetric(select("node_cpu_seconds_total", equal("mode", "idle")), "last", "count");
  const available = useMetric(select("node_memory_MemAvailable_bytes"), "last", "sum");
  const total = useMetric(select("node_memory_MemTotal_bytes"), "last", "sum");
  const load = useMetric(select("node_load1"), "last", "max");
  const received = useMetric(select("node_network_receive_bytes_total", NO_REAL_DEVICE), "rate", "sum");
  const sent = useMetric(select("node_network_transmit_bytes_total", NO_REAL_DEVICE), "rate", "sum");
  const byMount = [place, "mountpoint"];
  const size = useMetric(select("node_filesystem_size_bytes", NO_REAL_FILESYSTEM), "last", "max", byMount);
  const free = useMetric(select("node_filesystem_free_bytes", NO_REAL_FILESYSTEM), "last", "max", byMount);
  const usable = useMetric(select("node_filesystem_avail_bytes", NO_REAL_FILESYSTEM), "last", "max", byMount);

  const lineOf = (result: QueryResult, name: string) => linesBy(result, place).get(name)?.[0];
  const value = (result: QueryResult, name: string) => newest(result, lineOf(result, name));
  const of = (name: string): Vitals => {
    const line = lineOf(idle, name);
    const busy = newest(idle, line);
    const totalBytes = value(total, name);
    const availableBytes = value(available, name);
    return {
      cpu: busy === null ? null : clamped(1 - busy),
      memory: totalBytes && availableBytes !== null ? clamped(1 - availableBytes / totalBytes) : null,
      memoryTotal: totalBytes,
      ...fullest({ size, free, usable }, place, name),
      received: value(received, name),
      sent: value(sent, name),
      load: value(load, name),
      cores: value(cores, name),
      history: line?.values.map((v) => (typeof v === "number" ? clamped(1 - v) : v)) ?? [],
      lastMs: lastTime(load, lineOf(load, name)),
    };
  };
  return { status: worst([idle, cores, load, total, available, size, free, usable]), of };
}

type Filesystems = Record<"size" | "free" | "usable", QueryResult>;

/** As in df: space reserved for root is neither used nor free. Without `free`, none is reserved. */
function fullest({ size, free, usable }: Filesystems, place: Place, name: string): { disk: number | null; diskMount: string } {
  let disk: number | null = null;
  let diskMount = "";
  for (const line of linesBy(size, place).get(name) ?? []) {
    const mount = line.labels["mountpoint"] ?? "";
    const of = (result: QueryResult) =>
      newest(result, linesBy(result, place).get(name)?.find((one) => (one.labels["mountpoint"] ?? "") === mount));
    const [all, left] = [newest(size, line), of(usable)];
    if (!all || left === null) continue;
    const used = all - (of(free) ?? left);
    const fraction = clamped(used / (used + left || 1));
    if (disk === null || fraction > disk) [disk, diskMount] = [fraction, mount];
  }
  return { disk, diskMount };
}

const found = new WeakMap<QueryResult, Map<string, Line[]>>();

/** The lines of each host, found once per result, because there may be hundreds of both. */
function linesBy(result: QueryResult, place: Place): Map<string, Line[]> {
  const known = found.get(result);
  if (known) return known;
  const by = new Map<string, Line[]>();
  for (const line of result.lines) {
    const name = line.labels[place] ?? "";
    by.set(name, [...(by.get(name) ?? []), line]);
  }
  found.set(result, by);
  return by;
}

const clamped = (value: number): number => Math.min(Math.max(value, 0), 1);

function worst(results: readonly QueryResult[]): QueryResult["status"] {
  if (results.some((one) => one.status === "failed")) return "failed";
  return results.some((one) => one.status === "loading") ? "loading" : "ready";
}

/** When a host last sent, to a step: the end of the newest step with a value. */
function lastTime(result: QueryResult, line: QueryResult["lines"][number] | undefined): number | null {
  if (!line) return null;
  for (let at = line.values.length - 1; at >= 0; at--)
    if (typeof line.values[at] === "number") return Math.min((result.times[at] ?? 0) * 1000 + result.stepMs, serverNow());
  return null;
}

/** How urgently a host needs attention; larger is more urgent. */
export function urgency(vitals: Vitals, isSilent: boolean): number {
  if (isSilent) return 10;
  const load = vitals.load !== null && vitals.cores ? vitals.load / vitals.cores / 4 : 0;
  const levels = [vitals.cpu, vitals.memory, vitals.disk, load].map((fraction) => level(fraction ?? 0));
  // Only nearly full resources count, or cards would change places all the time.
  return Math.max(...levels) * 3 + levels.filter((one) => one > 0).length / 2;
}

const level = (fraction: number): number => (fraction >= 0.95 ? 2 : fraction >= 0.85 ? 1 : 0);
