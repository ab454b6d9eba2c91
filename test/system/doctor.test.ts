/** `twinpath doctor` on this machine, as root and as a user who may open nothing. */
import { expect, it } from 'vitest';
import { buildLab } from '../support/harness.ts';
import { twinpath } from '../support/process.ts';

interface Line {
  readonly about: string;
  readonly state: string;
  readonly text: string;
  readonly mend?: string;
}

it('the doctor finds nothing wrong with a machine on which ports open, and names what a user lacks', async () => {
  const lab = await buildLab();
  const root = await twinpath(['doctor', '--netns', lab.guest, '--json']);
  expect([root.code, root.stderr]).toEqual([0, '']);
  const lines = JSON.parse(root.stdout) as Line[];
  expect(lines.filter(({ state }) => state === 'ok').map(({ about }) => about)).toContain('machine');
  // The lab's devices are no NetVSC and no cards.
  expect(lines.map(({ text }) => text)).toContain('there is no NetVSC, and no other Ethernet card');
  const text = await twinpath(['doctor', '--netns', lab.guest]);
  expect(text.stdout).toMatch(/^ok +machine +Linux /);
  expect(text.stdout).toMatch(/No problem found\.\n$/);
  const nobody = await twinpath(['doctor'], { nobody: true });
  expect(nobody.code).toBe(1);
  expect(nobody.stdout).toMatch(/^PROBLEM +machine +this process lacks CAP_NET_ADMIN/m);
  expect(nobody.stdout).toMatch(/→ run as root/);
});
