/** Any query as chart and table, and the same query as URL, curl and SQL. */

import { useEffect, useState } from "preact/hooks";
import { ACROSS, type Across, type Fn, FUNCTIONS } from "./aggregate";
import { api, pathOf } from "./api";
import { Chart, nameIn, plainLabels } from "./chart";
import { Welcome } from "./welcome";
import { useLoaded } from "./load";
import { Copyable, Notice, SpanPicker } from "./parts";
import { type QueryResult, type RangeQuery, useQuery } from "./query";
import { go, linkTo, type Route } from "./route";
import { parseSelector } from "./selector";
import { SelectorField } from "./selectorfield";
import { cellsOf, durationText, fromText, parseDuration, type Span, stepFor, toText } from "./span";
import { toSql } from "./sql";
import { formatted, isCounter, type Unit, unitOf } from "./units";

interface View {
  match: string;
  /** Empty: the rate of counters, the average of other metrics. */
  fn: Fn | "";
  step: string;
  by: readonly string[];
  across: Across | "";
  span: Span;
}

function fromRoute({ query }: Route): View {
  const fn = query.get("fn") ?? "";
  const across = query.get("across") ?? "";
  return {
    match: query.get("match") ?? "",
    fn: FUNCTIONS.find((one) => one === fn) ?? "",
    step: query.get("step") ?? "",
    by: (query.get("by") ?? "").split(",").map((name) => name.trim()).filter(Boolean),
    across: ACROSS.find((one) => one === across) ?? "",
    span: fromText(query.get("time")),
  };
}

const toLink = ({ match, fn, step, by, across, span }: View): string =>
  linkTo(["explore"], { match, fn, step, by: by.join(","), across, time: toText(span) });

const MAX_STEPS = 5_000;
const EXAMPLES = ["node_load1", 'node_cpu_seconds_total{mode!="idle"}', "node_network_receive_bytes_total", '{__name__=~"node_memory_Mem.*"}'];

export function Explore({ route }: { route: Route }) {
  const view = fromRoute(route);
  const change = (to: Partial<View>) => go(toLink({ ...view, ...to }), to.match === undefined ? "replace" : "push");
  const metadata = useLoaded((signal) => api.metadata(signal), "metadata");
  const labels = useLoaded((signal) => api.labels(view.match || null, signal), view.match);
  const matched = useLoaded(async (signal) => (view.match ? await metricsOf(view.match, signal) : []), view.match);
  const metrics = matched.value ?? [];
  const known = metadata.value?.metadata ?? {};
  const fn = view.fn || (metrics.length > 0 && metrics.every((one) => isCounter(one, known)) ? "rate" : "avg");
  const stepMs = stepOf(view);
  const rangeQuery: RangeQuery | null = view.match
    ? { match: view.match, fn, by: view.by, ...(view.across ? { across: view.across } : view.by.length ? { across: "sum" } : {}) }
    : null;
  const isReady = [metadata, matched].every((one) => one.value !== null || one.problem !== null);
  const result = useQuery(isReady ? rangeQuery : null, view.span, stepMs);
  const units = new Set(metrics.map((one) => unitOf(one, known)));
  const unit: Unit = fn !== "count" && units.size === 1 ? ([...units][0] ?? "none") : "none";
  const isRate = fn === "rate";
  return (
    <section aria-labelledby="title">
      <header class="view">
        <h1 id="title">Explore</h1>
        <SpanPicker span={view.span} onSpan={(span) => change({ span })} />
      </header>
      <form class="question" onSubmit={(event) => event.preventDefault()}>
        <SelectorField value={view.match} onChange={(match) => match !== view.match && change({ match })} problem={result.status === "failed" ? result.problem : null} />
        <Choice name="Function" value={view.fn} options={FUNCTIONS} empty={`auto (${fn})`} onChange={(to) => change({ fn: to })} />
        <StepField view={view} onChange={(step) => change({ step })} />
        <TextField name="Group by" value={view.by.join(",")} placeholder="no label" list="labels" onChange={(text) => change({ by: text.split(",").map((name) => name.trim()).filter(Boolean) })} />
        <datalist id="labels">
          {labels.value?.labels.filter((one) => one.name !== "__name__").map((one) => <option key={one.name} value={one.name} />)}
        </datalist>
        <Choice name="Across" value={view.across} options={ACROSS} empty={view.by.length ? "auto (sum)" : "no"} onChange={(to) => change({ across: to })} />
      </form>
      {rangeQuery === null ? (
        <Examples isEmpty={labels.value?.labels.length === 0} onChoose={(match) => change({ match })} />
      ) : (
        <>
          <div class="panel wide">
            <Chart title={view.match} note={metrics.length === 1 ? (known[metrics[0] ?? ""]?.help ?? "") : ""} result={result} unit={unit} isRate={isRate} height={320} {...(matched.value?.length === 0 && { whenEmpty: "No series matches this selector." })} span={view.span} onSpan={(span) => change({ span })} />
          </div>
          <EquivalentQueries view={view} rangeQuery={rangeQuery} stepMs={stepMs} />
          <Table result={result} unit={unit} isRate={isRate} />
        </>
      )}
    </section>
  );
}

/** The metrics that a selector matches: one, or all that fit a pattern. */
async function metricsOf(match: string, signal: AbortSignal): Promise<string[]> {
  const { values } = await api.labelValues("__name__", match, signal);
  return values.map((one) => one.value);
}

