/** The programs of examples/ as a person runs them, and their handlers on a port that fails over. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { buildLab, expectNoDrops, expectUnharmed, passed, Scene, until } from '../support/harness.ts';
import { Peer } from '../support/peers.ts';
import { temporary } from '../support/process.ts';
import { rawSocket } from '../support/raw.ts';

const examples = fileURLToPath(new URL('../../examples', import.meta.url));
const handler = (name: string): URL => pathToFileURL(join(examples, name, 'handler.mjs'));

/** A program of the examples in a process group of its own, as a terminal runs it. */
class Program {
  readonly #child: ChildProcess;
  readonly exited: Promise<number | null>;
  stdout = '';
  stderr = '';

  constructor(...[program, ...args]: string[]) {
    this.#child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    this.#child.stdout!.on('data', (text) => {
      this.stdout += text;
    });
    this.#child.stderr!.on('data', (text) => {
      this.stderr += text;
    });
    this.exited = new Promise((resolve) => this.#child.once('close', resolve));
    onTestFinished(async () => {
      this.#kill('SIGKILL');
      await this.exited;
    });
  }

  /** Ctrl-C reaches every process of the group. */
  interrupt(): void {
    this.#kill('SIGINT');
  }

  #kill(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.#child.pid!, signal);
    } catch {
      // They have all ended.
    }
  }

  /** Until standard output matches. */
  async printed(text: RegExp): Promise<void> {
    await until(`${text}`, () => {
      if (this.#child.exitCode !== null) throw new Error(`it ended: ${this.stderr}`);
      return text.test(this.stdout);
    });
  }
}

const node = (file: string, ...args: string[]): string[] => [process.execPath, join(examples, file), ...args];
const betweenHosts = (target: 'here' | 'right', ...command: string[]): Program =>
  new Program(join(examples, 'two-hosts.sh'), target, ...command);

/** A number of the last line that it is in. */
function last(text: string, pattern: RegExp): number {
  return Number([...text.matchAll(pattern)].at(-1)?.[1]);
}

describe('reflect', () => {
  it('sends a frame back to the address that it came from', async () => {
    const lab = await buildLab();
    const wire = rawSocket(lab.outside, 'u0');
    const scene = await Scene.openIn(lab, { handler: handler('reflect'), handlerOptions: {} });
    const [guest, peer] = ['02155d770002', '02155d770001'];
    const payload = '88b5'.padEnd(100, '42'); // an EtherType for experiments
    wire.send(Buffer.from(guest + peer + payload, 'hex'));
    const found: string[] = [];
    await until('the frame is back', () => {
      found.push(...wire.received().map((frame) => frame.toString('hex')));
      return found.length > 0;
    });
    expect(found).toEqual([peer + guest + payload]);
    await scene.finish();
  });
});

describe('udp-echo', () => {
  it("answers a kernel's UDP through a failover, while the machine answers its pings", async () => {
    const scene = await Scene.openIn(await buildLab(), { handler: handler('udp-echo'), handlerOptions: {} });
    const traffic = await scene.drive({ rate: 5_000 });
    await scene.plug();
    await passed(traffic);
    await scene.unplug();
    await passed(traffic);
    expectNoDrops(scene.port);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });
});

describe('dns', () => {
  it("answers Node's own resolver", async () => {
    const lab = await buildLab({ arp: true });
    const client = await Peer.start(lab.outside);
    const names = { 'www.example.test': '203.0.113.7' };
    const scene = await Scene.openIn(lab, { handler: handler('dns'), handlerOptions: { names } });
    const ask = (name: string, type: string) => client.call('resolve', lab.nic.guestAddress, name, type);
    expect(await ask('www.example.test', 'A')).toEqual(['203.0.113.7']);
    expect(await ask('www.example.test', 'AAAA')).toBe('ENODATA');
    expect(await ask('other.example.test', 'A')).toBe('EREFUSED');
    await scene.finish();
  });
});

describe('counter', () => {
  it('counts the pings that the machine answers, until Ctrl-C', async () => {
    const program = betweenHosts('here', ...node('counter/counter.mjs', 'eth0'));
    await program.printed(/pings [1-9]\d/);
    program.interrupt();
    expect(await program.exited).toBe(0);
    expect(program.stderr).toBe('');
    const counted = last(program.stdout, /pings (\d+)/g);
    expect(counted).toBeLessThanOrEqual(last(program.stdout, /(\d+) sent/g));
    expect(last(program.stdout, /(\d+) answered/g)).toBeGreaterThan(0);
  });
});

