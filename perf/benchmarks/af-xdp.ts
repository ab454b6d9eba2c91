/**
 * AF_XDP: path queues alone (`veth`), and the port around one (`port`).
 *
 * `veth`: packets circulate between the two ends of a veth pair in copy mode, and each end exchanges their MAC addresses. One CPU
 * does everything, the kernel's part too: the thread that sends a packet through a veth also receives it. There is no generator.
 * The figure is the cost of receiving, handling, sending and completing a packet; nearly all of it is the kernel's. `ours`: two
 * path queues as a worker attaches them and the reflect handler, without a port (rigs/bare-paths.ts). `c`: the same in C over the
 * same rings, with the same burst, budgets and depth (peers/xsk-macswap.c). `testpmd`: DPDK's net_af_xdp on both ends, at its best
 * burst. Bursts of 16, 32, 64 and 128 gave 0.85, 0.88, 0.88 and 0.89 Mpps here; with busy_budget=0 it was 0.84 to 0.88.
 *
 * `port`: a port in a lab's guest reflects what it receives through its VF, from CPU 0, while its tap is idle. The kernel's part
 * of sending also runs on CPU 0. On CPU 1 the host puts frames into the VF (peers/xdp-generator.c), several times as many as any
 * variant takes, so the generator never limits. The figure counts the packets that leave the VF. The host drops them, with its
 * uplink down, because its further work would also run on CPU 0. `ours`: openPort in poll mode. `bare`: the VF's path queue and
 * the handler, without a port. `testpmd`: net_failsafe over net_af_xdp on the same VF and an unused net_tap. `attached`: ours, with
 * what an operator attaches to it by turns (rigs/attached.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { enterNamespace, inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import type { Lab } from '../../src/lab/host.ts';
import { ip } from '../../src/lab/namespaces.ts';
import { BURST } from '../../src/memory/layout.ts';
import { compiled, FIRST_CPU, LAST_CPU, Peer } from '../peers/program.ts';
import { Testpmd } from '../peers/testpmd.ts';
import { ATTACHMENTS, type Attachment, withAttaching } from '../rigs/attached.ts';
import { BarePaths } from '../rigs/bare-paths.ts';
import { openLabPort, ownedBy, withNamespace, withVf } from '../rigs/lab.ts';
import { portRules } from '../rigs/rules.ts';
import { growth } from '../rigs/timing.ts';
import { type Benchmark, type Budget, comparisons, type Sample, type Variant } from '../runner/benchmark.ts';

/** Bare AF_XDP path queues on devices of a namespace, on a CPU, while `work` runs. The thread stays in the namespace. */
async function withPaths<T>(
  namespace: string,
  devices: readonly string[],
  cpu: number,
  work: (paths: BarePaths) => Promise<T>,
): Promise<T> {
  const shim = loadShim();
  shim.affinity(cpu);
  enterNamespace(shim, namespace);
  const netlink = RtNetlink.open(shim);
  const links = devices.map((device) => netlink.link(device)!);
  netlink.close();
  const paths = new BarePaths(shim, links);
  try {
    return await work(paths);
  } finally {
    paths.close();
  }
}

/** Packets that each end sends at the start: a burst is under way in each direction. */
const PACKETS = BURST;
const TESTPMD_BURST = 128;
const DEVICES = ['va', 'vb'];
const LINES = [
  'link add va numtxqueues 1 numrxqueues 1 type veth peer name vb numtxqueues 1 numrxqueues 1',
  ...DEVICES.map((device) => `link set ${device} up`),
];

export const veth: Benchmark = {
  name: 'veth',
  about:
    'macswap between the two ends of a veth pair, AF_XDP copy mode, packets circulating; one core, no generator',
  variants: { ours: pathQueues, c: loopInC, testpmd: testpmdOnVeth },
  comparisons: comparisons(`
    veth   | ours.mpps / testpmd.mpps | Mpps | ≥ 1    | two path queues and the reflect handler; peer: testpmd with two net_af_xdp at its best
    veth:c | ours.mpps / c.mpps       | Mpps | ≥ 0.97 | the same; peer: a loop in C over the same rings
  `),
  full: { runs: 5, seconds: 1.5 },
  quick: { runs: 2, seconds: 0.8 },
};

