/** The kernel's programs and the TypeScript matcher agree about flow rules, as system/rules.test.ts has it, for longer. */
import { expect, it } from 'vitest';
import { compareRandom } from '../support/rule-programs.ts';

it('the programs in the kernel and the matcher agree for many random rules and packets', {
  timeout: 240_000,
}, () => {
  for (const packets of Object.values(compareRandom(200))) expect(packets).toBeGreaterThan(1700);
});
