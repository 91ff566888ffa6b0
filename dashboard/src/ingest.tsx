/** The state of ingest, for operators. */

import { useEffect, useState } from "preact/hooks";
import { api, type LatestSample, serverNow } from "./api";
import { Chart } from "./chart";
import { Welcome } from "./welcome";
import { type ParsedSample, parseExposition, quantileOf, sumOf, sumsBy } from "./exposition";
import { useLoaded } from "./load";
import { Notice } from "./parts";
import type { QueryResult } from "./query";
import { linkTo } from "./route";
import { toSelector } from "./selector";
import { ago, digits, formatted } from "./units";

interface Reading {
  atMs: number;
  all: ParsedSample[];
}

const READ_EVERY_MS = 2_000;
const MAX_READINGS = 150;
/** Rates cover this many readings, because agents send every few seconds. */
const RATE_READINGS = 5;
const AGENT_METRICS = '{__name__=~"infrawatch_agent_(info|spool_samples|dropped_samples_total|refused_samples_total)"}';

/** Explanations of the codes of refused samples, for people who did not send them. */
const REASONS: Record<string, string> = {
  too_old: "older than INFRAWATCH_RETENTION or INFRAWATCH_MAX_PAST",
  too_far_in_future: "further ahead than INFRAWATCH_MAX_FUTURE; is the sender's clock right?",
  invalid_metric: "the name of the metric has characters that are not allowed",
  invalid_label_name: "the name of a label has characters that are not allowed",
  invalid_label_value: "the value of a label cannot be stored",
  too_many_labels: "more than 64 labels",
  too_long: "a name or a value is longer than allowed",
  too_many_series: "the tenant has as many active series as its limit allows (infrawatch limits)",
  too_many_new_series: "more series at once that are not known yet than a request may bring",
  string_field: "text, which is no sample: make it a tag, or leave the field out",
  malformed_line: "a line that is not written as its format wants it",
  wrong_type: "a field or value of another type than expected",
  not_finite: "NaN or infinity, which JSON cannot say",
};

export function Ingest() {
  const { readings, problem } = useReadings();
  const agents = useLoaded((signal) => api.latest(AGENT_METRICS, "1h", signal), "agents", 5_000);
  const last = readings[readings.length - 1];
  const before = readings[Math.max(0, readings.length - 1 - RATE_READINGS)];
  if (!last || !before) return problem ? <Notice kind="problem">{problem}</Notice> : <p class="hint">Reading /metrics…</p>;
  if (sumOf(last.all, "infrawatch_samples_accepted_total") === 0 && sumOf(last.all, "infrawatch_samples_rejected_total") === 0)
    return <Welcome />;
  return (
    <section aria-labelledby="title">
      <header class="view">
        <h1 id="title">Ingest</h1>
        <p class="summary">Since this server started, from its <a href="/metrics">/metrics</a></p>
      </header>
      {problem && <Notice kind="problem">{problem}</Notice>}
      <Tiles last={last} before={before} />
      <div class="panel wide">
        <Chart title="Samples per second" note="by protocol, while this page is open" result={rates(readings)} unit="none" isRate span={SPAN} onSpan={() => undefined} />
      </div>
      <div class="columns">
        <Protocols last={last} before={before} />
        <Refused last={last} />
      </div>
      <Agents samples={agents.value?.series ?? []} problem={agents.problem} />
    </section>
  );
}

const SPAN = { lengthMs: MAX_READINGS * READ_EVERY_MS, endMs: null };

/** Polls /metrics while the page is visible. */
function useReadings(): { readings: Reading[]; problem: string | null } {
  const [readings, setReadings] = useState<Reading[]>([]);
  const read = useLoaded(async (signal) => ({ atMs: Date.now(), all: parseExposition(await api.metrics(signal)) }), "metrics", READ_EVERY_MS);
  useEffect(() => {
    const { value } = read;
    if (value) setReadings((before) => [...before.slice(-MAX_READINGS), value]);
  }, [read.value]);
  return { readings, problem: read.problem };
}

function perSecond(before: Reading, last: Reading, value: (all: readonly ParsedSample[]) => number): number | null {
  const s = (last.atMs - before.atMs) / 1000;
  // Negative if the server was restarted in between.
  return s > 0 ? Math.max(0, value(last.all) - value(before.all)) / s : null;
}

function rates(readings: readonly Reading[]): QueryResult {
  const last = readings[readings.length - 1];
  const formats = [...sumsBy(last?.all ?? [], "infrawatch_samples_accepted_total", "format").keys()].sort();
  const of = (all: readonly ParsedSample[], format: string) => sumsBy(all, "infrawatch_samples_accepted_total", "format").get(format) ?? 0;
  const shown = readings.slice(2);
  return {
    status: shown.length ? "ready" : "loading",
    problem: "",
    stepMs: READ_EVERY_MS,
    // An empty first step, so that the chart does not stretch as it fills.
    times: [(last?.atMs ?? 0) / 1000 - SPAN.lengthMs / 1000, ...shown.map((one) => one.atMs / 1000)],
    lines: shown.length === 0 ? [] : formats.map((format) => ({
      key: format,
      metric: null,
      labels: { format },
      values: [null, ...shown.map((one, at) => perSecond(readings[Math.max(0, at + 2 - RATE_READINGS)] ?? one, one, (all) => of(all, format)))],
    })),
  };
}

