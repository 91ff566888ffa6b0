/** Data that a view requests once or periodically. */

import { useEffect, useState } from "preact/hooks";

export interface Loaded<T> {
  value: T | null;
  problem: string | null;
}

/** Requests when `key` changes and periodically; earlier data stays until the next response. */
export function useLoaded<T>(
  request: (signal: AbortSignal) => Promise<T>,
  key: string,
  everyMs?: number | ((value: T | null) => number),
): Loaded<T> {
  const [loaded, setLoaded] = useState<Loaded<T>>({ value: null, problem: null });
  useEffect(() => {
    setLoaded((before) => (before.value === null ? before : { value: null, problem: null }));
    const controller = new AbortController();
    let timer: number | undefined;
    const load = async () => {
      let value: T | null = null;
      try {
        value = await request(controller.signal);
        if (!controller.signal.aborted) setLoaded({ value, problem: null });
      } catch (error) {
        if (controller.signal.aborted) return;
        const problem = error instanceof Error ? error.message : String(error);
        setLoaded((before) => ({ value: before.value, problem }));
      }
      if (everyMs === undefined || controller.signal.aborted) return;
      timer = window.setTimeout(load, typeof everyMs === "number" ? everyMs : everyMs(value));
    };
    void load();
    return () => {
      controller.abort();
      window.clearTimeout(timer);
    };
  }, [key]);
  return loaded;
}

/** The current time, updated periodically, for relative times. */
export function useTicks(everyMs: number): void {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = window.setInterval(() => tick((n) => n + 1), everyMs);
    return () => window.clearInterval(timer);
  }, [everyMs]);
}
