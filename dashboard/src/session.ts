/** The current user, and the available ways to sign in. */

import { useEffect, useState } from "preact/hooks";
import { api, onUnauthorized, Problem, type Session } from "./api";

/** Null until the server has responded; `problem` has the reason if it does not. */
export interface SessionState {
  session: Session | null;
  problem: string | null;
}

let current: SessionState = { session: null, problem: null };
const listeners = new Set<(state: SessionState) => void>();

const RETRY_MS = 2_000;

export const isSignedOut = (state: Session): boolean => state.authentication === "required" && state.user === null;

export async function loadSession(): Promise<void> {
  try {
    setSession(await api.session());
  } catch (error) {
    setState({ session: current.session, problem: error instanceof Error ? error.message : String(error) });
    window.setTimeout(() => void loadSession(), RETRY_MS);
  }
}

export async function signInWithPassword(password: string): Promise<void> {
  setSession(await api.signIn({ password }));
}

/** The key is sent once and stored nowhere. */
export async function signInWithKey(key: string): Promise<void> {
  try {
    setSession(await api.signIn({}, key));
  } catch (error) {
    // The server's message about a wrong key is for programs: which header to use.
    if (error instanceof Problem && error.status === 401) throw new Error("This key is wrong, was revoked, or has expired.");
    throw error;
  }
}

export async function signOut(): Promise<void> {
  await api.signOut();
  await loadSession();
}

/** The subprotocols that a WebSocket offers: the protocol, and a ticket if one is needed. */
export async function subprotocols(): Promise<string[]> {
  if (current.session?.authentication !== "required") return ["infrawatch.v1"];
  return ["infrawatch.v1", `ticket.${(await api.ticket()).ticket}`];
}

export function useSession(): SessionState {
  const [state, setNow] = useState(current);
  useEffect(() => {
    listeners.add(setNow);
    setNow(current);
    return () => void listeners.delete(setNow);
  }, []);
  return state;
}

const setSession = (state: Session): void => setState({ session: state, problem: null });

function setState(state: SessionState): void {
  current = state;
  for (const listener of listeners) listener(state);
}

onUnauthorized(() => {
  if (current.session !== null && !isSignedOut(current.session)) void loadSession();
});