describe('sniffer', () => {
  it('writes a pcap file with the packets that it was asked for', async () => {
    const file = join(temporary(), 'packets.pcap');
    const program = betweenHosts('here', ...node('sniffer/sniffer.mjs', 'eth0', file, '50'));
    expect(await program.exited).toBe(0);
    expect(program.stderr).toBe('');
    expect(program.stdout).toContain('50 packets written, 0 lost');

    const records = readPcap(file);
    expect(records).toHaveLength(50);
    const pings = records.filter(({ data }) => data.readUInt16BE(12) === 0x0800 && data[23] === 1);
    expect(pings.length).toBeGreaterThan(40); // the others are ARP
    const [first] = pings;
    expect(first!.data.subarray(0, 14).toString('hex')).toBe('0200000000020200000000010800');
    expect(first!.data.subarray(26, 35)).toEqual(Buffer.from([10, 77, 0, 1, 10, 77, 0, 2, 8]));
    const numbers = pings.map(({ data }) => data.readUInt16BE(40));
    expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b)); // in order, none twice
    const times = records.map(({ seconds }) => seconds);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(Math.abs(times[0]! - Date.now() / 1000)).toBeLessThan(3600);

    const { error, stdout } = spawnSync('tcpdump', ['-nr', file, 'icmp[icmptype] == icmp-echo'], {
      encoding: 'utf8',
    });
    if (error === undefined) expect(stdout.trim().split('\n')).toHaveLength(pings.length);
  });

  it('leaves a complete pcap file at Ctrl-C', async () => {
    const file = join(temporary(), 'packets.pcap');
    const program = betweenHosts('here', ...node('sniffer/sniffer.mjs', 'eth0', file));
    await until('some packets in the file', () => existsSync(file) && readFileSync(file).length > 1000);
    program.interrupt();
    expect(await program.exited).toBe(0);
    expect(readPcap(file)).toHaveLength(last(program.stdout, /(\d+) packets written/g));
  });

  it('opens no port for a file that cannot be written', async () => {
    const program = new Program(...node('sniffer/sniffer.mjs', 'tp-nowhere', '/proc/nowhere/packets.pcap'));
    expect(await program.exited).toBe(1);
    expect(program.stderr).toContain('ENOENT');
    expect(program.stderr).not.toContain('tp-nowhere is');
  });
});

describe('generator', () => {
  it("has a kernel's answers in its histogram, and finds the MAC address itself", async () => {
    const lab = await buildLab({ queues: 1 });
    const inLab = (...args: string[]): Program =>
      new Program('ip', 'netns', 'exec', lab.outside, ...node('generator/generator.mjs', ...args));
    const program = inLab('u0', lab.nic.guestAddress, '--seconds', '1', '--rate', '500');
    expect(await program.exited).toBe(0);
    expect(program.stderr).toBe('');
    const answered = last(program.stdout, /(\d+) answered/g);
    expect(answered).toBeGreaterThan(0);
    const rows = [...program.stdout.matchAll(/below +\d+ µs +(\d+)/g)].map(([, count]) => Number(count));
    expect(rows.reduce((all, count) => all + count, 0)).toBe(answered);

    const unknown = inLab('u0', '10.77.0.9');
    expect(await unknown.exited).toBe(2);
    expect(unknown.stderr).toContain('10.77.0.9 is not in the ARP table');
    const elsewhere = inLab('tp-nowhere', '10.77.0.2');
    expect(await elsewhere.exited).toBe(2);
    expect(elsewhere.stderr).toContain('tp-nowhere has no IPv4 address');
  });
});

describe('forwarding', () => {
  it('carries pings and their answers between two hosts, until Ctrl-C', async () => {
    const program = betweenHosts('right', ...node('forwarding/forward.mjs', 'eth0', 'eth1'));
    await program.printed(/eth1: [1-9]\d+ received/);
    program.interrupt();
    expect(await program.exited).toBe(0);
    expect(program.stderr).toBe('');
    expect(last(program.stdout, /(\d+) answered/g)).toBeGreaterThan(0);
    expect(last(program.stdout, /eth0: \d+ received, (\d+) sent/g)).toBeGreaterThan(0);
  });
});

