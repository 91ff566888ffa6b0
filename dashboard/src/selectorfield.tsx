/** The input for a selector, which suggests metrics, labels and values. */

import { useEffect, useRef, useState } from "preact/hooks";
import { api } from "./api";
import { type Completion, completionAt } from "./selector";

interface Suggestion {
  text: string;
  series: number;
}

const MAX_SUGGESTIONS = 12;

interface Props {
  value: string;
  onChange: (text: string) => void;
  problem: string | null;
}

export function SelectorField({ value, onChange, problem }: Props) {
  const input = useRef<HTMLInputElement>(null);
  const [draft, setDraft] = useState(value);
  const [completion, setCompletion] = useState<Completion | null>(null);
  const [chosen, choose] = useState(-1);
  const suggestions = useSuggestions(completion);
  useEffect(() => setDraft(value), [value]);
  const isOpen = completion !== null && suggestions.length > 0;

  const look = (text: string) => {
    choose(-1);
    setCompletion(completionAt(text, input.current?.selectionStart ?? text.length));
  };
  const done = () => {
    setCompletion(null);
    onChange(draft.trim());
  };
  const take = (suggestion: Suggestion) => {
    if (!completion || !input.current) return;
    const caret = input.current.selectionStart ?? draft.length;
    const { text, caret: after } = completed(draft, caret, completion, suggestion.text);
    setDraft(text);
    setCompletion(null);
    if (completion.kind !== "label") onChange(text);
    requestAnimationFrame(() => {
      input.current?.focus();
      input.current?.setSelectionRange(after, after);
      if (completion.kind === "label") look(text);
    });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const suggestion = suggestions[chosen];
    if (event.key === "ArrowDown" && !isOpen) look(draft);
    else if (event.key === "ArrowDown") choose((chosen + 1) % suggestions.length);
    else if (event.key === "ArrowUp" && isOpen) choose((chosen - 1 + suggestions.length) % suggestions.length);
    else if (event.key === "Enter" && isOpen && suggestion) take(suggestion);
    else if (event.key === "Enter") done();
    else if (event.key === "Escape") setCompletion(null);
    else return;
    event.preventDefault();
  };
  return (
    <div class="selector">
      <label for="match">Selector</label>
      <input
        id="match"
        ref={input}
        value={draft}
        placeholder='node_load1{instance="web-1"}'
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        role="combobox"
        aria-expanded={isOpen}
        aria-controls="offers"
        aria-autocomplete="list"
        aria-activedescendant={isOpen && chosen >= 0 ? `offer-${chosen}` : undefined}
        aria-invalid={problem !== null}
        aria-describedby={problem === null ? undefined : "match-problem"}
        onInput={(event) => (setDraft(event.currentTarget.value), look(event.currentTarget.value))}
        onFocus={() => look(draft)}
        onBlur={done}
        onKeyDown={onKeyDown}
      />
      <ul id="offers" role="listbox" aria-label="Completions" hidden={!isOpen}>
        {isOpen && suggestions.map((suggestion, at) => (
          <li
            key={suggestion.text}
            id={`offer-${at}`}
            role="option"
            aria-selected={at === chosen}
            onMouseDown={(event) => (event.preventDefault(), take(suggestion))}
          >
            <span>{suggestion.text}</span><small>{suggestion.series} series</small>
          </li>
        ))}
      </ul>
      {problem !== null && <p id="match-problem" class="problem" role="alert">{problem}</p>}
    </div>
  );
}

/** The text with a suggestion inserted, and the new caret position. */
function completed(draft: string, caret: number, completion: Completion, suggestion: string): { text: string; caret: number } {
  const before = draft.slice(0, completion.from);
  const after = draft.slice(caret);
  let put = suggestion;
  if (completion.kind === "label") put = `${/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(suggestion) ? suggestion : `"${suggestion}"`}="`;
  if (completion.kind === "value") put = suggestion.replace(/\\/g, "\\\\").replace(/"/g, '\\"') + (after.startsWith('"') ? "" : '"');
  let text = before + put + after;
  if (completion.kind === "value" && !after.includes("}")) text += "}";
  return { text, caret: before.length + put.length };
}

function useSuggestions(completion: Completion | null): Suggestion[] {
  const [known, setKnown] = useState<{ key: string; suggestions: Suggestion[] }>({ key: "", suggestions: [] });
  const key = completion === null ? "" : JSON.stringify([completion.kind, completion.label, completion.context]);
  useEffect(() => {
    if (completion === null || key === known.key) return;
    const controller = new AbortController();
    // An unfinished selector is invalid; then nothing is suggested.
    find(completion, controller.signal).then((suggestions) => setKnown({ key, suggestions }), () => undefined);
    return () => controller.abort();
  }, [key]);
  if (completion === null || key !== known.key) return [];
  const word = completion.word.toLowerCase();
  const rank = ({ text }: Suggestion) => (text.toLowerCase().startsWith(word) ? 0 : 1);
  return known.suggestions
    .filter((suggestion) => suggestion.text.toLowerCase().includes(word) && suggestion.text !== completion.word)
    .sort((a, b) => rank(a) - rank(b))
    .slice(0, MAX_SUGGESTIONS);
}

async function find(completion: Completion, signal: AbortSignal): Promise<Suggestion[]> {
  if (completion.kind === "label") {
    const { labels } = await api.labels(completion.context, signal);
    return labels.filter((one) => one.name !== "__name__").map((one) => ({ text: one.name, series: one.series }));
  }
  const { values } = await api.labelValues(completion.kind === "metric" ? "__name__" : completion.label, completion.context, signal);
  return values.map((one) => ({ text: one.value, series: one.series }));
}
