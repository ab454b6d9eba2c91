/**
 * Large segments of the machine's own stack: uncut by the NetVSC and by a VF, in frames by a VF that cannot cut,
 * whole at the other end.
 */
import { expect, it } from 'vitest';
import { inNamespace } from '../../dist/src/kernel/namespace.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import { switchOffloadsOff } from '../../dist/src/lab/devices.js';
import { buildLab, Scene, until } from '../support/harness.ts';
import { badChecksums, Station } from '../support/stations.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
const MIB = 1 << 20;
/** With Ethernet header, of the lab's MTU. */
const FRAME = 1514;

for (const tap of ['io_uring', 'read/write'] as const) {
  it(`go out uncut beside a tap driven by ${tap}`, async () => {
    const lab = await buildLab();
    const [guest, outside] = await Promise.all([Station.start(lab.guest), Station.start(lab.outside)]);
    const scene = await Scene.openIn(lab, { handler: HOST, host: 'inline', tap });
    const { port } = scene;
    const name = await guest.call('stream', lab.nic.outsideAddress, 'to');
    const more = async (): Promise<void> => {
      const { received } = await outside.call('streamed', name);
      await until('more bytes', async () => {
        return (await outside.call('streamed', name)).received > received + 4 * MIB;
      });
    };
    const cut = (): number => port.stats().queues.reduce((sum, { segments }) => sum + segments, 0);
    const path = (of: 'vf' | 'synthetic') => port.stats().paths[of];

    await more();
    await scene.plug();
    await more();
    // Of what has come some was still on its way by the other path.
    await until('bytes by the VF', () => path('vf').txBytes > 4 * MIB);
    for (const { txBytes, txPosted, txSegments, txSegmentsRefused } of [path('synthetic'), path('vf')]) {
      expect(txBytes).toBeGreaterThan(4 * MIB);
      expect(txBytes).toBeGreaterThan(2 * FRAME * txPosted);
      expect(txSegments).toBeGreaterThan(txSegmentsRefused); // a few when it has much in hand
    }
    await scene.unplug();
    await more();

    await scene.plug();
    const { txSegmentsRefused } = path('vf');
    inNamespace(loadShim(), lab.guest, () => switchOffloadsOff(loadShim(), lab.nic.vf!));
    await until('a refusal', () => path('vf').txSegmentsRefused > txSegmentsRefused);
    const before = { ...path('vf'), cut: cut() };
    await more();
    const after = path('vf');
    expect(after.txBytes - before.txBytes).toBeLessThanOrEqual(FRAME * (after.txPosted - before.txPosted));
    expect(cut() - before.cut).toBeGreaterThan((2 * MIB) / FRAME);
    await scene.unplug();
    await more();

    await guest.call('finish', name);
    const { sent } = await guest.call('streamed', name);
    expect(await outside.call('streamed', name)).toEqual({ sent: 0, received: sent, wrong: 0, failed: '' });
    expect(badChecksums(lab.outside)).toBe(0);
    await scene.finish();
  });
}
