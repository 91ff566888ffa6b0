/** The current route: the part of the address after `#`, so that a link restores the view. */

import { useEffect, useState } from "preact/hooks";

export interface Route {
  path: readonly string[];
  query: URLSearchParams;
}

export function readRoute(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { path: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

export function linkTo(path: readonly string[], query: Record<string, string> = {}): string {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** The host that the address names, `#/host/instance/web-1` or `#/host/web-1`; null if it names none. */
export function hostOf({ path: [view, first, second] }: Route): { label: string; name: string } | null {
  if (view !== "host" || first === undefined) return null;
  return second === undefined ? { label: "instance", name: first } : { label: first, name: second };
}

/** Changes the address; `replace` adds no entry to the history. */
export function go(link: string, how: "push" | "replace" = "push"): void {
  if (link === location.hash) return;
  if (how === "push") location.hash = link;
  else {
    history.replaceState(null, "", link);
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  }
}

export function useRoute(): Route {
  const [route, setRoute] = useState(readRoute);
  useEffect(() => {
    const changed = () => setRoute(readRoute());
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // not encoded: typed by hand
  }
}
