/** Who is signed in, and how one can be. */

import { useEffect, useState } from "preact/hooks";
import { api, Problem, type Session, whenRefused } from "./api";

/** Null until the server has told; why it does not is `problem`. */
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

/** The key is sent this once, and kept nowhere. */
export async function signInWithKey(key: string): Promise<void> {
  try {
    tell(await api.signIn({}, key));
  } catch (error) {
    // What the server says of a wrong key is for programs: which header to send it in.
    if (error instanceof Problem && error.status === 401) throw new Error("This key is wrong, was revoked, or has expired.");
    throw error;
  }
}

export async function signOut(): Promise<void> {
  await api.signOut();
  await askWhoIAm();
}

/** What a WebSocket offers: the protocol, and a ticket where one is needed. */
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
