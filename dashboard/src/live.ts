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

/** What a subscription asks for, and its callbacks. */
export interface SubscriptionHandlers {
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

export type ConnectionState = "connecting" | "live" | "behind" | "stalled" | "filled" | "stale";

export interface ConnectionStatus {
  state: ConnectionState;
  detail: string;
  /** How long this state, or the silence, has lasted; updated meanwhile. */
  durationMs?: number;
}

interface Subscription {
  handlers: SubscriptionHandlers;
  cursor: string | null;
  pendingSince: number | null;
  /** When the newest sample arrived; 0 if there is none. */
  sampleAt: number;
}

/** Two heartbeats are missing: an idle server sends one every 5 s. */
const BEHIND_MS = 11_000;
/** The connection is considered dead: a pulled cable does not close it. */
const DEAD_MS = 16_000;
/** The database does not answer the server, which polls it every second. */
const STALLED_MS = 4_000;
/** Three batches are missing: agents send every 5 s. */
const QUIET_MS = 15_000;
/** Without a connection for longer than this, the displayed data is stale. */
const STALE_MS = 10_000;
const PENDING_MS = 3_000;
const SHOW_GAP_MS = 10_000;
const MIN_RETRY_MS = 250;
const MAX_RETRY_MS = 10_000;

const LIVE: ConnectionStatus = { state: "live", detail: "Every sample arrives as it is committed." };
const QUIET = "Connected, and the server's database answers, but nothing new comes in of what is shown here.";
const STALLED = "The server's database does not answer: nothing new can be stored or shown. Senders keep what they have.";

export class LiveClient {
  private socket: WebSocket | null = null;
  private readonly subscriptions = new Map<string, Subscription>();
  private readonly listeners = new Set<(status: ConnectionStatus) => void>();
  private status: ConnectionStatus = { state: "connecting", detail: "Connecting to the server." };
  private attempts = 0;
  private lastNumber = 0;
  private retry: number | undefined;
  private generation = 0;
  private lastFrameAt = 0;
  /** Since when the server's database has not reported its commits; null while it does. */
  private stalledSince: number | null = null;
  private disconnectedSince: number | null = Date.now();
  private gapNotice: string | null = null;
  private gapStatus: ConnectionStatus = LIVE;
  private gapStatusUntil = 0;

  constructor(private readonly url: string) {
    window.setInterval(() => this.check(), 500);
    window.addEventListener("online", () => this.reconnectNow());
    window.addEventListener("offline", () => this.socket?.close());
  }

  /** Connects, and reconnects whenever the connection is lost. */
  start(): void {
    this.attempts = 0;
    this.disconnectedSince = Date.now();
    this.check();
    void this.connect();
  }

