/** One host: its vitals as charts, then everything else it sends, by family. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, drawable, type Metadata, type Series, serverNow } from "./api";
import { Chart } from "./chart";
import { SILENT_AFTER_MS } from "./hosts";
import { findFindings } from "./findings";
import { type Loaded, useLoaded, useTicks } from "./load";
import { families, mainPanelsOf, oneOf, type Panel } from "./panels";
import { Notice, SpanPicker } from "./parts";
import { useQuery } from "./query";
import { go, linkTo, type Route } from "./route";
import { equal, type Matcher, toSelector } from "./selector";
import { fromText, NOW_15M, type Span, spanSince, stepFor, toText } from "./span";
import { ago, formatted } from "./units";

const RELOAD_EVERY_MS = 30_000;
const FINDINGS_EVERY_MS = 15_000;

interface PlaceProps {
  label: string;
  name: string;
  route: Route;
}

export function HostView({ label, name, route }: PlaceProps) {
  const place = equal(label, name);
  const [filter, setFilter] = useState("");
  const series = useSeries(place);
  const span = spanOf(route, series.value);
  const metadata = useLoaded((signal) => api.metadata(signal), "metadata");
  const onSpan = spanSetter(route);
  const mainPanels = mainPanelsOf(series.value ?? [], place);
  return (
    <section aria-labelledby="title">
      <header class="view host">
        <div>
          <h1 id="title">{name}</h1>
          {(series.value || !series.problem) && <Facts series={series.value} place={place} />}
        </div>
        <SpanPicker span={span} onSpan={onSpan} />
      </header>
      {series.problem && <Notice kind="problem">{series.problem}</Notice>}
      {series.value?.length === 0 && (
        <Notice kind="empty">Nothing here has {label}={name}. <a href={linkTo([])}>All hosts</a></Notice>
      )}
      {series.value && series.value.length > 0 && (
        <>
          {mainPanels.length > 0 && !isSilent(series.value) && <Findings place={place} />}
          <Panels panels={mainPanels} span={span} onSpan={onSpan} />
          <div class="finder">
            <label for="wanted">All metrics</label>
            <input id="wanted" type="search" placeholder="Find by name or help" value={filter} onInput={(event) => setFilter(event.currentTarget.value)} />
          </div>
          <AllMetrics series={series.value} place={place} metadata={metadata.value?.metadata ?? {}} filter={filter} isOnly={mainPanels.length === 0} span={span} onSpan={onSpan} />
        </>
      )}
    </section>
  );
}

/** The summary of a host that is alone on the page. */
export function HostSummary({ label, name, route }: PlaceProps) {
  const place = equal(label, name);
  const series = useSeries(place);
  if (series.value === null) return null;
  const [span, onSpan] = [spanOf(route, series.value), spanSetter(route)];
  return (
    <>
      <div class="glance"><Findings place={place} /><SpanPicker span={span} onSpan={onSpan} /></div>
      <Panels panels={mainPanelsOf(series.value, place)} span={span} onSpan={onSpan} />
    </>
  );
}

const useSeries = (place: Matcher): Loaded<Series[]> =>
  useLoaded((signal) => api.series(toSelector(null, [place]), signal), `${place.label}=${place.value}`, RELOAD_EVERY_MS);

/** The span of the address; by default what there is, and of a host that fell silent its last. */
function spanOf({ query }: Route, series: readonly Series[] | null): Span {
  const last = lastOf(series ?? []);
  const isOver = last > 0 && serverNow() - last > NOW_15M.lengthMs;
  if (isOver) return fromText(query.get("time"), { ...NOW_15M, endMs: last + AFTER_LAST_MS });
  const first = series?.reduce((least, one) => Math.min(least, one.first_time ?? least), Infinity) ?? 0;
  return fromText(query.get("time"), spanSince(Number.isFinite(first) ? first : 0));
}

const lastOf = (series: readonly Series[]): number => Math.max(0, ...series.map((one) => one.last_time ?? 0));
const isSilent = (series: readonly Series[]): boolean => serverNow() - lastOf(series) > SILENT_AFTER_MS + RELOAD_EVERY_MS;
const AFTER_LAST_MS = 15_000; // so short that legends show the last values

const spanSetter = (route: Route) => (to: Span) => go(linkTo(route.path, { time: toText(to) }), "replace");

/** Always one line, so that the charts below do not move. */
function Findings({ place }: { place: Matcher }) {
  const found = useLoaded((signal) => findFindings(place, signal), `${place.label}=${place.value}`, FINDINGS_EVERY_MS);
  if (found.value === null || found.value.length === 0)
    return <p class="findings hint">{found.problem ?? (found.value ? "Nothing stands out now." : "")}</p>;
  return (
    <ul class="findings" aria-label="Worth a look">
      {found.value.map((one) => (
        <li key={one.text}>
          <a class={`finding ${one.isBad ? "bad" : "warn"}`} href={linkTo(["explore"], { match: toSelector(one.metric, [place]) })}>{one.text}</a>
        </li>
      ))}
    </ul>
  );
}