interface ChoiceProps<T extends string> {
  name: string;
  value: T | "";
  options: readonly T[];
  empty: string;
  onChange: (to: T | "") => void;
}

function Choice<T extends string>({ name, value, options, empty, onChange }: ChoiceProps<T>) {
  return (
    <label class="field">
      {name}
      <select value={value} onChange={(event) => onChange(event.currentTarget.value as T | "")}>
        <option value="">{empty}</option>
        {options.map((one) => <option key={one} value={one}>{one}</option>)}
      </select>
    </label>
  );
}

function Examples({ isEmpty, onChoose }: { isEmpty: boolean; onChoose: (match: string) => void }) {
  if (isEmpty) return <Welcome />;
  return (
    <Notice kind="empty">
      <p>Write a metric or a selector, or begin with one of these:</p>
      <p class="examples">{EXAMPLES.map((one) => <button key={one} type="button" onClick={() => onChoose(one)}>{one}</button>)}</p>
    </Notice>
  );
}

const MAX_ROWS = 200;

function Table({ result, unit, isRate }: { result: QueryResult; unit: Unit; isRate: boolean }) {
  if (result.lines.length === 0) return null;
  const nameOf = nameIn(result.lines);
  // By name, because an order by value would change with every sample.
  const named = [...result.lines].sort((a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true }));
  const rows = named.slice(0, MAX_ROWS).map((line) => {
    const values = line.values.filter((value) => typeof value === "number");
    return {
      line,
      last: values[values.length - 1],
      min: values.reduce((a, b) => Math.min(a, b), Infinity),
      mean: values.reduce((a, b) => a + b, 0) / values.length,
      max: values.reduce((a, b) => Math.max(a, b), -Infinity),
    };
  });
  const cell = (value: number | undefined) => <td>{formatted(value, unit, isRate)}</td>;
  return (
    <div class="table" role="region" aria-label="Table of series" tabIndex={0}>
      <table>
        <thead><tr><th scope="col">Series</th><th scope="col">Last</th><th scope="col">Min</th><th scope="col">Mean</th><th scope="col">Max</th></tr></thead>
        <tbody>
          {rows.map(({ line, last, min, mean, max }) => (
            <tr key={line.key}>
              <th scope="row" title={plainLabels(line.labels)}>{nameOf(line)}</th>
              {cell(last)}{cell(min)}{cell(mean)}{cell(max)}
            </tr>
          ))}
        </tbody>
      </table>
      {result.lines.length > MAX_ROWS && <p class="hint">The first {MAX_ROWS} of {result.lines.length} series.</p>}
    </div>
  );
}

/** The requested step; one that fits the span if it is invalid or makes too many steps. */
function stepOf({ step, span }: View): number {
  const requested = parseDuration(step);
  return requested && span.lengthMs / requested <= MAX_STEPS ? requested : stepFor(span.lengthMs);
}

function StepField({ view, onChange }: { view: View; onChange(step: string): void }) {
  const [requested, used] = [parseDuration(view.step), stepOf(view)];
  const wrong = requested ? "Too short for this time" : "Not a step like 30s";
  const problem = view.step !== "" && requested !== used ? `${wrong}: it is ${durationText(used)}` : undefined;
  return <TextField name="Step" value={view.step} placeholder={`auto (${durationText(used)})`} problem={problem} onChange={onChange} />;
}

interface TextFieldProps {
  name: string;
  value: string;
  placeholder: string;
  list?: string;
  problem?: string | undefined;
  onChange(text: string): void;
}

/** Keeps what is being typed: whatever arrives live draws the view again, with the old value. */
function TextField({ name, value, problem, onChange, ...others }: TextFieldProps) {
  const [draft, setDraft] = useState(value);
  useEffect(() => setDraft(value), [value]);
  return (
    <label class="field">
      {name}
      <input type="text" {...others} value={draft} aria-invalid={problem !== undefined} onInput={(event) => setDraft(event.currentTarget.value)} onChange={(event) => onChange(event.currentTarget.value.trim())} />
      {problem !== undefined && <span class="problem" role="alert">{problem}</span>}
    </label>
  );
}

function EquivalentQueries({ view, rangeQuery, stepMs }: { view: View; rangeQuery: RangeQuery; stepMs: number }) {
  const { first, last } = cellsOf(view.span, stepMs);
  const [startMs, endMs] = [first * stepMs, (last + 1) * stepMs];
  const isNow = view.span.endMs === null;
  const path = pathOf("/v1/range", {
    match: rangeQuery.match,
    fn: rangeQuery.fn,
    step: durationText(stepMs),
    by: rangeQuery.by?.join(","),
    across: rangeQuery.across,
    start: isNow ? `-${durationText(view.span.lengthMs)}` : new Date(startMs).toISOString(),
    end: isNow ? "now" : new Date(endMs).toISOString(),
  });
  const matchers = parseSelector(rangeQuery.match);
  const sql = matchers && toSql({ matchers, fn: rangeQuery.fn, by: view.by, across: rangeQuery.across ?? null, stepMs, startMs, endMs });
  return (
    <details class="same">
      <summary>The same as URL, curl and SQL</summary>
      <h3>URL</h3>
      <Copyable label="URL" text={location.origin + path} />
      <h3>curl</h3>
      <Copyable label="curl" text={`curl '${(location.origin + path).replace(/'/g, "%27")}'`} />
      {sql && <><h3>SQL</h3><Copyable label="SQL" text={sql} /></>}
    </details>
  );
}
