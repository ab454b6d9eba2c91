/**
 * What tests of your own import: `import { Lab, Traffic } from 'twinpath/lab'`.
 *
 * A lab is a Hyper-V host made of network namespaces: kernel devices, a virtual switch, a guest whose VF comes and goes. A port
 * is opened in the guest (`netns: lab.guest, netvsc: lab.nic.netvsc, force: true`), numbered packets come from outside, and
 * their report says what was lost, doubled or reordered. Needs root and iproute2.
 */

export type { NicEvent, NicEventKind } from './context.ts';
export { Lab, type LabOptions } from './host.ts';
export type { Nic } from './nic.ts';
export type { TrafficProgress } from './progress.ts';
export type { Tally, Window } from './sequence.ts';
export { type StopOptions, Traffic, type TrafficOptions, type TrafficReport } from './traffic.ts';
