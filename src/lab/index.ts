/**
 * For tests of your own: `import { Lab, Traffic } from 'twinpath/lab'`.
 *
 * A lab is a Hyper-V host made of network namespaces: kernel devices, a virtual switch, a guest whose VF comes and goes. A
 * test opens a port in the guest (`netns: lab.guest, netvsc: lab.nic.netvsc, force: true`) and sends numbered packets from
 * outside; their report says which were lost, duplicated or reordered. Needs root and iproute2.
 *
 * Read host.ts (Lab), nic.ts, traffic.ts and reports.ts.
 */
export { Lab, type LabOptions } from './host.ts';
export type { Nic, NicEvent, NicEventKind } from './nic.ts';
export type { Tally, TrafficProgress, TrafficReport, Window } from './reports.ts';
export { type StopOptions, Traffic, type TrafficOptions } from './traffic.ts';
