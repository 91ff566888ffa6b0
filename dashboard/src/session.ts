/** The current user, and the available ways to sign in. */

import { useEffect, useState } from "preact/hooks";
import { api, Problem, type Session, whenRefused } from "./api";

/** Null until the server has responded; `problem` has the reason if it does not. */
export interface Known {
  session: Session | null;
  problem: string | null;
}

let known: Known = { session: null, problem: null };
const watchers = new Set<(known: Known) => void>();

const ASK_AGAIN_MS = 2_000;

export const isSignedOut = (now: Session): boolean => now.authentication === "required" && now.user === null;

export async function askWhoIAm(): Promise<void> {
  try {
    tell(await api.session());
  } catch (error) {
    tellAll({ session: known.session, problem: error instanceof Error ? error.message : String(error) });
    window.setTimeout(() => void askWhoIAm(), ASK_AGAIN_MS);
  }
}

export async function signInWithPassword(password: string): Promise<void> {
  tell(await api.signIn({ password }));
}

/** The key is sent once and stored nowhere. */
export async function signInWithKey(key: string): Promise<void> {
  try {
    tell(await api.signIn({}, key));
  } catch (error) {
    // The server's message about a wrong key is for programs: which header to use.
    if (error instanceof Problem && error.status === 401) throw new Error("This key is wrong, was revoked, or has expired.");
    throw error;
  }
}

export async function signOut(): Promise<void> {
  await api.signOut();
  await askWhoIAm();
}

/** The subprotocols that a WebSocket offers: the protocol, and a ticket if one is needed. */
export async function subprotocols(): Promise<string[]> {
  if (known.session?.authentication !== "required") return ["infrawatch.v1"];
  return ["infrawatch.v1", `ticket.${(await api.ticket()).ticket}`];
}

export function useSession(): Known {
  const [now, setNow] = useState(known);
  useEffect(() => {
    watchers.add(setNow);
    setNow(known);
    return () => void watchers.delete(setNow);
  }, []);
  return now;
}

const tell = (now: Session): void => tellAll({ session: now, problem: null });

function tellAll(now: Known): void {
  known = now;
  for (const watcher of watchers) watcher(now);
}

whenRefused(() => {
  if (known.session !== null && !isSignedOut(known.session)) void askWhoIAm();
});
