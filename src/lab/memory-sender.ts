/** The traffic thread over the memory path: the same generators as under the kernel, other wires. */
import type { SharedMemory } from '../memory/geometry.ts';
import { Memory } from '../memory/shared.ts';
import { DataPathSwitch } from './data-path-switch.ts';
import { MemoryOutside } from './memory-outside.ts';
import { generate, type SenderMessage, type TrafficOrder } from './sender.ts';

/** What the thread is started with. */
export interface MemorySenderOrder extends TrafficOrder {
  /** The port's memory; it is the first port there. */
  readonly shared: SharedMemory;
  readonly guestMac: string;
  /** {@link DataPathSwitch.buffer} */
  readonly dataPathSwitch: SharedArrayBuffer;
}

export function sendInMemory(order: MemorySenderOrder, tell: (message: SenderMessage) => void): void {
  const { shared, guestMac, dataPathSwitch, udp } = order;
  const outside = new MemoryOutside(Memory.attach(shared), new DataPathSwitch(dataPathSwitch), {
    ...udp,
    guestMac,
  });
  generate(outside, order, tell);
}
