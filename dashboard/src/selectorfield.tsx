/** The input for a selector, which suggests metrics, labels and values. */

import { useEffect, useRef, useState } from "preact/hooks";
import { api } from "./api";
import { type Completing, completing } from "./selector";

interface Offer {
  text: string;
  series: number;
}

const MOST_OFFERS = 12;

interface Props {
  value: string;
  onChange: (text: string) => void;
  problem: string | null;
}

export function SelectorField({ value, onChange, problem }: Props) {
  const input = useRef<HTMLInputElement>(null);
  const [draft, setDraft] = useState(value);
  const [asked, setAsked] = useState<Completing | null>(null);
  const [chosen, choose] = useState(-1);
  const offers = useOffers(asked);
  useEffect(() => setDraft(value), [value]);
  const isOpen = asked !== null && offers.length > 0;

  const look = (text: string) => {
    choose(-1);
    setAsked(completing(text, input.current?.selectionStart ?? text.length));
  };
  const done = () => {
    setAsked(null);
    onChange(draft.trim());
  };
  const take = (offer: Offer) => {
    if (!asked || !input.current) return;
    const caret = input.current.selectionStart ?? draft.length;
    const { text, caret: after } = completed(draft, caret, asked, offer.text);
    setDraft(text);
    setAsked(null);
    if (asked.kind !== "label") onChange(text);
    requestAnimationFrame(() => {
      input.current?.focus();
      input.current?.setSelectionRange(after, after);
      if (asked.kind === "label") look(text);
    });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const offer = offers[chosen];
    if (event.key === "ArrowDown" && !isOpen) look(draft);
    else if (event.key === "ArrowDown") choose((chosen + 1) % offers.length);
    else if (event.key === "ArrowUp" && isOpen) choose((chosen - 1 + offers.length) % offers.length);
    else if (event.key === "Enter" && isOpen && offer) take(offer);
    else if (event.key === "Enter") done();
    else if (event.key === "Escape") setAsked(null);
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
        {isOpen && offers.map((offer, at) => (
          <li
            key={offer.text}
            id={`offer-${at}`}
            role="option"
            aria-selected={at === chosen}
            onMouseDown={(event) => (event.preventDefault(), take(offer))}
          >
            <span>{offer.text}</span><small>{offer.series} series</small>
          </li>
        ))}
      </ul>
      {problem !== null && <p id="match-problem" class="problem" role="alert">{problem}</p>}
    </div>
  );
}

/** The text with a suggestion inserted, and the new caret position. */
function completed(draft: string, caret: number, asked: Completing, offer: string): { text: string; caret: number } {
  const before = draft.slice(0, asked.from);
  const after = draft.slice(caret);
  let put = offer;
  if (asked.kind === "label") put = `${/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(offer) ? offer : `"${offer}"`}="`;
  if (asked.kind === "value") put = offer.replace(/\\/g, "\\\\").replace(/"/g, '\\"') + (after.startsWith('"') ? "" : '"');
  let text = before + put + after;
  if (asked.kind === "value" && !after.includes("}")) text += "}";
  return { text, caret: before.length + put.length };
}

function useOffers(asked: Completing | null): Offer[] {
  const [known, setKnown] = useState<{ key: string; offers: Offer[] }>({ key: "", offers: [] });
  const key = asked === null ? "" : JSON.stringify([asked.kind, asked.label, asked.context]);
  useEffect(() => {
    if (asked === null || key === known.key) return;
    const aborter = new AbortController();
    // An unfinished selector is invalid; then nothing is suggested.
    find(asked, aborter.signal).then((offers) => setKnown({ key, offers }), () => undefined);
    return () => aborter.abort();
  }, [key]);
  if (asked === null || key !== known.key) return [];
  const word = asked.word.toLowerCase();
  const rank = ({ text }: Offer) => (text.toLowerCase().startsWith(word) ? 0 : 1);
  return known.offers
    .filter((offer) => offer.text.toLowerCase().includes(word) && offer.text !== asked.word)
    .sort((a, b) => rank(a) - rank(b))
    .slice(0, MOST_OFFERS);
}

async function find(asked: Completing, signal: AbortSignal): Promise<Offer[]> {
  if (asked.kind === "label") {
    const { labels } = await api.labels(asked.context, signal);
    return labels.filter((one) => one.name !== "__name__").map((one) => ({ text: one.name, series: one.series }));
  }
  const { values } = await api.labelValues(asked.kind === "metric" ? "__name__" : asked.label, asked.context, signal);
  return values.map((one) => ({ text: one.value, series: one.series }));
}
