/** Thread entry: stands for the network of a port on the memory path, one queue after the other, until it is told to stop. */
import { workerData } from 'node:worker_threads';
import { loadShim } from '../../src/kernel/shim.ts';
import type { SharedMemory } from '../../src/memory/geometry.ts';
import { Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { MemoryPeer } from '../../src/paths/memory/peer.ts';

export interface NetworkData {
  readonly shared: SharedMemory;
  /** One word, 1 once this thread is to stop. */
  readonly stop: SharedArrayBuffer;
}

const BYTES = 60;
const BURST = 64;

const { shared, stop } = workerData as NetworkData;
const memory = Memory.attach(shared);
const stopping = new Int32Array(stop);
loadShim().threadName('network');
const peers = Array.from(
  { length: shared.geometry.queues },
  (_, queue) => MemoryPeer.attach(memory, 0, queue, Path.SYNTHETIC)!,
);
const discard = (): void => {};
const length = (): number => BYTES;

function play(): void {
  while (Atomics.load(stopping, 0) === 0) {
    for (const peer of peers) {
      peer.deliver(BURST, length);
      peer.collect(BURST, discard);
    }
  }
}

play();
