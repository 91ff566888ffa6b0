/** The unit of a metric, from its metadata or its name, and the format of its values. */

import type { Metadata } from "./api";

export type Unit = "bytes" | "bits" | "seconds" | "time" | "percent" | "ratio" | "celsius" | "rpm" | "none";

/** Counters are shown as rates; without metadata, they are recognised by `…_total`. */
export function isCounter(metric: string, metadata: Metadata): boolean {
  const type = metadata[metric]?.type;
  if (type === "counter") return true;
  if (type && type !== "unknown") return /_(bucket|count|sum)$/.test(metric) && type !== "gauge";
  // node_exporter does not know the type of these; nearly all are counters.
  return /_total$|_bucket$|_count$|^node_(vmstat|netstat)_(?!Tcp_CurrEstab|Ip_Forwarding)/.test(metric);
}

export function unitOf(metric: string, metadata: Metadata): Unit {
  const declared = metadata[metric]?.unit.toLowerCase() ?? "";
  if (/^(by|bytes?)$/.test(declared)) return "bytes";
  if (/^bits?$/.test(declared)) return "bits";
  if (declared === "%" || declared === "percent") return "percent";
  const name = metric.replace(/_total$/, "").toLowerCase();
  if (/(_time_seconds|_timestamp_seconds)$/.test(name) && /boot|start|timestamp|^node_time/.test(name)) return "time";
  if (/_bytes$|\.bytes$|octets$/.test(name)) return "bytes";
  if (/_bits$/.test(name)) return "none";
  if (declared === "s" || declared === "seconds" || /_seconds$/.test(name)) return "seconds";
  if (/_ratio$/.test(name)) return "ratio";
  if (/_percent$/.test(name)) return "percent";
  if (/_celsius$/.test(name)) return "celsius";
  if (/_rpm$/.test(name)) return "rpm";
  return "none";
}

/** Nothing later is a date (ECMA-262, "Time Values and Time Range"). */
const LAST_DATE_S = 8.64e12;
const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const DECIMAL = ["", "k", "M", "G", "T", "P"];

/** Formats a value with its unit; rates are per second. */
export function formatted(value: number | null | undefined, unit: Unit, isRate = false): string {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return String(value);
  const per = isRate ? "/s" : "";
  switch (unit) {
    case "bytes":
      return scaledTo(value, 1024, BINARY) + per;
    case "bits":
      return `${scaledTo(value, 1000, DECIMAL)}bit${per}`;
    case "seconds":
      // Seconds per second: a share of the time.
      return isRate ? `${digits(value * 100)} %` : seconds(value);
    case "time":
      return isRate || Math.abs(value) > LAST_DATE_S ? `${digits(value)} s${per && "/s"}` : new Date(value * 1000).toLocaleString();
    case "ratio":
      return `${digits(value * 100)} %`;
    case "percent":
      return `${digits(value)} %`;
    case "celsius":
      return `${digits(value)} °C`;
    case "rpm":
      return `${digits(value)} rpm`;
    case "none":
      return Math.abs(value) < 1000 ? digits(value) + per : scaledTo(value, 1000, DECIMAL) + per;
  }
}

function seconds(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  if (size < 120) return `${digits(value)} s`;
  if (size < 7_200) return `${digits(value / 60)} min`;
  if (size < 172_800) return `${digits(value / 3_600)} h`;
  return `${digits(value / 86_400)} d`;
}

function scaledTo(value: number, base: number, names: readonly string[]): string {
  let at = Math.abs(value) >= base ** names.length ? names.length : 0; // too large for any prefix
  while (Math.abs(value) >= base && at < names.length - 1) {
    value /= base;
    at++;
  }
  const name = names[at] ?? "";
  return name ? `${digits(value)} ${name}` : digits(value);
}

/** Formats up to three significant digits. */
export function digits(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6) return value.toExponential(2).replace(/\.?0+e\+?/, "e");
  if (size >= 100 || value === 0) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1).replace(/\.0$/, "");
  if (size >= 0.01) return value.toFixed(2).replace(/\.?0+$/, "");
  return String(Number(value.toPrecision(2)));
}

/** Formats how long ago something was. */
export function ago(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 5) return "just now";
  if (s < 90) return `${s} s ago`;
  if (s < 5_400) return `${Math.round(s / 60)} min ago`;
  if (s < 129_600) return `${Math.round(s / 3_600)} h ago`;
  return `${Math.round(s / 86_400)} d ago`;
}
