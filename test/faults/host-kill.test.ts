/** The process of a port that the machine's own programs use is killed in the middle: they do not notice. */
import { describe, expect, it } from 'vitest';
import { nothingLeft, until } from '../support/harness.ts';
import { hold, kill } from '../support/held.ts';
import { kernelView } from '../support/kernel-view.ts';
import { arpLab, Life } from '../support/life.ts';
import { badChecksums } from '../support/stations.ts';

describe.each([
  { standIn: 'veth', host: 'inline' },
  { standIn: 'bridge', host: 'inline' },
  { standIn: 'bridge', host: 'ingress' },
] as const)('over a $standIn, $host, the process of the port killed in the middle,', ({ standIn, host }) => {
  it('every connection lives on by the plain NetVSC, and nothing is left', async () => {
    const lab = await arpLab(standIn);
    const life = await Life.begin(lab);
    await life.goOn();
    const view = kernelView(lab.guest);
    const held = await hold(lab, { host });
    await lab.nic.plug();
    await until('the VF in use', () => held.said().endsWith('vf vf\n'));
    await lab.nic.moveDataPath('vf');
    await life.stream();
    await life.goOn();
    await kill(held);
    // The host delivers to the VF as before: what comes by it reaches the stack all the same.
    await life.goOn();
    await nothingLeft(lab);
    await life.errands();
    await life.settle();
    expect(kernelView(lab.guest)).toEqual(view);
    for (const namespace of [lab.guest, lab.outside]) expect(badChecksums(namespace)).toBe(0);
  });
});
