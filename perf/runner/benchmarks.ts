/** The benchmarks, in the order in which they are measured and shown. A new one is an object in a file of benchmarks/, and a line here. */
import { port, veth } from '../benchmarks/af-xdp.ts';
import { failover, vfReturn } from '../benchmarks/failover.ts';
import { garbage, handler } from '../benchmarks/handler.ts';
import { handoff } from '../benchmarks/handoff.ts';
import { kernels } from '../benchmarks/kernels.ts';
import { idle, latency } from '../benchmarks/latency.ts';
import { nodeLibs } from '../benchmarks/node-libs.ts';
import { soak, start } from '../benchmarks/process.ts';
import { failsafeTax, ring } from '../benchmarks/ring.ts';
import { rules } from '../benchmarks/rules.ts';
import { scaling } from '../benchmarks/scaling.ts';
import { fallback, tap } from '../benchmarks/tap.ts';
import { tcp, tcpFailover } from '../benchmarks/tcp.ts';
import type { Benchmark } from './benchmark.ts';

export const BENCHMARKS: readonly Benchmark[] = [
  ring,
  failsafeTax,
  veth,
  tap,
  port,
  rules,
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
