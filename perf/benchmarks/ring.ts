/**
 * Macswap over packets that circulate in memory, on one core, without a kernel: the datapath's own loop and testpmd's over
 * `net_ring` (`ring`), and the whole port around that loop (`failsafe-tax`).
 *
 * The same number of packets circulates in all variants. Our loop takes up to 256 of them at once if the handler has an in-place
 * function, and 64 otherwise. testpmd is measured with several bursts; the goals are for its best one.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { openPort } from '../../src/index.ts';
import { Testpmd } from '../peers/testpmd.ts';
import { BYTES, bareLoop, CIRCULATING } from '../rigs/bare-loop.ts';
import { growth, nanosEach } from '../rigs/timing.ts';
import { type Benchmark, comparisons, type Sample, type Variant } from '../runner/benchmark.ts';

/** testpmd's macswap over one device made of rings. */
const testpmd =
  (vdev: string, burst: number): Variant =>
  ({ seconds }) =>
    Testpmd.around(
      { vdevs: [vdev], forward: 'macswap', burst, txFirst: CIRCULATING / burst },
      async (testpmd) => {
        await sleep(300);
        return { mpps: await testpmd.mpps(seconds) };
      },
    );

const loop =
  (language: 'js' | 'wasm'): Variant =>
  async ({ seconds }) => {
    const run = await bareLoop(language);
    for (let warm = 0; warm < 20; warm++) run(); // V8 has compiled everything after this
    const ns = nanosEach(seconds, run);
    return { mpps: 1e3 / ns, ns };
  };

/** The whole port: a worker, two paths open and polled, of which the VF carries everything, statistics kept. */
async function wholePort({ seconds }: { seconds: number }): Promise<Sample> {
  const handler = new URL('../wasm/circulate.wasm', import.meta.url);
  const handlerOptions = { packets: CIRCULATING, bytes: BYTES };
  const where = { network: 'loop', queues: 1, mode: 'poll', pin: true } as const;
  const port = await openPort({ ...where, handler, handlerOptions });
  try {
    port.plug('vf');
    await sleep(1000);
    const before = port.stats().paths.synthetic.rxPackets;
    const mpps = await growth(seconds, () => port.stats().paths.vf.rxPackets);
    if (port.stats().paths.synthetic.rxPackets !== before) throw new Error('the synthetic path was not idle');
    const [ledger] = await port.audit();
    if (ledger!.rx !== CIRCULATING || ledger!.accounted !== ledger!.total) {
      throw new Error(`packets or frames were lost: ${JSON.stringify(ledger)}`);
    }
    return { mpps };
  } finally {
    await port.close();
  }
}

export const ring: Benchmark = {
  name: 'ring',
  about: 'macswap over a ring in memory, 256 packets circulating, one core, no port around it',
  variants: {
    wasm: loop('wasm'),
    testpmd16: testpmd('net_ring0', 16),
    testpmd32: testpmd('net_ring0', 32),
    testpmd64: testpmd('net_ring0', 64),
    testpmd128: testpmd('net_ring0', 128),
    js: loop('js'),
  },
  comparisons: comparisons(
    `
    ring            | wasm.mpps / testpmd64.mpps      | Mpps | ≥ 1   | macswap in WebAssembly over a ring; peer: net_ring, burst 64
    ring:wasm-{burst} | wasm.mpps / testpmd{burst}.mpps | Mpps |       | macswap in WebAssembly over a ring; peer: net_ring, burst {burst}
    ring:js         | js.mpps / testpmd64.mpps        | Mpps | ≥ 0.7 | macswap in TypeScript over a ring; peer: net_ring, burst 64
    ring:js-{burst} | js.mpps / testpmd{burst}.mpps   | Mpps |       | macswap in TypeScript over a ring; peer: net_ring, burst {burst}
  `,
    { burst: { 16: '', 32: '', 128: '' } },
  ),
  full: { runs: 5, seconds: 1 },
  quick: { runs: 2, seconds: 0.5 },
};

const FAILSAFE = 'net_failsafe0,dev(net_ring0),dev(net_ring1)';

export const failsafeTax: Benchmark = {
  name: 'failsafe-tax',
  about:
    'macswap through the whole port, both paths in memory and one idle, 256 packets circulating, one core',
  variants: {
    port: wholePort,
    ring: loop('wasm'),
    failsafe32: testpmd(FAILSAFE, 32),
    failsafe64: testpmd(FAILSAFE, 64),
  },
  comparisons: comparisons(`
    failsafe-tax            | port.mpps / ring.mpps       | Mpps | ≥ 0.92 | macswap in WebAssembly through the whole port; peer: our bare loop
    failsafe-tax:testpmd-32 | port.mpps / failsafe32.mpps | Mpps | ≥ 1    | the same; peer: net_failsafe over two net_ring, burst 32
    failsafe-tax:testpmd-64 | port.mpps / failsafe64.mpps | Mpps | ≥ 1    | the same; peer: net_failsafe over two net_ring, burst 64
  `),
  full: { runs: 5, seconds: 1 },
  quick: { runs: 2, seconds: 0.5 },
};
