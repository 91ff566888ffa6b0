/** Live updates: one WebSocket per page, subscriptions that resume, and the connection state. */

import { serverNow } from "./api";
import { subprotocols } from "./session";
import type { components } from "./wire";

type Schemas = components["schemas"];
export type SeriesName = Schemas["SeriesName"];
export type Samples = Schemas["Update"]["samples"];
type Frame =
  | Schemas["Subscribed"]
  | Schemas["SeriesAdded"]
  | Schemas["Snapshot"]
  | Schemas["Update"]
  | Schemas["Gap"]
  | Schemas["Error"]
  | Schemas["Heartbeat"];

/** A subscriber to the samples of a selector as they are committed. */
export interface Follower {
  match: string;
  /** Where a snapshot begins; called each time one is needed. */
  since(): string;
  everyMs: number;
  onSeries(series: SeriesName[]): void;
  onSnapshot(samples: Samples): void;
  onUpdate(samples: Samples): void;
  /** Samples are missing on this connection; a snapshot follows. */
  onGap(): void;
  onProblem(detail: string): void;
}

export type LinkState = "connecting" | "live" | "behind" | "stalled" | "filled" | "stale";

export interface Link {
  state: LinkState;
  detail: string;
  /** How long this state, or the silence, has lasted; updated meanwhile. */
  lastsMs?: number;
}

interface Subscription {
  follower: Follower;
  cursor: string | null;
  waitsSince: number | null;
  /** When the newest sample arrived; 0 if there is none. */
  sampleAt: number;
}

/** Two heartbeats are missing: an idle server sends one every 5 s. */
const BEHIND_MS = 11_000;
/** The connection is considered dead: a pulled cable does not close it. */
const DEAD_MS = 16_000;
/** The database does not answer the server, which asks it every second. */
const STALLED_MS = 4_000;
/** Three batches are missing: agents send every 5 s. */
const QUIET_MS = 15_000;
/** Without a connection for longer than this, the displayed data is stale. */
const STALE_MS = 10_000;
const SNAPSHOT_PATIENCE_MS = 3_000;
const SHOW_FILLED_MS = 10_000;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 10_000;

const LIVE: Link = { state: "live", detail: "Every sample arrives as it is committed." };
const QUIET = "Connected, and the server's database answers, but nothing new comes in of what is shown here.";
const STALLED = "The server's database does not answer: nothing new can be stored or shown. Senders keep what they have.";

export class LiveClient {
  private socket: WebSocket | null = null;
  private readonly subscriptions = new Map<string, Subscription>();
  private readonly watchers = new Set<(link: Link) => void>();
  private link: Link = { state: "connecting", detail: "Connecting to the server." };
  private attempts = 0;
  private numbers = 0;
  private retry: number | undefined;
  private turn = 0;
  private lastFrameAt = 0;
  /** Since when the server's database has not reported its commits; null while it does. */
  private stalledSince: number | null = null;
  private downSince: number | null = Date.now();
  private fills: string | null = null;
  private filled: Link = LIVE;
  private filledUntil = 0;

  constructor(private readonly url: string) {
    window.setInterval(() => this.check(), 500);
    window.addEventListener("online", () => this.reconnectNow());
    window.addEventListener("offline", () => this.socket?.close());
  }

  /** Connects, and reconnects whenever the connection is lost. */
  start(): void {
    this.attempts = 0;
    this.downSince = Date.now();
    this.check();
    void this.connect();
  }

