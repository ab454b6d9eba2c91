/** The rows, in the order in which they are measured and shown. A new one is an object in a file of rows/, and a line here. */
import { port, veth } from '../rows/af-xdp.ts';
import { failover, vfReturn } from '../rows/failover.ts';
import { garbage, handler } from '../rows/handler.ts';
import { handoff } from '../rows/handoff.ts';
import { kernels } from '../rows/kernels.ts';
import { idle, latency } from '../rows/latency.ts';
import { nodeLibs } from '../rows/node-libs.ts';
import { soak, start } from '../rows/process.ts';
import { failsafeTax, ring } from '../rows/ring.ts';
import { scaling } from '../rows/scaling.ts';
import { fallback, tap } from '../rows/tap.ts';
import { tcp, tcpFailover } from '../rows/tcp.ts';
import type { Row } from './row.ts';

export const ROWS: readonly Row[] = [
  ring,
  failsafeTax,
  veth,
  tap,
  port,
  fallback,
  failover,
  tcp,
  tcpFailover,
  handoff,
  latency,
  scaling,
  handler,
  kernels,
  garbage,
  idle,
  start,
  nodeLibs,
  vfReturn,
  soak,
];
