/**
 * A handler for the benchmark `garbage`: packets circulate, and after `warm` of them V8 is asked what it allocates and collects
 * during `measured` more. The answer is a file, as a worker that polls receives no messages.
 */
import { writeFileSync } from 'node:fs';
import { GCProfiler } from 'node:v8';
import type { HandlerContext, TickingHandler } from '../../src/handler/handler.ts';
import { create as circulate } from './circulate-handler.ts';

interface Options {
  /** Packets that circulate. */
  readonly packets: number;
  readonly warm: number;
  readonly measured: number;
  readonly file: string;
}

/** The contents of the file. */
export interface Garbage {
  readonly packets: number;
  /** Bytes that V8 allocated, without those of asking. */
  readonly allocated: number;
  readonly collections: number;
  /** Of a collection, in microseconds; 0 without any. */
  readonly longestPause: number;
}

/** Empty measurements before the first: what a measurement itself allocates becomes steady after a few. */
const ASKED_FIRST = 8;

export function create(options: Record<string, unknown>, context: HandlerContext): TickingHandler {
  const { packets, warm, measured, file } = options as unknown as Options;
  const { handle, tick, tickMillis } = circulate({ loaded: 1, packets }, context);
  const profiler = new GCProfiler();
  let seen = 0;
  let began = 0;
  let heap = 0;
  let asking = 0;
  let done = false;

  const ask = (): void => {
    heap = process.memoryUsage().heapUsed;
    profiler.start();
  };
  const answer = (): Omit<Garbage, 'packets'> => {
    const { statistics } = profiler.stop()!;
    let allocated = 0;
    for (const { beforeGC, afterGC } of statistics) {
      allocated += beforeGC.heapStatistics.usedHeapSize - heap;
      heap = afterGC.heapStatistics.usedHeapSize;
    }
    allocated += process.memoryUsage().heapUsed - heap;
    const longestPause = Math.max(0, ...statistics.map(({ cost }) => cost));
    return { allocated, collections: statistics.length, longestPause };
  };
  return {
    tickMillis,
    handle(burst) {
      handle(burst);
      seen += burst.length;
    },
    tick(burst, port) {
      tick(burst, port);
      if (began === 0 && seen >= warm) {
        for (let i = 0; i < ASKED_FIRST; i++) {
          ask();
          asking = answer().allocated;
        }
        began = seen;
        ask();
      } else if (began > 0 && !done && seen >= began + measured) {
        done = true;
        const { allocated, ...rest } = answer();
        const garbage: Garbage = { packets: seen - began, allocated: allocated - asking, ...rest };
        writeFileSync(file, JSON.stringify(garbage));
      }
    },
  };
}
