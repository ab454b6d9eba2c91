/** State for handlers, without garbage and of fixed size: `import { FlowTable } from 'twinpath/state'`. */
export { FlowKey } from './state/flow-key.ts';
export { FlowTable, type FlowTableOptions } from './state/flow-table.ts';
export type { StateMemory } from './state/state-memory.ts';
export { TimerWheel, type TimerWheelOptions } from './state/timer-wheel.ts';
export { TokenBuckets, type TokenBucketsOptions } from './state/token-buckets.ts';