function Tiles({ last, before }: { last: Reading; before: Reading }) {
  const value = (name: string) => sumOf(last.all, name);
  const accepted = perSecond(before, last, (all) => sumOf(all, "infrawatch_samples_accepted_total"));
  const refused = value("infrawatch_samples_rejected_total");
  const nothing: ParsedSample[] = [];
  const tiles: [string, string, string, boolean][] = [
    ["Samples", formatted(accepted, "none", true), `${formatted(value("infrawatch_samples_accepted_total"), "none")} in all`, false],
    ["Refused", formatted(refused, "none"), refused ? "see the reasons below" : "none, by any code", refused > 0],
    ["Waiting", formatted(value("infrawatch_write_backlog_samples"), "none"), "samples before their commit", value("infrawatch_write_backlog_samples") > 100_000],
    [
      "Commit",
      formatted(quantileOf(nothing, last.all, "infrawatch_commit_duration_seconds", 0.5), "seconds"),
      `half are faster; 99 %: ${formatted(quantileOf(nothing, last.all, "infrawatch_commit_duration_seconds", 0.99), "seconds")}`,
      false,
    ],
    ["Live lag", formatted(value("infrawatch_live_lag_seconds"), "seconds"), `${value("infrawatch_live_subscriptions")} subscriptions`, value("infrawatch_live_lag_seconds") > 5],
    ["Failed groups", formatted(value("infrawatch_groups_failed_total"), "none"), "senders were told to try again", value("infrawatch_groups_failed_total") > 0],
  ];
  return (
    <dl class="tiles">
      {tiles.map(([name, text, note, isBad]) => (
        <div key={name} class={isBad ? "bad" : ""}><dt>{name}</dt><dd><b>{text}</b><small>{note}</small></dd></div>
      ))}
    </dl>
  );
}

function Protocols({ last, before }: { last: Reading; before: Reading }) {
  const accepted = sumsBy(last.all, "infrawatch_samples_accepted_total", "format");
  const refused = sumsBy(last.all, "infrawatch_samples_rejected_total", "format");
  const formats = [...new Set([...accepted.keys(), ...refused.keys()])].sort();
  return (
    <div class="box">
      <h2>Protocols</h2>
      <table>
        <thead><tr><th scope="col">Protocol</th><th scope="col">Now</th><th scope="col">Accepted</th><th scope="col">Refused</th></tr></thead>
        <tbody>
          {formats.map((format) => (
            <tr key={format}>
              <th scope="row">{format}</th>
              <td>{formatted(perSecond(before, last, (all) => sumsBy(all, "infrawatch_samples_accepted_total", "format").get(format) ?? 0), "none", true)}</td>
              <td>{formatted(accepted.get(format) ?? 0, "none")}</td>
              <td>{formatted(refused.get(format) ?? 0, "none")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Refused({ last }: { last: Reading }) {
  const refused = last.all.filter((one) => one.name === "infrawatch_samples_rejected_total" && one.value > 0);
  refused.sort((a, b) => b.value - a.value);
  return (
    <div class="box">
      <h2>Refused</h2>
      {refused.length === 0 ? <p class="hint">Every sample that was sent has been accepted.</p> : (
        <table>
          <thead><tr><th scope="col">Code</th><th scope="col">Protocol</th><th scope="col">Samples</th></tr></thead>
          <tbody>
            {refused.map(({ labels, value }) => (
              <tr key={`${labels["format"]} ${labels["code"]}`}>
                <th scope="row"><code>{labels["code"]}</code><small>{REASONS[labels["code"] ?? ""] ?? "the sender's answer says which, and why"}</small></th>
                <td>{labels["format"]}</td>
                <td>{formatted(value, "none")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}

function Agents({ samples, problem }: { samples: readonly LatestSample[]; problem: string | null }) {
  const names = [...new Set(samples.map((one) => one.labels["instance"] ?? ""))].sort();
  const of = (name: string, metric: string) => samples.filter((one) => one.labels["instance"] === name && one.metric === metric);
  const sum = (name: string, metric: string) => of(name, metric).reduce((all, one) => all + Number(one.value), 0);
  return (
    <div class="box">
      <h2>Agents</h2>
      {problem && <Notice kind="problem">{problem}</Notice>}
      {names.length === 0 ? <p class="hint">None was heard within the hour; other senders show under Protocols and in <a href={linkTo(["explore"], { match: toSelector("up", []) })}>up</a>.</p> : (
        <div class="table" role="region" aria-label="Table of agents" tabIndex={0}>
          <table>
            <thead><tr><th scope="col">Host</th><th scope="col">Version</th><th scope="col">Seen</th><th scope="col">Spooled</th><th scope="col">Dropped</th><th scope="col">Refused</th></tr></thead>
            <tbody>
              {names.map((name) => {
                const info = of(name, "infrawatch_agent_info")[0];
                return (
                  <tr key={name}>
                    <th scope="row"><a href={linkTo(["host", "instance", name])}>{name}</a></th>
                    <td>{info?.labels["version"] ?? "–"}</td>
                    <td>{info ? ago(serverNow() - info.time) : "–"}</td>
                    <td>{digits(sum(name, "infrawatch_agent_spool_samples"))}</td>
                    <td>{digits(sum(name, "infrawatch_agent_dropped_samples_total"))}</td>
                    <td>{digits(sum(name, "infrawatch_agent_refused_samples_total"))}</td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
    </div>
  );
}
