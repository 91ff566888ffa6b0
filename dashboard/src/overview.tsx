/** All hosts as cards, those in trouble first. */

import { useRef, useState } from "preact/hooks";
import { serverNow } from "./api";
import { Welcome } from "./welcome";
import { findHosts, type Host, type Place, SILENT_AFTER_MS, urgency, useVitals, type Vitals } from "./hosts";
import { HostSummary } from "./host";
import { useLoaded, useTicks } from "./load";
import { Meter, Notice, Sparkline } from "./parts";
import { linkTo, type Route } from "./route";
import { ago, digits, formatted } from "./units";

interface Card {
  host: Host;
  vitals: Vitals;
  lastMs: number | null;
  isSilent: boolean;
  urgency: number;
  /** Whether another host has this name, by the other label. */
  isNamesake?: boolean;
}

/** The list of hosts rarely changes, but the first host is awaited. */
const reloadAfterMs = (hosts: readonly Host[] | null): number => (hosts?.length === 0 ? 1_000 : 10_000);

/** With more cards than fit on a screen, hosts can be filtered by name. */
const MANY = 12;

export function Overview({ route }: { route: Route }) {
  const [filter, setFilter] = useState("");
  const hosts = useLoaded(findHosts, "hosts", reloadAfterMs);
  const has = (place: Place) => !!hosts.value?.some((host) => host.place === place);
  const vitals = { instance: useVitals("instance", has("instance")), host: useVitals("host", has("host")) };
  useTicks(1_000);
  // While the server is unreachable, silence cannot be determined: keep the last state.
  const knownAt = useRef(0);
  if (!hosts.problem) knownAt.current = serverNow();
  if (hosts.value === null) return hosts.problem ? <Notice kind="problem">{hosts.problem}</Notice> : <Skeletons />;
  if (hosts.value.length === 0) return <Welcome />;
  // Cards are shown once complete: sorted by trouble, they would change places.
  if (hosts.value.some((host) => vitals[host.place].status === "loading")) return <Skeletons />;
  const cards = hosts.value.map((host) => toCard(host, vitals[host.place].of(host.name), knownAt.current));
  const names = hosts.value.map((host) => host.name);
  for (const card of cards) card.isNamesake = names.indexOf(card.host.name) !== names.lastIndexOf(card.host.name);
  cards.sort((a, b) => b.urgency - a.urgency || a.host.name.localeCompare(b.host.name));
  const silent = cards.filter((card) => card.isSilent).length;
  const named = cards.filter((card) => card.host.name.toLowerCase().includes(filter.trim().toLowerCase()));
  // A single host is shown with its charts instead of a single card.
  const only = hosts.value.length === 1 ? hosts.value[0] : undefined;
  return (
    <section aria-labelledby="title">
      <header class="view">
        <h1 id="title">Overview</h1>
        <p class="summary">
          <b>{cards.length}</b> {cards.length === 1 ? "host" : "hosts"}, <b>{cards.length - silent}</b> up
          {silent > 0 && <span class="bad">, <b>{silent}</b> silent</span>}
        </p>
      </header>
      {hosts.problem && <Notice kind="problem">{hosts.problem}</Notice>}
      {cards.length > MANY && (
        <div class="finder">
          <label for="wanted">Hosts</label>
          <input id="wanted" type="search" placeholder="Find by name" value={filter} onInput={(event) => setFilter(event.currentTarget.value)} />
        </div>
      )}
      {named.length === 0 && <p class="hint">No host has that in its name.</p>}
      <ul class={`cards ${only ? "alone" : cards.length > MANY ? "many" : ""}`}>
        {named.map((card) => <li key={`${card.host.place}=${card.host.name}`}><HostCard {...card} isAlone={only !== undefined} /></li>)}
      </ul>
      {only && <HostSummary label={only.place} name={only.name} route={route} />}
      <Welcome isFolded />
    </section>
  );
}

function toCard(host: Host, vitals: Vitals, knownAt: number): Card {
  const lastMs = Math.max(host.lastSeenMs ?? 0, vitals.lastMs ?? 0) || null;
  const isSilent = lastMs === null || knownAt - lastMs > SILENT_AFTER_MS;
  return { host, vitals, lastMs, isSilent, urgency: urgency(vitals, isSilent) };
}

function HostCard({ host, vitals, lastMs, isSilent, isNamesake, isAlone }: Card & { isAlone: boolean }) {
  const isOther = !host.hasLoad && [vitals.cpu, vitals.memory, vitals.disk].every((one) => one === null);
  const load = vitals.load === null ? "–" : digits(vitals.load) + (vitals.cores ? ` on ${vitals.cores} cores` : "");
  return (
    <a class={`card ${isSilent ? "silent" : ""}`} href={linkTo(["host", host.place, host.name])}>
      <header>
        <h2 title={`${host.place}=${host.name}`}>{isNamesake && <small>{host.place}=</small>}{host.name}</h2>
        <span class={`badge ${isSilent ? "bad" : "good"}`}>{isSilent ? "silent" : "up"}</span>
      </header>
      {isOther ? <OtherMetrics series={host.series} /> : <VitalMeters name={host.name} vitals={vitals} isAlone={isAlone} />}
      <dl>
        {!isOther && <><div><dt>In</dt><dd>{formatted(vitals.received, "bytes", true)}</dd></div>
        <div><dt>Out</dt><dd>{formatted(vitals.sent, "bytes", true)}</dd></div>
        <div><dt>Load</dt><dd>{load}</dd></div></>}
        <div><dt>Seen</dt><dd>{lastMs === null ? "over 1 h ago" : ago(serverNow() - lastMs)}</dd></div>
      </dl>
    </a>
  );
}

function VitalMeters({ name, vitals, isAlone }: { name: string; vitals: Vitals; isAlone: boolean }) {
  return (
    <>
      <Sparkline values={isAlone ? withoutEmptyStart(vitals.history) : vitals.history} max={1} label={`CPU of ${name} in the last 15 minutes`} />
      <Meter name="CPU" value={vitals.cpu} text={formatted(vitals.cpu, "ratio")} />
      <Meter name="Memory" value={vitals.memory} text={formatted(vitals.memory, "ratio")} />
      <Meter name="Disk" value={vitals.disk} text={formatted(vitals.disk, "ratio")} of={vitals.diskMount} />
    </>
  );
}

/** Of a host that sends other metrics than node_exporter's. */
function OtherMetrics({ series }: { series: number }) {
  return (
    <p class="other">
      <b>{series}</b> series<br />
      <small>none of CPU, memory or disk, which InfraWatch's agent and node_exporter send</small>
    </p>
  );
}

/** Drops the empty beginning; not for adjacent cards, which show the same time range. */
function withoutEmptyStart(history: Vitals["history"]): Vitals["history"] {
  const first = history.findIndex((value) => typeof value === "number");
  return first < 0 ? history : history.slice(Math.min(first, Math.max(history.length - MIN_VALUES, 0)));
}

const MIN_VALUES = 8;

function Skeletons() {
  return (
    <section aria-busy="true" aria-label="Loading">
      <header class="view"><h1>Overview</h1><p class="summary">Looking for hosts…</p></header>
      <ul class="cards">{[1, 2, 3].map((n) => <li key={n}><div class="card skeleton" /></li>)}</ul>
    </section>
  );
}