  /** Disconnects permanently. */
  stop(): void {
    this.generation++;
    window.clearTimeout(this.retry);
    this.retry = undefined;
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  /** Subscribes; the returned function unsubscribes. */
  subscribe(handlers: SubscriptionHandlers): () => void {
    const id = `s${++this.lastNumber}`;
    const subscription: Subscription = { handlers, cursor: null, pendingSince: Date.now(), sampleAt: 0 };
    this.subscriptions.set(id, subscription);
    this.sendSubscribe(id, subscription);
    return () => {
      this.subscriptions.delete(id);
      this.send({ type: "unsubscribe", id });
    };
  }

  /** Calls back with the connection state, now and whenever it changes. */
  onStatus(listener: (status: ConnectionStatus) => void): () => void {
    this.listeners.add(listener);
    listener(this.status);
    return () => this.listeners.delete(listener);
  }

  private async connect(): Promise<void> {
    this.retry = undefined;
    const generation = ++this.generation;
    let offered: string[];
    try {
      offered = await subprotocols();
    } catch {
      if (generation === this.generation) this.handleClose();
      return;
    }
    if (generation !== this.generation) return;
    const socket = new WebSocket(this.url, offered);
    this.socket = socket;
    socket.onopen = () => {
      this.lastFrameAt = Date.now();
      if (this.attempts > 0) this.gapNotice = `Reconnected after ${this.secondsDisconnected()} s; nothing is missing.`;
      this.disconnectedSince = null;
      for (const [id, subscription] of this.subscriptions) this.sendSubscribe(id, subscription);
    };
    socket.onmessage = (message) => {
      this.lastFrameAt = Date.now();
      this.attempts = 0;
      this.receive(JSON.parse(message.data as string) as Frame);
    };
    socket.onclose = () => {
      if (this.socket === socket) this.handleClose();
    };
  }

  private handleClose(): void {
    this.socket = null;
    this.disconnectedSince ??= Date.now();
    const maxWaitMs = Math.min(MIN_RETRY_MS * 2 ** this.attempts++, MAX_RETRY_MS);
    // All viewers lose the connection at the same moment and must not reconnect at the same one.
    this.retry = window.setTimeout(() => void this.connect(), maxWaitMs * (0.5 + Math.random() / 2));
    this.check();
  }

  private reconnectNow(): void {
    if (this.retry === undefined) return;
    window.clearTimeout(this.retry);
    void this.connect();
  }

  private sendSubscribe(id: string, subscription: Subscription): void {
    subscription.pendingSince = Date.now();
    this.send({
      type: "subscribe",
      id,
      match: subscription.handlers.match,
      since: subscription.handlers.since(),
      resume: subscription.cursor,
      every_ms: subscription.handlers.everyMs,
      delivery: "lossless",
    });
  }

  private send(frame: Schemas["Subscribe"] | Schemas["Unsubscribe"]): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  private receive(frame: Frame): void {
    if (frame.type === "heartbeat") this.receiveHeartbeat(frame);
    else this.dispatch(frame);
    this.check();
  }

  private receiveHeartbeat(frame: Schemas["Heartbeat"]): void {
    this.stalledSince = frame.age_ms > STALLED_MS ? Date.now() - frame.age_ms : null;
    for (const one of this.subscriptions.values()) if (one.pendingSince === null) one.cursor = frame.cursor ?? one.cursor;
  }

  private dispatch(frame: Exclude<Frame, Schemas["Heartbeat"]>): void {
    const subscription = this.subscriptions.get(frame.id ?? "");
    if (!subscription) return;
    const { handlers } = subscription;
    switch (frame.type) {
      case "subscribed":
        handlers.onSeries(frame.series);
        if (subscription.cursor !== null) subscription.pendingSince = null;
        break;
      case "series":
        handlers.onSeries(frame.added);
        break;
      case "snapshot":
        subscription.pendingSince = null;
        subscription.cursor = frame.cursor;
        this.noteSamples(subscription, newestTime(frame.samples) + Date.now() - serverNow());
        handlers.onSnapshot(frame.samples);
        break;
      case "update":
        subscription.pendingSince = null;
        subscription.cursor = frame.cursor;
        this.noteSamples(subscription, Object.keys(frame.samples).length ? Date.now() : 0);
        handlers.onUpdate(frame.samples);
        break;
      case "gap":
        subscription.pendingSince = Date.now();
        this.gapNotice = `${GAPS[frame.reason]} It was filled from the store.`;
        handlers.onGap();
        break;
      case "error":
        this.handleError(frame.id ?? "", subscription, frame.problem);
    }
  }

  /** Samples of a snapshot arrived at their own times, those of an update arrive now. */
  private noteSamples(subscription: Subscription, at: number): void {
    this.stalledSince = null;
    subscription.sampleAt = Math.max(subscription.sampleAt, Math.min(at, Date.now()));
  }

  private handleError(id: string, subscription: Subscription, problem: Schemas["Problem"]): void {
    subscription.cursor = null;
    if (problem.status !== 503) {
      subscription.pendingSince = null;
      subscription.handlers.onProblem(problem.detail);
      return;
    }
    window.setTimeout(() => {
      if (this.subscriptions.get(id) === subscription) this.sendSubscribe(id, subscription);
    }, 2_000);
  }

  private check(): void {
    const silentMs = Date.now() - this.lastFrameAt;
    if (this.socket?.readyState === WebSocket.OPEN && this.subscriptions.size > 0 && silentMs > DEAD_MS) {
      const socket = this.socket;
      this.handleClose();
      socket.close();
    }
    const status = this.currentStatus();
    const isSame = status.state === this.status.state && status.detail === this.status.detail;
    if (isSame && seconds(status) === seconds(this.status)) return;
    this.status = status;
    for (const listener of this.listeners) listener(status);
  }

  private currentStatus(): ConnectionStatus {
    if (this.disconnectedSince !== null) {
      const disconnectedMs = Date.now() - this.disconnectedSince;
      if (disconnectedMs > STALE_MS)
        return { state: "stale", detail: "No connection: what you see is old. Trying again." };
      return { state: "connecting", detail: "Connecting to the server." };
    }
    if (this.subscriptions.size > 0 && this.stalledSince !== null)
      return { state: "stalled", detail: STALLED, durationMs: Date.now() - this.stalledSince };
    const pending = [...this.subscriptions.values()].map((one) => one.pendingSince);
    const oldest = Math.min(...pending.filter((at) => at !== null));
    if (Date.now() - oldest > PENDING_MS)
      return { state: "behind", detail: "Waiting for the server's answer." };
    if (this.subscriptions.size > 0 && Date.now() - this.lastFrameAt > BEHIND_MS)
      return { state: "behind", detail: "The server has been silent for more than 10 s." };
    if (this.gapNotice !== null && pending.every((at) => at === null)) {
      this.gapStatus = { state: "filled", detail: this.gapNotice };
      this.gapStatusUntil = Date.now() + SHOW_GAP_MS;
      this.gapNotice = null;
    }
    if (Date.now() < this.gapStatusUntil) return this.gapStatus;
    const sampleAt = Math.max(...[...this.subscriptions.values()].map((one) => one.sampleAt));
    const quietMs = sampleAt > 0 ? Date.now() - sampleAt : 0;
    return quietMs < QUIET_MS ? LIVE : { state: "live", detail: QUIET, durationMs: quietMs };
  }

  private secondsDisconnected(): number {
    return Math.max(1, Math.round((Date.now() - (this.disconnectedSince ?? Date.now())) / 1000));
  }
}

const seconds = (status: ConnectionStatus): number => Math.floor((status.durationMs ?? 0) / 1000);

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
