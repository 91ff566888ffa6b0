/** Light or dark: the system's preference, until the viewer chooses. */

export type Theme = "light" | "dark";

const KEY = "infrawatch.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

function chosen(): Theme | null {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === "light" || stored === "dark" ? stored : null;
  } catch {
    return null; // storage may be disabled; then the choice lasts as long as the page
  }
}

export const theme = (): Theme => (document.documentElement.dataset.theme as Theme | undefined) ?? "light";

function apply(to: Theme): void {
  document.documentElement.dataset.theme = to;
  for (const listener of listeners) listener();
}

export function switchTheme(): void {
  const to = theme() === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, to);
  } catch {
    // see above
  }
  apply(to);
}

export function onThemeChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

system.addEventListener("change", () => apply(chosen() ?? (system.matches ? "dark" : "light")));
apply(chosen() ?? (system.matches ? "dark" : "light"));

/** A colour of the style sheet. */
export const colour = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export const LINE_COLOURS = 8;
export const lineColour = (at: number): string => colour(`line-${at % LINE_COLOURS}`);
