/** The longest packets that a path sends and a port takes, as its devices have them now. Coordinator only. */
import { TwinpathError } from '../errors.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import { CHUNK } from '../memory/chains.ts';
import type { PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { largerFrame, maxMtu, maxSentBytes } from '../net/packet-size.ts';

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
export function limitToMtu(
  memory: Memory,
  port: number,
  path: PathId,
  mtu: number,
  frameSize = memory.layout.geometry.frameSize,
): void {
  limitSentBytes(memory, port, path, maxSentBytes(mtu, frameSize));
}

/** What of a frame an AF_XDP path uses: without chains, a chunk. */
export const usedFrame = (frameSize: number, chains: boolean): number =>
  chains ? frameSize : Math.min(frameSize, CHUNK);

/** Why a path with jumbo frames has no chains, without the end of the sentence. */
export const NO_CHAINS = 'multi-buffer AF_XDP needs Linux 6.17, or 6.6 and zero-copy';

/** Why a device without chains takes no such MTU. */
export const tooLongForChunk = (device: string, mtu: number): TwinpathError =>
  new TwinpathError('ERR_DEVICE_SETTINGS', {
    device,
    detail: `an MTU of ${mtu} is more than the ${maxMtu(CHUNK)} that fit one buffer: ${NO_CHAINS}`,
    hint: 'Lower the MTU, or leave the VF out: vf: false.',
  });

/** @throws ERR_OPTION_INVALID if the device's longest packet would fill a frame or more */
export function refuseLongPackets({ name, mtu }: Link, frameSize: number): void {
  const most = maxMtu(frameSize);
  if (mtu <= most) return;
  throw new TwinpathError('ERR_OPTION_INVALID', {
    device: name,
    detail: `its MTU is ${mtu} and a frame of ${frameSize} bytes serves one up to ${most}`,
    hint: largerFrame(mtu, frameSize),
  });
}
