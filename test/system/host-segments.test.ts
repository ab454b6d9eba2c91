/** Large segments of the machine's own stack: uncut by the NetVSC, in frames by the VF, whole at the other end. */
import { expect, it } from 'vitest';
import { buildLab, Scene, until } from './harness.ts';
import { badChecksums, Station } from './stations.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
const MIB = 1 << 20;
/** With Ethernet header, of the lab's MTU. */
const FRAME = 1514;

for (const tap of ['io_uring', 'read/write'] as const) {
  it.skipIf(process.getuid?.() !== 0)(`go out uncut by a tap driven by ${tap}, cut by the VF`, async () => {
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
    await more();
    const { synthetic } = port.stats().paths;
    expect(synthetic.txBytes).toBeGreaterThan(4 * MIB);
    expect(synthetic.txBytes).toBeGreaterThan(2 * FRAME * synthetic.txPosted);

    await scene.plug();
    const cut = (): number => port.stats().queues.reduce((sum, { segments }) => sum + segments, 0);
    const before = cut();
    await more();
    const { vf } = port.stats().paths;
    expect(vf.txBytes).toBeGreaterThan(4 * MIB);
    expect(vf.txBytes).toBeLessThanOrEqual(FRAME * vf.txPosted);
    expect(cut() - before).toBeGreaterThan((2 * MIB) / FRAME);
    await scene.unplug();
    await more();

    await guest.call('finish', name);
    const { sent } = await guest.call('streamed', name);
    expect(await outside.call('streamed', name)).toEqual({ sent: 0, received: sent, wrong: 0, failed: '' });
    expect(badChecksums(lab.outside)).toBe(0);
    await scene.finish();
  });
}
