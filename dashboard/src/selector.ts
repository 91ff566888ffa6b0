/** Selectors: formatting them, and parsing as much as SQL and completion need. */

export interface Matcher {
  label: string;
  operator: "=" | "!=" | "=~" | "!~";
  value: string;
}

const quoted = (text: string): string =>
  `"${text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n")}"`;

const PLAIN_METRIC = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const PLAIN_LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** Formats a selector of a metric (or of any) with matchers. */
export function toSelector(metric: string | null, matchers: readonly Matcher[]): string {
  const parts = matchers.map(
    ({ label, operator, value }) => (PLAIN_LABEL.test(label) ? label : quoted(label)) + operator + quoted(value),
  );
  if (metric === null) return `{${parts.join(",")}}`;
  if (!PLAIN_METRIC.test(metric)) return `{${[quoted(metric), ...parts].join(",")}}`;
  return parts.length ? `${metric}{${parts.join(",")}}` : metric;
}

export const equal = (label: string, value: string): Matcher => ({ label, operator: "=", value });

const TOKEN = /\s*(?:([a-zA-Z_:][a-zA-Z0-9_:.]*)|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|`([^`]*)`|(=~|!~|!=|=)|([{},]))/y;

/** The matchers of a selector, with the metric as `__name__`; null if it is not a plain one. */
export function parseSelector(text: string): Matcher[] | null {
  const tokens: { kind: "name" | "text" | "operator" | "mark"; text: string }[] = [];
  TOKEN.lastIndex = 0;
  while (text.slice(TOKEN.lastIndex).trim()) {
    const found = TOKEN.exec(text);
    if (!found) return null;
    const [, name, double, single, raw, operator, mark] = found;
    if (name !== undefined) tokens.push({ kind: "name", text: name });
    else if (operator !== undefined) tokens.push({ kind: "operator", text: operator });
    else if (mark !== undefined) tokens.push({ kind: "mark", text: mark });
    else tokens.push({ kind: "text", text: raw ?? unescaped(double ?? single ?? "") });
  }
  const matchers: Matcher[] = [];
  if (tokens[0]?.kind === "name") matchers.push(equal("__name__", tokens.shift()?.text ?? ""));
  if (tokens.length === 0) return matchers.length ? matchers : null;
  if (tokens.shift()?.text !== "{" || tokens.pop()?.text !== "}") return null;
  while (tokens.length) {
    const label = tokens.shift();
    if (label?.kind !== "name" && label?.kind !== "text") return null;
    if (tokens[0]?.kind === "operator") {
      const operator = tokens.shift()?.text as Matcher["operator"];
      const value = tokens.shift();
      if (value?.kind !== "text") return null;
      matchers.push({ label: label.text, operator, value: value.text });
    } else if (label.kind === "text") matchers.push(equal("__name__", label.text));
    else return null;
    if (tokens.length && tokens.shift()?.text !== ",") return null;
  }
  return matchers;
}

function unescaped(text: string): string {
  return text.replace(/\\(.)/g, (_, character: string) => ({ n: "\n", t: "\t", r: "\r" })[character] ?? character);
}

export interface Completion {
  kind: "metric" | "label" | "value";
  /** The part of the current word before the caret, and where it begins. */
  word: string;
  from: number;
  label: string;
  /** The selector without the unfinished part, to narrow the suggestions. */
  context: string | null;
}

/** The part of the selector at the caret. */
export function completionAt(text: string, caret: number): Completion {
  const before = text.slice(0, caret);
  const brace = before.indexOf("{");
  if (brace < 0) return { kind: "metric", word: before.trim(), from: before.search(/\S|$/), label: "", context: null };
  const inside = before.slice(brace + 1);
  const value = /(?:^|,)\s*"?([^"=!~,{}]+?)"?\s*(?:=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)$/.exec(inside);
  const finished = inside.slice(0, value ? value.index : inside.lastIndexOf(",") + 1).replace(/,\s*$/, "");
  const head = before.slice(0, brace).trim();
  const context = head || finished.trim() ? `${head}{${finished}}` : null;
  if (value) {
    const word = value[2] ?? "";
    return { kind: "value", word, from: caret - word.length, label: value[1] ?? "", context };
  }
  const word = /[^,\s]*$/.exec(inside)?.[0] ?? "";
  return { kind: "label", word, from: caret - word.length, label: "", context };
}