function pathQueues({ seconds }: Budget): Promise<Sample> {
  return withNamespace(LINES, (namespace) =>
    withPaths(namespace, DEVICES, LAST_CPU, async (paths) => {
      paths.inject(PACKETS);
      await paths.run((millis) => millis > seconds * 250); // V8 has compiled everything after this
      return { mpps: await paths.run((millis) => millis > seconds * 1000) };
    }),
  );
}

async function loopInC({ seconds }: Budget): Promise<Sample> {
  const program = compiled('xsk-macswap');
  const args = [LAST_CPU, seconds, BURST, PACKETS, ...DEVICES];
  return withNamespace(LINES, async (namespace) => ({
    mpps: Number(await Peer.inNamespace(namespace, program, ...args).output()) / 1e6,
  }));
}

function testpmdOnVeth({ seconds }: Budget): Promise<Sample> {
  const vdevs = DEVICES.map((device, i) => `net_af_xdp${i},iface=${device}`);
  const options = { vdevs, forward: 'macswap', burst: TESTPMD_BURST, txFirst: 1, mbufs: 16_384 } as const;
  return withNamespace(LINES, (namespace) =>
    Testpmd.around({ ...options, namespace, extra: ['--port-topology=loop'] }, async (testpmd) => {
      await testpmd.mpps(seconds / 4);
      // Each packet is received by either port in turn.
      return { mpps: 2 * (await testpmd.mpps(seconds)) };
    }),
  );
}

const GENERATOR_CPU = 1;
/** Longer than any measurement, after which it is killed. */
const GENERATOR_SECONDS = 600;
/** Until V8 has compiled everything. */
const WARM_UP_MILLIS = 300;

const portWith =
  (rules: readonly string[]): Variant =>
  ({ seconds }) =>
    withVf(async (lab) => {
      const port = await openLabPort(lab, 'reflect.js', { mode: 'poll', configuration: { rules } });
      try {
        await ownedBy(port, 'vf');
        return await reflected(lab, seconds);
      } finally {
        await port.close();
      }
    });

/** Seconds with and without something attached, in turn: readers read once a second. */
const ATTACHED_SECONDS = 1;

/**
 * One port, with each attachment between two periods without any. A figure and its peer's are of neighbouring seconds of one
 * worker: on a shared machine two processes differ by more than what is looked for.
 */
const attached: Variant = () =>
  withVf(async (lab) => {
    const port = await openLabPort(lab, 'reflect.js', { mode: 'poll', control: true });
    try {
      await ownedBy(port, 'vf');
      return await withAttaching(port, (attached, cpuSeconds) =>
        offered(lab, async (packets) => {
          const mpps = async (): Promise<number> => {
            const [packetsBefore, before] = [packets(), cpuSeconds()];
            await sleep(ATTACHED_SECONDS * 1000);
            return (packets() - packetsBefore) / (cpuSeconds() - before) / 1e6;
          };
          const sample: Record<string, number> = {};
          await mpps();
          let before = await mpps();
          for (const name of Object.keys(ATTACHMENTS) as Attachment[]) {
            sample[name] = await attached(name, mpps);
            const after = await mpps();
            sample[`${name}Without`] = (before + after) / 2;
            before = after;
          }
          return sample;
        }),
      );
    } finally {
      await port.close();
    }
  });

