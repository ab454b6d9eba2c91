/** The models of the protocol (test/models/README.md) in small configurations, and without one step each. */
import { describe, expect, it } from 'vitest';
import { broken, small } from '../../models/checks.ts';
import { explore, nameOf, spinMissing } from '../../support/spin.ts';

const missing = spinMissing();
const skip = missing !== undefined;
const because = skip ? `: ${missing}` : '';

describe.concurrent('the model of the protocol', () => {
  for (const check of small) {
    it.skipIf(skip)(`has no fault in ${nameOf(check)}${because}`, async () => {
      const found = await explore(check);
      expect(found.failure).toBeUndefined();
      expect(found.states).toBeGreaterThan(1000);
    });
  }

  for (const { finds, ...check } of broken) {
    it.skipIf(skip)(`has a fault in ${nameOf(check)}${because}`, async () => {
      expect((await explore(check)).failure).toBe(finds);
    });
  }
});