describe('pcap', () => {
  it('prints the pings that come in and the answers of the machine, which it still sends', async () => {
    const program = betweenHosts('here', ...node('pcap/watch.mjs', 'eth0', 'icmp', '60'));
    expect(await program.exited).toBe(0);
    expect(program.stderr).toBe('');
    const lines = program.stdout.split('\n').filter((line) => line.startsWith('LINKTYPE_ETHERNET'));
    expect(lines).toHaveLength(60);
    const requests = lines.filter((line) =>
      line.endsWith('10.77.0.1 -> 10.77.0.2 flags [d] ICMP Echo Request'),
    );
    const replies = lines.filter((line) =>
      /10\.77\.0\.2 -> 10\.77\.0\.1 (flags \[d\] )?ICMP Echo Reply$/.test(line),
    );
    expect(requests.length + replies.length).toBe(60);
    expect(replies.length).toBeGreaterThan(10);
    expect(last(program.stdout, /(\d+) answered/g)).toBeGreaterThan(10);
  });
});

describe('every program of the examples', () => {
  it.each([
    'counter/counter.mjs',
    'sniffer/sniffer.mjs',
    'pcap/watch.mjs',
    'generator/generator.mjs',
    'forwarding/forward.mjs',
  ])('%s prints its help, and its usage for wrong arguments', async (file) => {
    const run = async (...args: string[]) => {
      const program = new Program(...node(file, ...args));
      return { status: await program.exited, stdout: program.stdout, stderr: program.stderr };
    };
    const [help, ...wrong] = await Promise.all([
      run('--help'),
      ...[run(), run('a', 'b', 'c', 'd'), run('--nonsense')],
    ]);
    expect(help).toMatchObject({ status: 0, stderr: '' });
    expect(help.stdout).toContain(`Usage: node ${file.split('/')[1]} DEVICE`);
    for (const outcome of wrong) {
      expect(outcome).toMatchObject({ status: 2, stdout: '' });
      expect(outcome.stderr).toContain('Usage: node');
    }
  });

  it.each([
    ['counter/counter.mjs', 'tp-nowhere'],
    ['sniffer/sniffer.mjs', 'tp-nowhere', '/dev/null'],
    ['pcap/watch.mjs', 'tp-nowhere'],
    ['forwarding/forward.mjs', 'tp-nowhere', 'tp-neither'],
  ])('%s names a device that does not exist', async (file, ...args) => {
    const program = new Program(...node(file, ...args));
    expect(await program.exited).toBe(1);
    expect(program.stderr).toContain('There is no such network device: tp-nowhere');
  });

  it('two-hosts.sh prints its help, and exits with the status of its command', () => {
    const script = join(examples, 'two-hosts.sh');
    const run = (...args: string[]) => spawnSync(script, args, { encoding: 'utf8' });
    expect(run('--help')).toMatchObject({ status: 0, stderr: '' });
    for (const args of [[], ['here'], ['nowhere', 'true']])
      expect(run(...args)).toMatchObject({ status: 2, stdout: '' });
    expect(run('here', 'sh', '-c', 'exit 3').status).toBe(3);
    expect(execFileSync('ip', ['netns'], { encoding: 'utf8' })).not.toMatch(/^(left|right)$/m);
  });
});

interface PcapRecord {
  readonly seconds: number;
  readonly data: Buffer;
}

/** By the format's description, and complaining about whatever is not as it should be. */
function readPcap(file: string): PcapRecord[] {
  const bytes = readFileSync(file);
  const header = [0xa1b23c4d, 0x00040002, 0, 0, 262_144, 1];
  expect([0, 4, 8, 12, 16, 20].map((at) => bytes.readUInt32LE(at))).toEqual(header);
  const records: PcapRecord[] = [];
  let at = 24;
  while (at < bytes.length) {
    const [seconds, nanos, count, whole] = [0, 4, 8, 12].map((field) => bytes.readUInt32LE(at + field));
    expect(nanos).toBeLessThan(1e9);
    expect(count).toBe(whole);
    at += 16 + count!;
    records.push({ seconds: seconds! + nanos! / 1e9, data: bytes.subarray(at - count!, at) });
  }
  expect(at).toBe(bytes.length);
  return records;
}