export const port: Benchmark = {
  name: 'port',
  about:
    'consolidated port reflecting in a lab, VF active, tap idle; the generator, on the other core, offers more than is taken',
  variants: {
    ours: portWith([]),
    bare: barePath,
    testpmd: testpmdFailsafe,
    rules10: portWith(portRules(10, 'none')),
    rules1000: portWith(portRules(1000, 'none')),
    rules10000: portWith(portRules(10_000, 'none')),
    attached,
  },
  comparisons: comparisons(
    `
    port               | ours.mpps / bare.mpps         | Mpps | ≥ 0.97 | the port; peer: one bare AF_XDP path queue with the same handler
    port:testpmd       | ours.mpps / testpmd.mpps      | Mpps | ≥ 1.1  | the port; peer: testpmd with net_failsafe over net_af_xdp and net_tap
    port:capture-none  | attached.captureNone / attached.captureNoneWithout | Mpps | ≥ 0.98 | with a capture whose filter takes none of the packets; peer: the seconds before and after
    port:capture-all   | attached.captureAll / attached.captureAllWithout   | Mpps |        | with a capture of all packets, in both directions; peer: the same
    port:top           | attached.top / attached.topWithout                 | Mpps | ≥ 0.98 | with twinpath top; peer: the same
    port:metrics       | attached.metrics / attached.metricsWithout         | Mpps | ≥ 0.98 | with metrics read once a second; peer: the same
    port:metrics-often | attached.metricsConstantly / attached.metricsConstantlyWithout | Mpps | | with metrics read again as soon as they are answered; peer: the same
    port:all-attached  | attached.all / attached.allWithout                 | Mpps | ≥ 0.98 | with that capture of none, top, and metrics once a second; peer: the same
    port:rules-{count} | rules{count}.mpps / ours.mpps | Mpps | ≥ 0.9  | {COUNT}, none of which matches; peer: the port without rules
  `,
    {
      count: {
        10: 'with 10 flow rules for one port each',
        1000: 'with 1,000 for one prefix each',
        10000: 'with 10,000',
      },
    },
  ),
  full: { runs: 5, seconds: 1.5 },
  quick: { runs: 2, seconds: 0.8 },
};

function barePath({ seconds }: Budget): Promise<Sample> {
  return withVf((lab) =>
    withPaths(lab.guest, [lab.nic.vf!], FIRST_CPU, async (path) => {
      let over = false;
      const sample = reflected(lab, seconds).finally(() => {
        over = true;
      });
      await path.run(() => over);
      return await sample;
    }),
  );
}

function testpmdFailsafe({ seconds }: Budget): Promise<Sample> {
  return withVf((lab) => {
    const vdevs = [`net_failsafe0,dev(net_af_xdp0,iface=${lab.nic.vf}),dev(net_tap0,iface=dtap0)`];
    const options = { vdevs, forward: 'macswap', burst: BURST, core: FIRST_CPU, mbufs: 16_384 } as const;
    return Testpmd.around({ ...options, namespace: lab.guest }, () => reflected(lab, seconds));
  });
}

/** Starts the generator, and counts what leaves the guest when everything is warm. */
const reflected = (lab: Lab, seconds: number): Promise<Sample> =>
  offered(lab, async (packets) => {
    await sleep(seconds * 250);
    return { mpps: await growth(seconds, packets) };
  });

/** Runs `work` while the generator does, with a count of what has left the guest. @throws Error if it ends meanwhile */
async function offered<T>(lab: Lab, work: (packets: () => number) => Promise<T>): Promise<T> {
  const shim = loadShim();
  const far = `v${lab.nic.number}`;
  ip([`link set p${lab.nic.number} down`], lab.host);
  const netlink = inNamespace(shim, lab.host, () => RtNetlink.open(shim));
  const arrived = (): number => netlink.link(far)!.statistics!.rxPackets;
  const generator = Peer.start(lab.host, 'xdp-generator', GENERATOR_CPU, GENERATOR_SECONDS, far);
  try {
    await sleep(WARM_UP_MILLIS);
    const result = await work(arrived);
    if (!generator.running) throw new Error(`the generator ended: ${await generator.output()}`);
    return result;
  } finally {
    await generator.kill();
    netlink.close();
  }
}