function Facts({ series, place }: { series: readonly Series[] | null; place: Matcher }) {
  useTicks(1_000);
  const latest = useLoaded((signal) => api.latest(toSelector(null, [oneOf([BOOT, MEMORY]), place]), "all", signal), `${place.label}=${place.value}`);
  if (series === null) return <p class="facts">Loading…</p>;
  if (series.length === 0) return null;
  const valueOf = (metric: string) => drawable(latest.value?.series.find((one) => one.metric === metric)?.value);
  const uname = series.find((one) => one.metric === "node_uname_info")?.labels;
  const cores = new Set(series.filter((one) => one.metric === "node_cpu_seconds_total").map((one) => one.labels["cpu"])).size;
  const [boot, memory] = [valueOf(BOOT), valueOf(MEMORY)];
  const last = lastOf(series);
  const age = serverNow() - last;
  const silent = isSilent(series);
  return (
    <p class="facts">
      <span class={`badge ${silent ? "bad" : "good"}`}>{!silent ? "up" : last ? `silent, seen ${ago(age)}` : "silent"}</span>
      {boot !== null && !silent && <span>for {formatted(serverNow() / 1000 - boot, "seconds")}</span>}
      {uname && <span>{[uname["sysname"], uname["release"], uname["machine"]].filter(Boolean).join(" ")}</span>}
      {cores > 0 && <span>{cores} {cores === 1 ? "core" : "cores"}</span>}
      {memory !== null && <span>{formatted(memory, "bytes")} memory</span>}
      <span>{series.length} series</span>
    </p>
  );
}

const BOOT = "node_boot_time_seconds";
const MEMORY = "node_memory_MemTotal_bytes";

interface PanelsProps {
  panels: readonly Panel[];
  span: Span;
  onSpan: (span: Span) => void;
}

function Panels({ panels, span, onSpan }: PanelsProps) {
  return (
    <div class="charts">
      {panels.map((panel) => <LazyPanel key={panel.title} panel={panel} span={span} onSpan={onSpan} />)}
    </div>
  );
}

interface AllMetricsProps extends Omit<PanelsProps, "panels"> {
  series: readonly Series[];
  place: Matcher;
  metadata: Metadata;
  filter: string;
  /** Whether the page has no known charts, only these. */
  isOnly: boolean;
}

function AllMetrics({ series, place, metadata, filter, isOnly, span, onSpan }: AllMetricsProps) {
  const found = families(series, place, metadata, filter);
  if (found.length === 0) return <Notice kind="empty">No metric of this host is called or explained like that.</Notice>;
  return <>{found.map((one) => <FamilyPart key={one.name} name={one.name} isOpen={filter.trim() !== ""} isOpened={isOnly && found.length <= FEW_FAMILIES} panels={one.panels} span={span} onSpan={onSpan} />)}</>;
}

const FEW_FAMILIES = 10;

function FamilyPart({ name, isOpen, isOpened, ...rest }: PanelsProps & { name: string; isOpen: boolean; isOpened: boolean }) {
  const [opened, setOpened] = useState(isOpened);
  return (
    <details class="family" open={opened || isOpen} onToggle={(event) => setOpened(event.currentTarget.open && !isOpen)}>
      <summary>{name} <span class="count">{rest.panels.length}</span></summary>
      {(opened || isOpen) && <Panels {...rest} />}
    </details>
  );
}

/** A chart that queries its samples only while it is in view. */
function LazyPanel({ panel, span, onSpan }: { panel: Panel; span: Span; onSpan: (span: Span) => void }) {
  const place = useRef<HTMLDivElement>(null);
  const [isSeen, setSeen] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => setSeen(entries.some((one) => one.isIntersecting)), { rootMargin: "200px" });
    if (place.current) observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  const response = useQuery(isSeen ? panel.query : null, span, stepFor(span.lengthMs));
  const result = useMemo(() => (panel.transform ? { ...response, lines: panel.transform(response.lines) } : response), [response]);
  return (
    <div class="panel" ref={place}>
      <Chart {...panel} result={result} span={span} onSpan={onSpan} />
      <a class="explore" href={exploreLink(panel, span)} aria-label={`Explore ${panel.title}`}>Explore</a>
    </div>
  );
}

function exploreLink({ query }: Panel, span: Span): string {
  const { match, fn, by = [], across = "" } = query;
  return linkTo(["explore"], { match, fn, by: by.join(","), across, time: toText(span) });
}
