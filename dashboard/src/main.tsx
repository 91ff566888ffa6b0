/** The page: navigation, the current view, and the connection state. */

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import "./style.css";
import type { Session } from "./api";
import { Explore } from "./explore";
import { HostView } from "./host";
import { Ingest } from "./ingest";
import { type ConnectionState, type ConnectionStatus, live } from "./live";
import { Overview } from "./overview";
import { Notice } from "./parts";
import { hostOf, linkTo, type Route, useRoute } from "./route";
import { isSignedOut, loadSession, signOut, useSession } from "./session";
import { SignIn } from "./signin";
import { onThemeChange, switchTheme, theme } from "./theme";
import { ago } from "./units";

const VIEWS = [
  { name: "Overview", path: [] },
  { name: "Explore", path: ["explore"] },
  { name: "Ingest", path: ["ingest"] },
] as const;

/** The page, or the sign-in form. */
function App() {
  const { session, problem } = useSession();
  const isIn = session !== null && !isSignedOut(session);
  useEffect(() => {
    if (!isIn) return undefined;
    live.start();
    return () => live.stop();
  }, [isIn]);
  if (session === null) return problem && <main id="main"><Notice kind="problem">{problem}</Notice></main>;
  return isIn ? <Page session={session} /> : <main id="main"><SignIn session={session} /></main>;
}

function Page({ session }: { session: Session }) {
  const route = useRoute();
  const [at = ""] = route.path;
  useEffect(() => {
    const name = hostOf(route)?.name ?? VIEWS.find((view) => (view.path[0] ?? "") === at)?.name;
    document.title = name && at ? `${name} – InfraWatch` : "InfraWatch";
    window.scrollTo(0, 0);
  }, [route.path.join("/")]);
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>Skip to the content</a>
      <header class="bar">
        <a class="brand" href={linkTo([])}>
          <svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" /><path d="M5 18h5l3-8 5 14 4-10 2 4h3" /></svg>
          InfraWatch
        </a>
        <nav aria-label="Views">
          {VIEWS.map((view) => {
            const isHere = (view.path[0] ?? "") === at || (view.name === "Overview" && at === "host");
            return <a key={view.name} href={linkTo(view.path)} aria-current={isHere ? "page" : undefined}>{view.name}</a>;
          })}
          <a href="/docs">API</a>
        </nav>
        {session.user && <CurrentUser user={session.user} />}
        <ConnectionPill />
        <ThemeSwitch />
      </header>
      <main id="main" tabIndex={-1}><Current route={route} /></main>
    </>
  );
}

/** The skip link: a plain anchor would change the route, the part of the address after `#`. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Current({ route }: { route: Route }) {
  const host = hostOf(route);
  if (host !== null) return <HostView key={route.path.join("/")} {...host} route={route} />;
  switch (route.path[0] ?? "") {
    case "":
    case "sign-in": // after a redirect from the identity provider
      return <Overview route={route} />;
    case "explore":
      return <Explore route={route} />;
    case "ingest":
      return <Ingest />;
    default:
      return <p class="hint">There is no such view. <a href={linkTo([])}>Overview</a></p>;
  }
}

function CurrentUser({ user }: { user: NonNullable<Session["user"]> }) {
  return (
    <span class="who" title={`Tenant ${user.tenant}; may ${user.scopes.join(", ")}`}>
      <span class="unseen">Signed in as </span><b>{user.name}</b>
      <button type="button" onClick={() => void signOut()}>Sign out</button>
    </span>
  );
}

const STATES: Record<ConnectionState, string> = {
  connecting: "Connecting",
  live: "Live",
  behind: "Behind",
  stalled: "Stalled",
  filled: "Gap filled",
  stale: "Stale",
};

function ConnectionPill() {
  const [status, setStatus] = useState<ConnectionStatus>({ state: "connecting", detail: "" });
  useEffect(() => live.onStatus(setStatus), []);
  return (
    <span class={`pill ${status.state}`} role="status" title={status.detail}>
      <i aria-hidden="true" />{STATES[status.state]}<span class="unseen">. {status.detail}</span>
      {/* It changes every second, which nobody wants to have read out. */}
      {status.durationMs !== undefined && <Duration state={status.state} ms={status.durationMs} />}
    </span>
  );
}

function Duration({ state, ms }: { state: ConnectionState; ms: number }) {
  const time = ago(ms).replace(" ago", "");
  const [before, after] = state === "stalled" ? ["for ", ""] : ["last data ", " ago"];
  return <span class="lasts" aria-hidden="true"><span class="words">{before}</span>{time}<span class="words">{after}</span></span>;
}

function ThemeSwitch() {
  const [now, setNow] = useState(theme);
  useEffect(() => onThemeChange(() => setNow(theme())), []);
  const other = now === "dark" ? "light" : "dark";
  return (
    <button type="button" class="theme" aria-label={`Switch to ${other}`} title={`Switch to ${other}`} onClick={switchTheme}>
      <svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="8.5" /><path d="M12 3.5a8.5 8.5 0 0 1 0 17z" /></svg>
    </button>
  );
}

const page = document.getElementById("page");
if (page) {
  render(<App />, page);
  void loadSession();
}
