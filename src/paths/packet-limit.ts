/** The longest packets that a path sends and a port takes, as its devices have them now. Coordinator only. */
import { TwinpathError } from '../errors.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import type { PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { maxMtu, maxSentBytes } from '../net/packet-size.ts';

/**
 * Sets the longest packet that workers send on a path. May be called while they send: they read it once a round.
 * Coordinator only.
 */
export function limitSentBytes(memory: Memory, port: number, path: PathId, maxPacketBytes: number): void {
  const { queues } = memory.layout.geometry;
  for (let queue = 0; queue < queues; queue++)
    memory.slot({ port, queue, path }).maxPacketBytes = maxPacketBytes;
}

/** The same for a device of this MTU. A tap takes longer packets than its device sends, and reports them as sent. */
export function limitToMtu(memory: Memory, port: number, path: PathId, mtu: number): void {
  limitSentBytes(memory, port, path, maxSentBytes(mtu, memory.layout.geometry.frameSize));
}

/** @throws ERR_OPTION_INVALID if the device's longest packet would fill a frame or more */
export function refuseLongPackets({ name, mtu }: Link, frameSize: number): void {
  const most = maxMtu(frameSize);
  if (mtu <= most) return;
  throw new TwinpathError('ERR_OPTION_INVALID', {
    device: name,
    detail: `its MTU is ${mtu} and a frame of ${frameSize} bytes serves one up to ${most}`,
    hint: frameSize < 4096 ? 'Open the port with frameSize: 4096 (--frame-size 4096).' : 'Lower the MTU.',
  });
}
