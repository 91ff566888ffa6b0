/** Small components shared by several views. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { durationText, LENGTHS, moved, NOW_15M, scaled, type Span } from "./span";

/** Text to paste, with a button that copies it. */
export function Copyable({ text, label }: { text: string; label: string }) {
  const [caption, setCaption] = useState("Copy");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCaption("Copied");
    } catch {
      setCaption("Select it and press Ctrl-C"); // no clipboard without https or permission
    }
    window.setTimeout(() => setCaption("Copy"), 2_000);
  };
  return (
    <div class="copyable">
      <pre tabIndex={0} aria-label={label}><code>{text}</code></pre>
      <button type="button" onClick={copy} aria-label={`Copy: ${label}`}><span aria-live="polite">{caption}</span></button>
    </div>
  );
}

export function SpanPicker({ span, onSpan }: { span: Span; onSpan: (span: Span) => void }) {
  const isNow = span.endMs === null;
  const isNamed = LENGTHS.some((one) => one.ms === span.lengthMs);
  return (
    <div class="spans" role="group" aria-label="Time">
      {isNow && !isNamed && <button type="button" aria-pressed>{durationText(Math.round(span.lengthMs / 1000) * 1000)}</button>}
      {LENGTHS.map((one) => (
        <button
          key={one.text}
          type="button"
          aria-label={`${one.text}, the last ${one.name}`}
          aria-pressed={isNow && span.lengthMs === one.ms}
          onClick={() => onSpan({ lengthMs: one.ms, endMs: null })}
        >
          {one.text}
        </button>
      ))}
      <span class="steps">
        <button type="button" aria-label="Earlier" title="Earlier (←)" onClick={() => onSpan(moved(span, -0.5))}>←</button>
        <button type="button" aria-label="Later" title="Later (→)" disabled={isNow} onClick={() => onSpan(moved(span, 0.5))}>→</button>
        <button type="button" aria-label="Zoom in" title="Zoom in (+)" onClick={() => onSpan(scaled(span, 0.5))}>+</button>
        <button type="button" aria-label="Zoom out" title="Zoom out (−)" onClick={() => onSpan(scaled(span, 2))}>−</button>
      </span>
      <button type="button" class="now" disabled={isNow} onClick={() => onSpan({ ...span, endMs: null, ...(isNow ? NOW_15M : {}) })}>
        {isNow ? "Following now" : "Back to now"}
      </button>
      {!isNow && <span class="when">{whenText(span)}</span>}
    </div>
  );
}

/** Times with their zone, for viewers of a link from elsewhere. */
const WITH_ZONE = {
  ...({ year: "numeric", month: "numeric", day: "numeric" } as const),
  ...({ hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "short" } as const),
};

function whenText(span: Span): string {
  const end = span.endMs ?? 0;
  return new Intl.DateTimeFormat(undefined, WITH_ZONE).formatRange(end - span.lengthMs, end);
}

/** A fill level as a bar with text, coloured by its level. */
export function Meter({ name, value, text, of }: { name: string; value: number | null; text: string; of?: string }) {
  const level = value === null ? "none" : value >= 0.95 ? "bad" : value >= 0.85 ? "warn" : "good";
  return (
    <div class="meter" title={of}>
      <span class="name">{name}</span>
      <span class="level" role="meter" aria-label={name} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round((value ?? 0) * 100)} aria-valuetext={text}>
        <i class={level} style={{ width: `${Math.min(Math.max(value ?? 0, 0), 1) * 100}%` }} />
      </span>
      <b>{text}</b>
    </div>
  );
}

/** A small line chart without axes; gaps stay gaps. */
export function Sparkline({ values, max, label }: { values: readonly (number | null | undefined)[]; max: number; label: string }) {
  const runs: string[][] = [[]];
  values.forEach((value, at) => {
    const y = SPARK.height - 2 - (Math.min(value ?? 0, max) / max) * (SPARK.height - 4);
    if (value === null) runs.push([]);
    else if (value !== undefined) runs[runs.length - 1]?.push(`${((at / (values.length - 1)) * SPARK.width).toFixed(1)} ${y.toFixed(1)}`);
  });
  const drawn = runs.filter((run) => run.length > 1);
  const floor = (run: readonly string[]) => [run[0], run[run.length - 1]].map((point) => point?.split(" ")[0]);
  return (
    <svg class="sparkline" viewBox={`0 0 ${SPARK.width} ${SPARK.height}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path class="base" d={`M0 ${SPARK.height - 1}H${SPARK.width}`} />
      <path class="area" d={drawn.map((run) => `M${floor(run)[0]} ${SPARK.height}L${run.join("L")}L${floor(run)[1]} ${SPARK.height}Z`).join("")} />
      <path d={drawn.map((run) => `M${run.join("L")}`).join("")} />
    </svg>
  );
}

const SPARK = { width: 240, height: 48 };

export function Notice({ kind, children }: { kind: "problem" | "empty"; children: ComponentChildren }) {
  return <div class={`notice ${kind}`} role={kind === "problem" ? "alert" : undefined}>{children}</div>;
}
