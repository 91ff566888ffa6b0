/** Findings about a host that need attention: limits that are near, waits, losses. */

import { api, type Labels } from "./api";
import { NO_REAL_DEVICE, NO_REAL_FILESYSTEM } from "./hosts";
import { type Matcher, toSelector } from "./selector";
import { digits, formatted } from "./units";

export interface Finding {
  text: string;
  isBad: boolean;
  /** The metric that shows the details. */
  metric: string;
}

/** PromQL with a result only if there is a finding; `of` adds the host to a metric. */
interface Check {
  query: (of: (metric: string, ...more: Matcher[]) => string) => string;
  metric: string;
  /** From this value on, the finding is critical. */
  bad: number;
  text: (value: number, labels: Labels) => string;
}

const percent = (value: number): string => formatted(value, "ratio");
const waiting = (what: string, least: number): Check => ({
  query: (of) => `rate(${of(`node_pressure_${what}_waiting_seconds_total`)}[2m]) > ${least}`,
  metric: `node_pressure_${what}_waiting_seconds_total`,
  bad: 0.8,
  text: (value) => `Processes wait for ${what === "io" ? "disks" : what === "cpu" ? "CPU" : what} ${percent(value)} of the time`,
});
const nearly = (used: string, limit: string, what: string): Check => ({
  query: (of) => `${of(used)} / ${of(limit)} > 0.8`,
  metric: used,
  bad: 0.95,
  text: (value) => `${what}: ${percent(value)} of the limit`,
});
const counted = (metric: string, span: string, what: string): Check => ({
  query: (of) => `increase(${of(metric)}[${span}]) >= 1`,
  metric,
  bad: 1,
  text: (value) => `${digits(Math.round(value))} ${what}`,
});

const IDLE: Matcher = { label: "mode", operator: "=", value: "idle" };

const CHECKS: readonly Check[] = [
  {
    // Divided by all modes together, not by time: the rates of a new host cover a part of the span.
    query: (of) => `1 - sum(rate(${of("node_cpu_seconds_total", IDLE)}[2m])) / sum(rate(${of("node_cpu_seconds_total")}[2m])) > 0.85`,
    metric: "node_cpu_seconds_total",
    bad: 0.95,
    text: (value) => `CPU ${percent(value)} busy`,
  },
  waiting("cpu", 0.4),
  waiting("io", 0.3),
  waiting("memory", 0.1),
  {
    query: (of) => `1 - ${of("node_memory_MemAvailable_bytes")} / ${of("node_memory_MemTotal_bytes")} > 0.85`,
    metric: "node_memory_MemAvailable_bytes",
    bad: 0.95,
    text: (value) => `Memory ${percent(value)} used`,
  },
  {
    query: (of) => `rate(${of("node_vmstat_pswpin")}[5m]) > 50`,
    metric: "node_vmstat_pswpin",
    bad: 1_000,
    text: (value) => `${digits(value)} pages/s come back from swap`,
  },
  counted("node_vmstat_oom_kill", "1h", "killed for lack of memory within the hour"),
  {
    query: (of) => {
      const [size, free, usable] = ["size", "free", "avail"].map((one) => of(`node_filesystem_${one}_bytes`, NO_REAL_FILESYSTEM));
      return `1 - ${usable} / (${size} - ${free} + ${usable}) > 0.85`;
    },
    metric: "node_filesystem_avail_bytes",
    bad: 0.95,
    text: (value, labels) => `${labels["mountpoint"] ?? "A disk"} is ${percent(value)} full`,
  },
  {
    query: (of) => `1 - ${of("node_filesystem_files_free", NO_REAL_FILESYSTEM)} / ${of("node_filesystem_files", NO_REAL_FILESYSTEM)} > 0.85`,
    metric: "node_filesystem_files_free",
    bad: 0.95,
    text: (value, labels) => `${labels["mountpoint"] ?? "A disk"} has ${percent(value)} of its inodes in use`,
  },
  {
    query: (of) => `rate(${of("node_disk_io_time_seconds_total")}[2m]) > 0.8`,
    metric: "node_disk_io_time_seconds_total",
    bad: 0.98,
    text: (value, labels) => `Disk ${labels["device"] ?? ""} is busy ${percent(value)} of the time`,
  },
  {
    query: (of) => `rate(${of("node_network_receive_errs_total", NO_REAL_DEVICE)}[5m]) + rate(${of("node_network_transmit_errs_total", NO_REAL_DEVICE)}[5m]) > 0.1`,
    metric: "node_network_receive_errs_total",
    bad: 10,
    text: (value, labels) => `${labels["device"] ?? "The network"}: ${digits(value)} broken packets/s`,
  },
  {
    query: (of) => `rate(${of("node_network_receive_drop_total", NO_REAL_DEVICE)}[5m]) + rate(${of("node_network_transmit_drop_total", NO_REAL_DEVICE)}[5m]) > 10`,
    metric: "node_network_receive_drop_total",
    bad: 1_000,
    text: (value, labels) => `${labels["device"] ?? "The network"} drops ${digits(value)} packets/s`,
  },
  {
    query: (of) => `(rate(${of("node_netstat_Tcp_RetransSegs")}[5m]) > 1) / rate(${of("node_netstat_Tcp_OutSegs")}[5m]) > 0.03`,
    metric: "node_netstat_Tcp_RetransSegs",
    bad: 0.1,
    text: (value) => `${percent(value)} of what TCP sends is sent again`,
  },
  counted("node_netstat_TcpExt_ListenDrops", "5m", "connections dropped at listening sockets within 5 min"),
  nearly("node_filefd_allocated", "node_filefd_maximum", "Open files"),
  nearly("node_nf_conntrack_entries", "node_nf_conntrack_entries_limit", "Tracked connections"),
  counted("infrawatch_agent_dropped_samples_total", "15m", "samples dropped by the agent within 15 min"),
];

/** A query has at most 200 parts. */
const BATCH_SIZE = 6;
const CHECK_LABEL = "finding";

/** The current findings about a host, the worst first. */
export async function findFindings(place: Matcher, signal: AbortSignal): Promise<Finding[]> {
  const of = (metric: string, ...more: Matcher[]) => toSelector(metric, [place, ...more]);
  // The number of each check is returned as a label.
  const queries = CHECKS.map((check, at) => `label_replace(${check.query(of)}, "${CHECK_LABEL}", "${at}", "", "")`);
  const batches = Array.from({ length: Math.ceil(queries.length / BATCH_SIZE) }, (_, at) => queries.slice(at * BATCH_SIZE, (at + 1) * BATCH_SIZE));
  const responses = await Promise.all(batches.map((batch) => api.query(batch.join(" or "), signal)));
  const found = responses.flat().flatMap(({ labels, value }) => {
    const check = CHECKS[Number(labels[CHECK_LABEL])];
    return check ? [{ text: check.text(value, labels), isBad: value >= check.bad, metric: check.metric }] : [];
  });
  return found.sort((a, b) => Number(b.isBad) - Number(a.isBad));
}
