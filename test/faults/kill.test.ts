/** The process dies by SIGKILL under load: the kernel has its interfaces back, and the next start works. */
import { describe, expect, it } from 'vitest';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { buildLab, drive, expectUnharmed, nothingLeft, passed, Scene, until } from '../support/harness.ts';
import { hold, kill } from '../support/held.ts';
import { attachments, linkIn } from '../support/machine-state.ts';
import { frame, rawSocket } from '../support/raw.ts';

describe.each(['veth', 'bridge'] as const)('a killed process with a port over a %s', (standIn) => {
  it('leaves nothing, the kernel answers at once, and the next port opens', async () => {
    const lab = await buildLab({ standIn });
    const held = await hold(lab);
    await lab.nic.plug();
    await until('the VF in use', () => held.said().endsWith('vf vf\n'));
    await lab.nic.moveDataPath('vf');
    const traffic = await drive(lab, lab.nic);
    await passed(traffic);
    const attached = attachments(lab.guest).join('; ');
    for (const what of ['tap ', 'XDP ', 'tcx ']) expect(attached).toContain(what);

    await kill(held);
    await nothingLeft(lab);
    // A plain kernel listens: it answers pings, by whichever of the two devices they come.
    const { icmpReceived } = traffic.progress();
    await until('pings answered by the kernel', () => traffic.progress().icmpReceived >= icmpReceived + 5);
    await lab.nic.moveDataPath('synthetic');
    const later = traffic.progress().icmpReceived;
    await until('pings answered by the kernel', () => traffic.progress().icmpReceived >= later + 5);
    await traffic.stop({ settleMillis: 0 });

    const scene = await Scene.openIn(lab);
    const again = await scene.drive();
    await until('the VF in use', () => scene.port.stats().queues.every(({ owner }) => owner === 'vf'));
    await lab.nic.moveDataPath('vf');
    await passed(again);
    await scene.unplug();
    await passed(again);
    const [unharmed] = await scene.finish();
    expectUnharmed(unharmed!);
  });
});

describe('a killed process that had tc filters', () => {
  it('leaves a filter, which the next start removes with either kind of redirect', async () => {
    for (const redirect of ['clsact', 'tcx'] as const) {
      const lab = await buildLab();
      await kill(await hold(lab, { redirect: 'clsact' }));
      const left = ['clsact on eth0', 'filter twinpath at ingress of eth0'];
      await until('the tap gone', () => attachments(lab.guest).length === left.length);
      expect(attachments(lab.guest)).toEqual(left);
      const before = linkIn(lab.guest, 'eth0');
      const scene = await Scene.openIn(lab, { redirect });
      await passed(await scene.drive({ rate: 5000 }), 300);
      const [report] = await scene.finish();
      expectUnharmed(report!);
      expect(linkIn(lab.guest, 'eth0')).toMatchObject({ ifindex: before!.ifindex, promiscuity: 0 });
    }
  });
});

describe('a killed process that had tc filters with rules that drop', () => {
  it('leaves a filter that drops no packet, also none with more than eight tags', async () => {
    const lab = await buildLab();
    const [inside, outside] = [rawSocket(lab.guest, 'eth0', 0x8100), rawSocket(lab.outside, 'u0')];
    const send = (tags: number, text: string): void => {
      const bytes = frame(lab.nic.mac, '02:15:5d:77:00:01', `${'8100 0005 '.repeat(tags)}88b5`, text);
      outside.send(bytes);
    };
    /** The frames that the kernel has received behind the filter, up to one with this text. */
    const received = async (last: string): Promise<string[]> => {
      const words: string[] = [];
      await until(`"${last}" received`, () => {
        words.push(
          ...inside.received().map((bytes) => /[a-z]+ *$/.exec(bytes.toString('latin1'))![0].trim()),
        );
        return words.includes(last);
      });
      return words;
    };
    const rules = ['vlan 5 to kernel', 'icmp drop'];
    const held = await hold(lab, { redirect: 'clsact', configuration: { rules, isolate: true } });
    const traffic = await drive(lab, lab.nic, { rate: 1 });
    send(9, 'overtagged');
    send(2, 'kept');
    expect(await received('kept')).toEqual(['kept']);
    await until('pings sent', () => traffic.progress().icmpSent >= 10);
    expect(traffic.progress().icmpReceived).toBe(0);

    await kill(held);
    await until('the tap gone', () => !attachments(lab.guest).some((line) => line.startsWith('tap ')));
    expect(attachments(lab.guest)).toContain('filter twinpath at ingress of eth0');
    send(9, 'overtagged');
    expect(await received('overtagged')).toEqual(['overtagged']);
    await until('pings answered by the kernel', () => traffic.progress().icmpReceived >= 5);
    await traffic.stop({ settleMillis: 0 });
  });
});

describe('a port with tc filters', () => {
  it('leaves the clsact qdisc of somebody else in place', async () => {
    const lab = await buildLab();
    const eth0 = linkIn(lab.guest, 'eth0')!.ifindex;
    const shim = loadShim();
    inNamespace(shim, lab.guest, () => {
      const links = RtNetlink.open(shim);
      links.addClsact(eth0);
      links.close();
    });
    const scene = await Scene.openIn(lab, { redirect: 'clsact' });
    await passed(await scene.drive({ rate: 5000 }), 300);
    await scene.port.close();
    await until('the tap gone', () => attachments(lab.guest).length === 1);
    expect(attachments(lab.guest)).toEqual(['clsact on eth0']);
  });
});