  /** Disconnects permanently. */
  stop(): void {
    this.turn++;
    window.clearTimeout(this.retry);
    this.retry = undefined;
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  /** Subscribes; the returned function unsubscribes. */
  follow(follower: Follower): () => void {
    const id = `s${++this.numbers}`;
    const subscription: Subscription = { follower, cursor: null, waitsSince: Date.now(), sampleAt: 0 };
    this.subscriptions.set(id, subscription);
    this.subscribe(id, subscription);
    return () => {
      this.subscriptions.delete(id);
      this.send({ type: "unsubscribe", id });
    };
  }

  /** Calls back with the connection state, now and whenever it changes. */
  watch(watcher: (link: Link) => void): () => void {
    this.watchers.add(watcher);
    watcher(this.link);
    return () => this.watchers.delete(watcher);
  }

  private async connect(): Promise<void> {
    this.retry = undefined;
    const turn = ++this.turn;
    let offered: string[];
    try {
      offered = await subprotocols();
    } catch {
      if (turn === this.turn) this.lost();
      return;
    }
    if (turn !== this.turn) return;
    const socket = new WebSocket(this.url, offered);
    this.socket = socket;
    socket.onopen = () => {
      this.lastFrameAt = Date.now();
      if (this.attempts > 0) this.fills = `Reconnected after ${this.secondsDown()} s; nothing is missing.`;
      this.downSince = null;
      for (const [id, subscription] of this.subscriptions) this.subscribe(id, subscription);
    };
    socket.onmessage = (message) => {
      this.lastFrameAt = Date.now();
      this.attempts = 0;
      this.take(JSON.parse(message.data as string) as Frame);
    };
    socket.onclose = () => {
      if (this.socket === socket) this.lost();
    };
  }

  private lost(): void {
    this.socket = null;
    this.downSince ??= Date.now();
    const longest = Math.min(FIRST_WAIT_MS * 2 ** this.attempts++, LONGEST_WAIT_MS);
    // All viewers lose the connection at the same moment and must not reconnect at the same one.
    this.retry = window.setTimeout(() => void this.connect(), longest * (0.5 + Math.random() / 2));
    this.check();
  }

  private reconnectNow(): void {
    if (this.retry === undefined) return;
    window.clearTimeout(this.retry);
    void this.connect();
  }

  private subscribe(id: string, subscription: Subscription): void {
    subscription.waitsSince = Date.now();
    this.send({
      type: "subscribe",
      id,
      match: subscription.follower.match,
      since: subscription.follower.since(),
      resume: subscription.cursor,
      every_ms: subscription.follower.everyMs,
      delivery: "lossless",
    });
  }

  private send(frame: Schemas["Subscribe"] | Schemas["Unsubscribe"]): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  private take(frame: Frame): void {
    if (frame.type === "heartbeat") this.takeHeartbeat(frame);
    else this.dispatch(frame);
    this.check();
  }

  private takeHeartbeat(frame: Schemas["Heartbeat"]): void {
    this.stalledSince = frame.age_ms > STALLED_MS ? Date.now() - frame.age_ms : null;
    for (const one of this.subscriptions.values()) if (one.waitsSince === null) one.cursor = frame.cursor ?? one.cursor;
  }

  private dispatch(frame: Exclude<Frame, Schemas["Heartbeat"]>): void {
    const subscription = this.subscriptions.get(frame.id ?? "");
    if (!subscription) return;
    const { follower } = subscription;
    switch (frame.type) {
      case "subscribed":
        follower.onSeries(frame.series);
        if (subscription.cursor !== null) subscription.waitsSince = null;
        break;
      case "series":
        follower.onSeries(frame.added);
        break;
      case "snapshot":
        subscription.waitsSince = null;
        subscription.cursor = frame.cursor;
        this.heard(subscription, newestTime(frame.samples) + Date.now() - serverNow());
        follower.onSnapshot(frame.samples);
        break;
      case "update":
        subscription.waitsSince = null;
        subscription.cursor = frame.cursor;
        this.heard(subscription, Object.keys(frame.samples).length ? Date.now() : 0);
        follower.onUpdate(frame.samples);
        break;
      case "gap":
        subscription.waitsSince = Date.now();
        this.fills = `${GAPS[frame.reason]} It was filled from the store.`;
        follower.onGap();
        break;
      case "error":
        this.refused(frame.id ?? "", subscription, frame.problem);
    }
  }

  /** Samples of a snapshot arrived at their own times, those of an update arrive now. */
  private heard(subscription: Subscription, at: number): void {
    this.stalledSince = null;
    subscription.sampleAt = Math.max(subscription.sampleAt, Math.min(at, Date.now()));
  }

  private refused(id: string, subscription: Subscription, problem: Schemas["Problem"]): void {
    subscription.cursor = null;
    if (problem.status !== 503) {
      subscription.waitsSince = null;
      subscription.follower.onProblem(problem.detail);
      return;
    }
    window.setTimeout(() => {
      if (this.subscriptions.get(id) === subscription) this.subscribe(id, subscription);
    }, 2_000);
  }

  private check(): void {
    const silentMs = Date.now() - this.lastFrameAt;
    if (this.socket?.readyState === WebSocket.OPEN && this.subscriptions.size > 0 && silentMs > DEAD_MS) {
      const socket = this.socket;
      this.lost();
      socket.close();
    }
    const link = this.currentLink();
    const isSame = link.state === this.link.state && link.detail === this.link.detail;
    if (isSame && seconds(link) === seconds(this.link)) return;
    this.link = link;
    for (const watcher of this.watchers) watcher(link);
  }

  private currentLink(): Link {
    if (this.downSince !== null) {
      const downMs = Date.now() - this.downSince;
      if (downMs > STALE_MS)
        return { state: "stale", detail: "No connection: what you see is old. Trying again." };
      return { state: "connecting", detail: "Connecting to the server." };
    }
    if (this.subscriptions.size > 0 && this.stalledSince !== null)
      return { state: "stalled", detail: STALLED, lastsMs: Date.now() - this.stalledSince };
    const waits = [...this.subscriptions.values()].map((one) => one.waitsSince);
    const oldest = Math.min(...waits.filter((at) => at !== null));
    if (Date.now() - oldest > SNAPSHOT_PATIENCE_MS)
      return { state: "behind", detail: "Waiting for the server's answer." };
    if (this.subscriptions.size > 0 && Date.now() - this.lastFrameAt > BEHIND_MS)
      return { state: "behind", detail: "The server has been silent for more than 10 s." };
    if (this.fills !== null && waits.every((at) => at === null)) {
      this.filled = { state: "filled", detail: this.fills };
      this.filledUntil = Date.now() + SHOW_FILLED_MS;
      this.fills = null;
    }
    if (Date.now() < this.filledUntil) return this.filled;
    const sampleAt = Math.max(...[...this.subscriptions.values()].map((one) => one.sampleAt));
    const quietMs = sampleAt > 0 ? Date.now() - sampleAt : 0;
    return quietMs < QUIET_MS ? LIVE : { state: "live", detail: QUIET, lastsMs: quietMs };
  }

  private secondsDown(): number {
    return Math.max(1, Math.round((Date.now() - (this.downSince ?? Date.now())) / 1000));
  }
}

const seconds = (link: Link): number => Math.floor((link.lastsMs ?? 0) / 1000);

/** 0 if there are none. */
const newestTime = (samples: Samples): number =>
  Object.values(samples).reduce((newest, pairs) => Math.max(newest, pairs[pairs.length - 1]?.[0] ?? 0), 0);

const GAPS: Record<Schemas["Gap"]["reason"], string> = {
  slow_viewer: "This browser was too slow for a moment.",
  replay_window_passed: "The connection was lost for long.",
  other_database: "The server has another database now.",
  journal_lost: "The server lost a part of its journal.",
};

export const live = new LiveClient(
  `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/live`,
);
