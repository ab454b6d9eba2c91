/**
 * A worker's thread that loads while its port closes: Node and koffi abort the process where one is ended there, and a
 * file that it was just opening stays open.
 *
 * @module-tag unprivileged
 */
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { Run } from '../support/process.ts';

const FIXTURE = fileURLToPath(new URL('../fixtures/closing-port.mjs', import.meta.url));
/** A thread takes 200 ms to load on an idle machine. */
const DELAYS = 200;

it('a port may close at any moment of its next worker’s start', { timeout: 240_000 }, async () => {
  const { code, stdout, stderr } = await new Run([process.execPath, FIXTURE, String(DELAYS)]).outcome;
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: `${DELAYS / 8} 0\n`, stderr: '' });
});
