/** The sign-in form, for users without a session. */

import { useState } from "preact/hooks";
import type { Session } from "./api";
import { Notice } from "./parts";
import { readRoute } from "./route";
import { signInWithKey, signInWithPassword } from "./session";

/** Why signing in at the identity provider failed. */
const OIDC_PROBLEMS: Record<string, string> = {
  refused: "The identity provider did not let you in.",
  expired: "Signing in took too long, or began in another browser. Try again.",
  no_role: "The identity provider knows you, but you have no access here. Ask your administrator.",
  away: "The identity provider cannot be reached. Try again in a moment.",
  later: "The server could not finish signing you in. Try again in a moment.",
};

export function SignIn({ session }: { session: Session }) {
  const { path, query } = readRoute();
  const redirectProblem = path[0] === "sign-in" ? OIDC_PROBLEMS[query.get("problem") ?? ""] : undefined;
  const [problem, setProblem] = useState<string | null>(redirectProblem ?? null);
  const [isBusy, setBusy] = useState(false);
  const { oidc, password } = session.ways;
  const submitWith = (signIn: (secret: string) => Promise<void>) => async (secret: string) => {
    setBusy(true);
    setProblem(null);
    try {
      await signIn(secret);
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  return (
    <section class="box signin" aria-labelledby="signin">
      <h1 id="signin">Sign in</h1>
      {problem !== null && <Notice kind="problem">{problem}</Notice>}
      {oidc !== null && <a class="button" href="/v1/session/oidc">Sign in with {oidc}</a>}
      {password && <Secret label="Password" autocomplete="current-password" isBusy={isBusy} onSecret={submitWith(signInWithPassword)} />}
      {password || oidc !== null ? (
        <details>
          <summary>Use an API key</summary>
          <Key isBusy={isBusy} onSecret={submitWith(signInWithKey)} />
        </details>
      ) : (
        <Key isBusy={isBusy} onSecret={submitWith(signInWithKey)} />
      )}
    </section>
  );
}

interface SecretProps {
  isBusy: boolean;
  onSecret(secret: string): Promise<void>;
}

function Key(props: SecretProps) {
  return (
    <>
      <Secret label="API key" autocomplete="off" {...props} />
      <p class="hint">It needs the scope <code>read</code>: <code>infrawatch keys create --name me --scope read</code></p>
    </>
  );
}

function Secret({ label, autocomplete, isBusy, onSecret }: SecretProps & { label: string; autocomplete: string }) {
  const [secret, setSecret] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    void onSecret(secret);
    setSecret("");
  };
  return (
    <form onSubmit={submit}>
      {autocomplete !== "off" && <input hidden readOnly autocomplete="username" value="admin" />}
      <label>
        {label}
        <input type="password" autocomplete={autocomplete} required value={secret} onInput={(event) => setSecret(event.currentTarget.value)} />
      </label>
      <button type="submit" disabled={isBusy}>Sign in</button>
    </form>
  );
}
