/** The models of the protocol in large configurations. Prints the table of docs/reliability.md. */
import { afterAll, describe, expect, it } from 'vitest';
import { type Exploration, explore, nameOf, spinMissing } from '../support/spin.ts';
import { large, small } from './checks.ts';

const missing = spinMissing();
const skip = missing !== undefined;
const rows: string[] = [];

const row = (name: string, { states, depth, seconds, mebibytes }: Exploration): string =>
  `| \`${name}\` | ${states.toLocaleString('en')} | ${depth} | ${seconds} | ${Math.round(mebibytes)} |`;

describe('the model of the protocol', () => {
  for (const check of [...small, ...large]) {
    it.skipIf(skip)(`has no fault in ${nameOf(check)}${skip ? `: ${missing}` : ''}`, async () => {
      const found = await explore(check, true);
      rows.push(row(nameOf(check), found));
      expect(found.failure).toBeUndefined();
    });
  }
});

afterAll(() => {
  if (skip) return;
  console.log(
    ['| configuration | states | depth | seconds | MiB |', '| --- | --: | --: | --: | --: |', ...rows].join(
      '\n',
    ),
  );
});
