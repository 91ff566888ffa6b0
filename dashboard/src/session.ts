/** Who is signed in, and how one can be. */

import { useEffect, useState } from "preact/hooks";
import { api, type Session, whenRefused } from "./api";

/** Null until the server has told. */
let session: Session | null = null;
const watchers = new Set<(session: Session | null) => void>();

const ASK_AGAIN_MS = 2_000;

export const isSignedOut = (now: Session): boolean => now.authentication === "required" && now.user === null;

export async function askWhoIAm(): Promise<void> {
  try {
    tell(await api.session());
  } catch {
    window.setTimeout(() => void askWhoIAm(), ASK_AGAIN_MS);
  }
}

export async function signInWithPassword(password: string): Promise<void> {
  tell(await api.signIn({ password }));
}

/** The key is sent this once, and kept nowhere. */
export async function signInWithKey(key: string): Promise<void> {
  tell(await api.signIn({}, key));
}

export async function signOut(): Promise<void> {
  await api.signOut();
  await askWhoIAm();
}

/** What a WebSocket offers: the protocol, and a ticket where one is needed. */
export async function subprotocols(): Promise<string[]> {
  if (session?.authentication !== "required") return ["infrawatch.v1"];
  return ["infrawatch.v1", `ticket.${(await api.ticket()).ticket}`];
}

export function useSession(): Session | null {
  const [now, setNow] = useState(session);
  useEffect(() => {
    watchers.add(setNow);
    setNow(session);
    return () => void watchers.delete(setNow);
  }, []);
  return now;
}

function tell(now: Session): void {
  session = now;
  for (const watcher of watchers) watcher(now);
}

whenRefused(() => {
  if (session !== null && !isSignedOut(session)) void askWhoIAm();
});
