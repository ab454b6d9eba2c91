/** The failovers, newest first; one of them is selected. */
import type { Store } from './store.ts';
import { html, setText } from './svg.ts';
import { durationOf, type Switch } from './switches.ts';
import { PATH_LABEL } from './theme.ts';
import { clockMicrosText, microsText } from './units.ts';

/** Rows that are made; the server keeps a thousand records of queues. */
const MAX_ROWS = 100;

export class FailoverList {
  readonly #list: HTMLElement;
  readonly #empty: HTMLElement;
  readonly #select: (key: string) => void;
  readonly #rows = new Map<string, HTMLButtonElement>();

  constructor(list: HTMLElement, empty: HTMLElement, select: (key: string) => void) {
    this.#list = list;
    this.#empty = empty;
    this.#select = select;
  }

  /** @param switches oldest first */
  show(switches: readonly Switch[], selected: string | undefined, store: Store): void {
    const shown = switches.slice(-MAX_ROWS);
    this.#empty.hidden = shown.length > 0;
    this.#list.hidden = shown.length === 0;
    const keys = new Set(shown.map(({ key }) => key));
    for (const [key, button] of this.#rows) {
      if (keys.has(key)) continue;
      button.parentElement?.remove();
      this.#rows.delete(key);
    }
    for (const one of shown) {
      const button = this.#rows.get(one.key) ?? this.#add(one, store);
      // A queue that was slower than a sample has made it longer.
      setText(button.querySelector('.took')!, microsText(durationOf(one)));
      button.setAttribute('aria-pressed', String(one.key === selected));
    }
  }

  #add(one: Switch, store: Store): HTMLButtonElement {
    const { key, from, to, reason, detectedNanos } = one;
    const button = html(
      'button',
      { type: 'button' },
      html('span', { class: 'when' }, clockMicrosText(store.wallMillis(detectedNanos))),
      html('span', { class: 'took' }),
      html(
        'span',
        { class: 'what' },
        html('span', { class: `path ${from}` }, PATH_LABEL[from]),
        ' → ',
        html('span', { class: `path ${to}` }, PATH_LABEL[to]),
      ),
      html('span', { class: 'why' }, reason),
    );
    button.addEventListener('click', () => this.#select(key));
    this.#rows.set(key, button);
    this.#list.prepend(html('li', {}, button));
    return button;
  }
}
