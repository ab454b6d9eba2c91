/**
 * The redirect at the standby leg of a net_failover device, which a second NIC of the lab plays: no virtual device is one.
 * What the kernel does with the leg's other packets is its own affair: test/machines has real ones.
 */
import { describe, expect, it, onTestFinished } from 'vitest';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { openTap } from '../../src/paths/tap/open.ts';
import { TcRedirect } from '../../src/paths/tap/redirect.ts';
import { buildLab, type Lab, nothingLeft, until } from '../support/harness.ts';
import { attachments } from '../support/machine-state.ts';
import { frame, rawSocket } from '../support/raw.ts';

const OUTSIDE = '02:15:5d:77:00:01';
/** An EtherType that nobody in the lab speaks (IEEE 802, local experimental). */
const TYPE = '88b5';

const shim = loadShim();

/** The texts of our frames among those. */
function texts(frames: readonly Uint8Array[]): string[] {
  const ours = frames
    .map((bytes) => Buffer.from(bytes))
    .filter((bytes) => bytes.toString('hex', 12, 14) === TYPE);
  return ours.map((bytes) => bytes.toString('utf8', 14).trim());
}

const tapReader = (fd: number) => (): Uint8Array[] => {
  const found: Uint8Array[] = [];
  const room = new Uint8Array(2048);
  for (let length = shim.read(fd, room, room.length); length > 0; length = shim.read(fd, room, room.length)) {
    found.push(room.slice(0, length));
  }
  return found;
};

function redirected(lab: Lab, kind: 'tcx' | 'clsact') {
  return inNamespace(shim, lab.guest, () => {
    const netlink = RtNetlink.open(shim);
    const [upper, standby] = lab.nics.map(({ netvsc }) => netlink.link(netvsc)!);
    const tap = openTap(shim, netlink, { template: 'twinpath%d', queues: 1, mtu: 1500 });
    const request = { netvsc: upper!.ifindex, tap: tap.ifindex, device: upper!.name, kind };
    const redirect = new TcRedirect(shim, netlink, { ...request, standby: standby!.ifindex });
    redirect.attach();
    onTestFinished(async () => {
      redirect.release();
      for (const fd of tap.fds) shim.close(fd);
      await nothingLeft(lab);
      netlink.close();
    });
    const adopt = (): TcRedirect => new TcRedirect(shim, netlink, request, () => {}, redirect.holdings);
    return { redirect, adopt, read: tapReader(tap.fds[0]!) };
  });
}

describe.each(['tcx', 'clsact'] as const)('by %s', (kind) => {
  it('unicast to the standby arrives at the tap, and broadcast is left to the kernel', async () => {
    const lab = await buildLab({ nics: 2 });
    const [upper, standby] = lab.nics;
    const { redirect, adopt, read } = redirected(lab, kind);
    const senders = ['u0', 'u1'].map((device) => rawSocket(lab.outside, device));
    const say = (nic: 0 | 1, to: string, text: string): void =>
      senders[nic]!.send(frame(to, OUTSIDE, TYPE, text));
    const everybody = 'ff:ff:ff:ff:ff:ff';

    const heard: string[] = [];
    const hear = async (text: string, from = read): Promise<void> => {
      await until(text, () => {
        heard.push(...texts(from()));
        return heard.length > 0;
      });
      expect(heard.splice(0)).toEqual([text]);
    };

    say(1, everybody, 'by the standby, for everybody');
    say(1, '01:00:5e:00:00:05', 'by the standby, for a group');
    say(1, standby!.mac, 'by the standby, for it');
    await hear('by the standby, for it');
    say(0, everybody, 'for everybody');
    await hear('for everybody');
    say(0, upper!.mac, 'for it');
    await hear('for it');

    const adopted = adopt();
    expect(adopted.holdings).toEqual(redirect.holdings);
    for (const attachment of adopted.attachments) expect(attachment!.fault()).toBeUndefined();
    redirect.releaseNetvsc();
    expect(attachments(lab.guest).filter((line) => /eth\d$/.test(line))).toEqual([]);
    const kernel = [upper, standby].map((nic) => rawSocket(lab.guest, nic!.netvsc));
    for (const number of [0, 1] as const) {
      say(number, lab.nics[number]!.mac, 'after');
      await hear('after', () => kernel[number]!.received());
    }
    expect(texts(read())).toEqual([]);
  });
});
