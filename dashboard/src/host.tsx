/** One host: its vitals as charts, then everything else it sends, by family. */

import { useEffect, useRef, useState } from "preact/hooks";
import { api, type Metadata, type Series, serverNow } from "./api";
import { Chart } from "./chart";
import { SILENT_AFTER_MS } from "./hosts";
import { useLoaded, useTicks } from "./load";
import { families, glance, type Panel } from "./panels";
import { Notice, SpanPicker } from "./parts";
import { useQuery } from "./query";
import { go, linkTo, type Route } from "./route";
import { equal, type Matcher, toSelector } from "./selector";
import { fromText, NOW_15M, type Span, stepFor, toText } from "./span";
import { ago } from "./units";

const ASK_EVERY_MS = 30_000;

export function HostView({ route }: { route: Route }) {
  const [, label = "instance", name = ""] = route.path;
  const place = equal(label, name);
  const span = fromText(route.query.get("time"));
  const [wanted, setWanted] = useState("");
  const series = useLoaded((signal) => api.series(toSelector(null, [place]), signal), `${label}=${name}`, ASK_EVERY_MS);
  const metadata = useLoaded((signal) => api.metadata(signal), "metadata");
  const onSpan = (to: Span) => go(linkTo(route.path, { time: toText(to) }), "replace");
  return (
    <section aria-labelledby="title">
      <header class="view host">
        <div>
          <h1 id="title">{name}</h1>
          <Facts series={series.value} />
        </div>
        <SpanPicker span={span} onSpan={onSpan} />
      </header>
      {series.problem && <Notice kind="problem">{series.problem}</Notice>}
      {series.value?.length === 0 && (
        <Notice kind="empty">Nothing here has {label}={name}. <a href={linkTo([])}>All hosts</a></Notice>
      )}
      {series.value && series.value.length > 0 && (
        <>
          <Panels panels={glance(series.value, place)} span={span} onSpan={onSpan} />
          <div class="finder">
            <label for="wanted">All metrics</label>
            <input id="wanted" type="search" placeholder="Find by name or help" value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />
          </div>
          <Everything series={series.value} place={place} metadata={metadata.value?.metadata ?? {}} wanted={wanted} span={span} onSpan={onSpan} />
        </>
      )}
    </section>
  );
}

/** The vitals of a host as charts, for where it is not alone on the page. */
export function Glance({ label, name }: { label: string; name: string }) {
  const [span, setSpan] = useState(NOW_15M);
  const place = equal(label, name);
  const series = useLoaded((signal) => api.series(toSelector(null, [place]), signal), `${label}=${name}`, ASK_EVERY_MS);
  return series.value && <Panels panels={glance(series.value, place)} span={span} onSpan={setSpan} />;
}

function Facts({ series }: { series: readonly Series[] | null }) {
  useTicks(1_000);
  if (series === null) return <p class="facts">Loading…</p>;
  const uname = series.find((one) => one.metric === "node_uname_info")?.labels;
  const last = Math.max(...series.map((one) => one.last_time ?? 0));
  const age = serverNow() - last;
  return (
    <p class="facts">
      <span class={`badge ${age > SILENT_AFTER_MS + ASK_EVERY_MS ? "bad" : "good"}`}>
        {age > SILENT_AFTER_MS + ASK_EVERY_MS ? `silent, seen ${ago(age)}` : "up"}
      </span>
      {uname && <span>{[uname["sysname"], uname["release"], uname["machine"]].filter(Boolean).join(" ")}</span>}
      <span>{series.length} series</span>
    </p>
  );
}

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

interface EverythingProps extends Omit<PanelsProps, "panels"> {
  series: readonly Series[];
  place: Matcher;
  metadata: Metadata;
  wanted: string;
}

function Everything({ series, place, metadata, wanted, span, onSpan }: EverythingProps) {
  const found = families(series, place, metadata, wanted);
  if (found.length === 0) return <Notice kind="empty">No metric of this host is called or explained like that.</Notice>;
  return <>{found.map((one) => <FamilyPart key={one.name} name={one.name} isOpen={wanted.trim() !== ""} panels={one.panels} span={span} onSpan={onSpan} />)}</>;
}

function FamilyPart({ name, isOpen, ...rest }: PanelsProps & { name: string; isOpen: boolean }) {
  const [opened, setOpened] = useState(false);
  return (
    <details class="family" open={opened || isOpen} onToggle={(event) => setOpened(event.currentTarget.open && !isOpen)}>
      <summary>{name} <span class="count">{rest.panels.length}</span></summary>
      {(opened || isOpen) && <Panels {...rest} />}
    </details>
  );
}

/** A chart that asks for its samples when it comes into sight, and stops when it leaves. */
function LazyPanel({ panel, span, onSpan }: { panel: Panel; span: Span; onSpan: (span: Span) => void }) {
  const place = useRef<HTMLDivElement>(null);
  const [isSeen, setSeen] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => setSeen(entries.some((one) => one.isIntersecting)), { rootMargin: "200px" });
    if (place.current) observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  const picture = useQuery(isSeen ? panel.question : null, span, stepFor(span.lengthMs));
  return (
    <div class="panel" ref={place}>
      <Chart {...panel} picture={picture} span={span} onSpan={onSpan} />
      <a class="explore" href={exploreLink(panel, span)} aria-label={`Explore ${panel.title}`}>Explore</a>
    </div>
  );
}

function exploreLink({ question }: Panel, span: Span): string {
  const { match, fn, by = [], across = "" } = question;
  return linkTo(["explore"], { match, fn, by: by.join(","), across, time: toText(span) });
}
