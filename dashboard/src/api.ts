/** HTTP requests to the server, typed by its OpenAPI document. */

import type { components } from "./wire";

type Schemas = components["schemas"];
export type Labels = Record<string, string>;
export type Series = Schemas["SeriesOut"];
export type Metadata = Schemas["MetadataOut"]["metadata"];
export type LatestSample = Schemas["LatestSample"];
export type Session = Schemas["SessionOut"];
export type Group = Schemas["GroupSamples"];
export type WireValue = number | string | null;

/** One value of an instant PromQL query. */
export interface Instant {
  labels: Labels;
  value: number;
}

/** The problem that the server returned (RFC 9457), or that it was unreachable. */
export class Problem extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export interface RangeParameters {
  match: string;
  fn: string;
  step: string;
  start: string;
  end: string;
  by?: string;
  across?: string;
}

export const api = {
  series: async (match: string, signal?: AbortSignal): Promise<Series[]> => {
    const found: Series[] = [];
    let cursor: string | null = null;
    do {
      const page: Schemas["SeriesPage"] = await get("/v1/series", { match, limit: "5000", cursor }, signal);
      found.push(...page.series);
      cursor = page.next_cursor;
    } while (cursor !== null && found.length < MAX_SERIES);
    return found;
  },
  labels: (match: string | null, signal?: AbortSignal): Promise<Schemas["LabelNames"]> =>
    get("/v1/labels", { match }, signal),
  labelValues: (name: string, match: string | null, signal?: AbortSignal): Promise<Schemas["LabelValues"]> =>
    get(`/v1/labels/${encodeURIComponent(name)}/values`, { match }, signal),
  metadata: (signal?: AbortSignal): Promise<Schemas["MetadataOut"]> => get("/v1/metadata", {}, signal),
  latest: (match: string, maxAge: string, signal?: AbortSignal): Promise<Schemas["Latest"]> =>
    get("/v1/latest", { match, max_age: maxAge }, signal),
  range: (parameters: RangeParameters, signal?: AbortSignal): Promise<Schemas["RangeOut"]> =>
    get("/v1/range", { ...parameters }, signal),
  query: async (query: string, signal?: AbortSignal): Promise<Instant[]> => {
    const answer: Schemas["QueryAnswer"] = await get("/api/v1/query", { query }, signal);
    const found = answer.data.result as { metric: Labels; value: [number, string] }[];
    return found.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  },
  session: (): Promise<Session> => get("/v1/session", {}),
  signIn: (options: Schemas["SessionIn"], key?: string): Promise<Session> =>
    requestChange("POST", "/v1/session", options, key).then((response) => response.json() as Promise<Session>),
  signOut: (): Promise<Response> => requestChange("DELETE", "/v1/session"),
  ticket: (): Promise<Schemas["Ticket"]> =>
    requestChange("POST", "/v1/live/tickets").then((response) => response.json() as Promise<Schemas["Ticket"]>),
  metrics: async (signal?: AbortSignal): Promise<string> => (await request("/metrics", signal)).text(),
};

/** More than any page of the dashboard shows. */
const MAX_SERIES = 20_000;

/** The path and query of a request, without empty parameters. */
export function pathOf(path: string, parameters: Record<string, string | null | undefined>): string {
  const set = Object.entries(parameters).filter((pair): pair is [string, string] => !!pair[1]);
  return set.length ? `${path}?${new URLSearchParams(set)}` : path;
}

/** Converts a wire value to a number; null if it cannot be drawn. */
export function drawable(value: WireValue | undefined): number | null {
  return typeof value === "number" ? value : null;
}

let clockOffsetMs = 0;

/** The server's time according to its `Date` header, because the viewer's clock may be wrong. */
export const serverNow = (): number => Date.now() + clockOffsetMs;

async function get<T>(
  path: string,
  parameters: Record<string, string | null | undefined>,
  signal?: AbortSignal,
): Promise<T> {
  return (await request(pathOf(path, parameters), signal)).json() as Promise<T>;
}

/** Sends a request that changes something, marked as from this page for browsers that send no origin. */
function requestChange(method: string, url: string, body?: unknown, key?: string): Promise<Response> {
  const headers: Record<string, string> = { "X-Requested-With": "dashboard" };
  if (key !== undefined) headers["X-API-Key"] = key;
  if (body === undefined) return request(url, undefined, { method, headers });
  headers["Content-Type"] = "application/json";
  return request(url, undefined, { method, headers, body: JSON.stringify(body) });
}

/** The header has whole seconds, and that of a slow response (a laptop slept) is outdated. */
function noteServerTime(date: string, startedAt: number): void {
  const tookMs = Date.now() - startedAt;
  if (tookMs < 0 || tookMs > 3_000) return;
  const offsetMs = Date.parse(date) - Date.now();
  clockOffsetMs = Math.abs(offsetMs) > 3_000 ? offsetMs : 0;
}

let unauthorizedHandler = (): void => {};

/** Registers a callback for responses that require signing in. */
export function onUnauthorized(handler: () => void): void {
  unauthorizedHandler = handler;
}

async function request(url: string, signal?: AbortSignal, options: RequestInit = {}): Promise<Response> {
  const startedAt = Date.now();
  let response: Response;
  try {
    response = await fetch(url, signal ? { ...options, signal } : options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem("The server cannot be reached. Is it running?", 0);
  }
  noteServerTime(response.headers.get("date") ?? "", startedAt);
  if (response.ok) return response;
  if (response.status === 401) unauthorizedHandler();
  const body = (await response.json().catch(() => null)) as { detail?: string; error?: string } | null;
  const detail = body?.detail ?? body?.error ?? `The server answered ${response.status}.`;
  // The rest of the message is for senders of samples.
  throw new Problem(response.status === 503 ? `${detail.split(";")[0]}. Trying again.` : detail, response.status);
}
