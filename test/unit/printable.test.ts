import { describe, expect, it } from 'vitest';
import { printable, printableLines } from '../../src/printable.ts';

describe('text for a terminal', () => {
  it.each([
    ['a sequence that clears the screen', '\x1b[2J\x1b[Heth0', '\\x1b[2J\\x1b[Heth0'],
    ['one that sets the title', '\x1b]0;root\x07', '\\x1b]0;root\\x07'],
    ['the eight-bit form of one', 'a\x9b2Jb', 'a\\x9b2Jb'],
    ['a delete', 'eth0\x7f', 'eth0\\x7f'],
    ['a return that would hide what is before it', 'denied\rallowed', 'denied\\x0dallowed'],
    ['a second line', 'one\nAll was well.', 'one\\x0aAll was well.'],
    ['marks that turn the direction', 'a\u202egnp.exe\u2066', 'a\\u{202e}gnp.exe\\u{2066}'],
    ['invisible characters', 'et\u200bh0\ufeff\u00ad', 'et\\u{200b}h0\\u{feff}\\xad'],
    ['line and paragraph separators', 'a\u2028b\u2029', 'a\\u{2028}b\\u{2029}'],
    ['half a surrogate pair', 'a\ud800b', 'a\\u{d800}b'],
    ['a tag of another plane', '\u{e0041}x', '\\u{e0041}x'],
  ])('shows %s as what it is', (_, text, shown) => {
    expect(printable(text)).toBe(shown);
  });

  it('is left alone where it is only foreign', () => {
    const text = 'eth0: Größe 10 µs → 日本 ✓ “quoted” ║';
    expect(printable(text)).toBe(text);
  });

  it('is bounded, and its beginning and its end stay', () => {
    const shown = printable(`error: ${'x'.repeat(100_000)} Set force.`);
    expect(shown.length).toBeLessThan(2_100);
    expect(shown).toMatch(/^error: x+ … \(98,0\d\d characters left out\) … x+ Set force\.$/);
    expect(printable('\x1b'.repeat(100_000)).length).toBeLessThan(8_100);
    expect(printable('y'.repeat(2_000))).toBe('y'.repeat(2_000));
  });

  it('has its own newlines only', () => {
    expect(printableLines('a\x1b\nb\r\nc')).toBe('a\\x1b\nb\\x0d\nc');
  });

  it('never has a control character, wherever it is', () => {
    const unfit = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/u;
    for (let code = 0; code < 0x3000; code++) {
      for (const at of [0, 50, 99, 150]) {
        const text = `${'x'.repeat(at)}${String.fromCodePoint(code)}${'y'.repeat(199 - at)}`;
        if (unfit.test(printable(text, 100))) throw new Error(`U+${code.toString(16)} at ${at}`);
      }
    }
  });
});
