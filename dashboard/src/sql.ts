/** The query of the Explore view as equivalent SQL on the view `samples`. */

import type { Across, Fn } from "./aggregate";
import type { Matcher } from "./selector";

export interface SqlQuery {
  matchers: readonly Matcher[];
  fn: Fn;
  by: readonly string[];
  across: Across | null;
  stepMs: number;
  startMs: number;
  endMs: number;
}

const literal = (text: string): string => `'${text.replace(/'/g, "''")}'`;
const time = (ms: number): string => `timestamptz ${literal(new Date(ms).toISOString())}`;

const AGGREGATES: Record<Exclude<Fn, "rate">, string> = {
  avg: "avg(value)",
  min: "min(value)",
  max: "max(value)",
  sum: "sum(value)",
  count: "count(*)",
  first: "(array_agg(value ORDER BY at))[1]",
  last: "(array_agg(value ORDER BY at DESC))[1]",
  increase: "sum(gain)",
  p50: "percentile_cont(0.5) WITHIN GROUP (ORDER BY value)",
  p90: "percentile_cont(0.9) WITHIN GROUP (ORDER BY value)",
  p95: "percentile_cont(0.95) WITHIN GROUP (ORDER BY value)",
  p99: "percentile_cont(0.99) WITHIN GROUP (ORDER BY value)",
  stddev: "stddev_pop(value)",
};

export function toSql(query: SqlQuery): string {
  const isCounter = query.fn === "rate" || query.fn === "increase";
  const aggregate =
    query.fn === "rate"
      ? "sum(gain) / extract(epoch FROM max(at) - (array_agg(since ORDER BY at))[1])"
      : AGGREGATES[query.fn];
  const isGrouped = query.by.length > 0 || query.across !== null;
  const perSeries = `  SELECT metric, labels, series_id,
         date_bin(interval '${query.stepMs} milliseconds', at, ${time(query.startMs)}) AS step,
         ${aggregate} AS value
  FROM ${isCounter ? "gains" : `samples_between(${time(query.startMs)}, ${time(query.endMs)})`}
  WHERE ${isCounter ? `since IS NOT NULL AND at >= ${time(query.startMs)}` : where(query.matchers)}
  GROUP BY metric, labels, series_id, step`;
  const gains = isCounter ? `${gainsOf(query)},\n` : "";
  return `WITH ${gains}per_series AS (\n${perSeries}\n)\n${isGrouped ? grouped(query) : PLAIN}`;
}

const PLAIN = "SELECT metric, labels, step, value FROM per_series ORDER BY series_id, step;";

/** The gains of counters, which restart from 0 when they fall; includes the sample before the span. */
function gainsOf({ matchers, startMs, endMs }: SqlQuery): string {
  return `gains AS (
  SELECT metric, labels, series_id, at, lag(at) OVER earlier AS since,
         CASE WHEN value < lag(value) OVER earlier THEN value
              ELSE value - lag(value) OVER earlier END AS gain
  FROM samples_between(${time(startMs - 300_000)}, ${time(endMs)})
  WHERE ${where(matchers)}
  WINDOW earlier AS (PARTITION BY series_id ORDER BY at)
)`;
}

function grouped({ by, across }: SqlQuery): string {
  const columns = by.map((name) => `labels ->> ${literal(name)} AS ${identifier(name)}`);
  return `SELECT ${[...columns, "step", `${across ?? "sum"}(value) AS value`].join(", ")}
FROM per_series
GROUP BY ${[...by.map((_, at) => String(at + 1)), "step"].join(", ")}
ORDER BY ${[...by.map((_, at) => String(at + 1)), "step"].join(", ")};`;
}

const identifier = (name: string): string => `"${name.replace(/"/g, '""')}"`;

function where(matchers: readonly Matcher[]): string {
  return matchers.map(condition).join("\n    AND ") || "true";
}

function condition({ label, operator, value }: Matcher): string {
  const isMetric = label === "__name__";
  // Containment can use the index on labels.
  if (operator === "=" && !isMetric && value !== "") return `labels @> ${literal(JSON.stringify({ [label]: value }))}`;
  const column = isMetric ? "metric" : `coalesce(labels ->> ${literal(label)}, '')`;
  const compared = { "=": "=", "!=": "<>", "=~": "~", "!~": "!~" }[operator];
  const isPattern = operator === "=~" || operator === "!~";
  return `${column} ${compared} ${literal(isPattern ? `^(?:${value})$` : value)}`;
}
