/**
 * Flow rules: what it costs a frame that the last of N rules drops, on one core. `port:rules-N` (af-xdp.ts) has what rules cost a
 * whole port.
 *
 * Frames are given to a device where its driver hands over what it has received (rigs/flood.ts). `xdp`: to the port's program on a
 * VF. `tc`: to the kernel, which makes a socket buffer of each, and then to the port's tcx program on the NetVSC. `nft`: to the
 * kernel too, and then to a chain of nftables at the same device's ingress, the place beside tc. All count what they drop. Every
 * frame has the same addresses, so what is searched is in the cache.
 */
import { spawnSync } from 'node:child_process';
import { openPort } from '../../src/index.ts';
import { missing } from '../peers/program.ts';
import { costOfDrop, type Dropper } from '../rigs/flood.ts';
import { nftRules, portRules } from '../rigs/rules.ts';
import { type Benchmark, comparisons, type Variant } from '../runner/benchmark.ts';

async function withRules(namespace: string, count: number): Promise<Dropper> {
  const handler = new URL('../../src/handlers/drop.js', import.meta.url);
  const where = { netns: namespace, netvsc: 'eth0', force: true, queues: 1, host: 'off' } as const;
  const port = await openPort({
    ...where,
    mode: 'interrupt',
    handler,
    configuration: { rules: portRules(count, 'last') },
  });
  return {
    dropped: async () => (await port.rules.counters()).rules[count - 1]!.packets,
    close: () => port.close(),
  };
}

function withNft(namespace: string, count: number): Dropper {
  const nft = (...args: string[]): string => {
    const input = args[0] === '-f' ? nftRules('eth0', count, 'last') : '';
    const { status, stdout, stderr, error } = spawnSync('ip', ['netns', 'exec', namespace, 'nft', ...args], {
      input,
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    });
    if (error !== undefined || stderr.includes('exec of "nft" failed')) throw missing('nft');
    if (status !== 0) throw new Error(`nft: ${stderr.trim().split('\n')[0]}`);
    return stdout;
  };
  nft('-f', '-');
  return {
    dropped: () => {
      const counters = nft('list', 'chain', 'netdev', 'perf', 'rules').matchAll(/packets (\d+)/g);
      return Number([...counters].at(-1)![1]);
    },
    close: () => {}, // the chain goes with the namespace
  };
}

const COUNTS = {
  10: '10 rules for one port each',
  1000: '1,000 for one prefix each',
  10000: '10,000 for one prefix each',
};

const cost =
  (device: 'vf0' | 'eth0', dropper: typeof withRules | typeof withNft, count: number): Variant =>
  async () => ({ ns: await costOfDrop(device, (namespace) => dropper(namespace, count)) });

const variants = Object.fromEntries(
  Object.keys(COUNTS)
    .map(Number)
    .flatMap((count): [string, Variant][] => [
      [`xdp${count}`, cost('vf0', withRules, count)],
      [`tc${count}`, cost('eth0', withRules, count)],
      [`nft${count}`, cost('eth0', withNft, count)],
    ]),
);

export const rules: Benchmark = {
  name: 'rules',
  about:
    'a frame that the last of N rules drops, from where the driver hands it over; one core, the frames made by it too',
  variants,
  comparisons: comparisons(
    `
    rules:tc-{count}  | tc{count}.ns / nft{count}.ns  | ns | ≤ 1 | {COUNT}, on the NetVSC; peer: nftables at the ingress of the same device
    rules:xdp-{count} | xdp{count}.ns / nft{count}.ns | ns | ≤ 1 | {COUNT}, on the VF; peer: the same nftables, whose packets have a socket buffer
  `,
    { count: COUNTS },
  ),
  full: { runs: 3, seconds: 1 },
  quick: { runs: 1, seconds: 1 },
};
