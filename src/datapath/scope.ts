/** The objects of one queue of one port. Belongs to the worker thread. */

import type { Burst } from '../handler/burst.ts';
import type { Shim } from '../kernel/shim.ts';
import type { FramePool } from '../memory/frames.ts';
import type { Memory } from '../memory/shared.ts';

export interface Scope {
  readonly shim: Shim;
  readonly memory: Memory;
  readonly pool: FramePool;
  readonly burst: Burst;
  readonly port: number;
  readonly queue: number;
}
