/**
 * Counters: one Float64 each, written by one thread, read by any.
 *
 * A counter is exact to 2^53, which none reaches. An aligned 8-byte store is one access on both architectures, so a
 * reader sees a recent value, never half of one. Added to once per burst.
 */
import type { PathId } from './layout.ts';
import type { Memory } from './shared.ts';

/** Counters of a (port, queue). A drop reason is a counter; `DROP_REASONS` names them. */
export const QUEUE_COUNTERS = [
  'bursts',
  'sent', // frames the handler made with send()
  'sendRefused', // send() without a free frame, room on a path, or a valid length
  'handlerErrors', // exceptions thrown by the handler
  'dropVerdict',
  'dropHandlerError',
  'dropNoPath',
  'dropTxFull',
  'dropBadLength',
  'dropTooLong', // longer than the path's MTU allows
  'dropStuck', // in hand when the handler did not return
  'dropWorkerDied', // in hand when a worker died: for the second time, or in a buffer that died with it
  'dropHandoffFull', // the handoff ring to the queue that owns the flow was full
  'dropHostFull', // the host path was full
  'dropNoHost', // there is no host path
  'dropDeliverFull', // the application does not read fast enough
  'dropNoPort', // forwarded to a port that does not exist
  'dropNoFrame', // no free frame to copy it to
  'dropUncut', // too long to be sent, and cannot be cut
  'dropBadOffload', // what the handler ordered for it does not fit its headers
  'handedOver', // to another worker
  'takenOver', // from another worker
  'forwarded', // to another port
  'forwardedCopies', // of those: copied, because that port has another memory
  'accepted', // from another port
  'delivered', // to the application
  'teed', // of those: copies of packets that went on
  'teeFull', // copies of such packets that found no room, or no free frame: the application does not read fast enough
  'segments', // made by cutting a longer packet, beyond the first of each
  'ticks', // calls of the handler's tick
  'messagesRefused', // of the handler for the application, which had as many to read as may wait
  'sleeps',
] as const;
export type QueueCounter = (typeof QUEUE_COUNTERS)[number];

/** Counters of a (port, queue, path). */
export const PATH_COUNTERS = [
  'rxPackets',
  'rxBytes',
  'txPosted', // packets given to the path, each as often as it was given
  'txPackets', // completed
  'txBytes', // of what was posted
  'txSegments', // of txPackets: large segments that went uncut
  'txSegmentsRefused', // large segments that the device refused uncut: they were cut then
  'txErrors', // completed with an error
  'txRetried', // dropped by the device and given to it again
  'txRescued', // taken back unsent when the path went away
  'txUnknown', // neither completed nor taken back: inside the device when it went
  'txChains', // host path: writes, each of one or more of the packets
  'kicks',
  'kickErrors',
  'rxErrors', // the path answered a receive with an error
  'rxTooLong', // longer than a frame, and cannot be cut
  'rxGathered', // packets that came in several buffers and were copied into one frame
  'rxCut', // packets longer than a frame whose pieces are among rxPackets
] as const;
export type PathCounter = (typeof PATH_COUNTERS)[number];

/** The kernel's own counts of a path, summed over the path's incarnations. */
export const KERNEL_COUNTERS = [
  'rxDropped',
  'rxRingFull',
  'rxFillEmpty',
  'rxUnclaimed', // came on a receive queue of the VF on which the port has no socket
  'txInvalid',
  'lostInDevice', // the VF had no buffer for them: rx_missed_errors, include/uapi/linux/if_link.h
] as const;
export type KernelCounter = (typeof KERNEL_COUNTERS)[number];

export const NOTHING_DROPPED: Readonly<Record<KernelCounter, number>> = Object.freeze(
  Object.fromEntries(KERNEL_COUNTERS.map((name) => [name, 0])) as Record<KernelCounter, number>,
);

/** The Float64 index of each counter of a group, by name. */
export type CounterIndex<Name extends string> = Readonly<Record<Name, number>>;

function indices<Name extends string>(names: readonly Name[], byteOffset: number): CounterIndex<Name> {
  const entries = names.map((name, i) => [name, byteOffset / 8 + i] as const);
  return Object.fromEntries(entries) as Record<Name, number>;
}

export const queueCounters = (memory: Memory, port: number, queue: number) =>
  indices(QUEUE_COUNTERS, memory.queue(port, queue).offset('counters'));

export const pathCounters = (memory: Memory, port: number, queue: number, path: PathId) =>
  indices(PATH_COUNTERS, memory.slot({ port, queue, path }).offset('counters'));

export const kernelCounters = (memory: Memory, port: number, queue: number, path: PathId) =>
  indices(KERNEL_COUNTERS, memory.slot({ port, queue, path }).offset('kernel'));

/** The current values of a group, by name. Any thread. */
export function readCounters<Name extends string>(
  memory: Memory,
  index: CounterIndex<Name>,
): Record<Name, number> {
  const values = {} as Record<Name, number>;
  for (const name in index) values[name] = memory.doubles[index[name]]!;
  return values;
}
