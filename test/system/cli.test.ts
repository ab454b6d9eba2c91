import { execFileSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DemoLedger } from '../../src/cli/demo/ledger.ts';
import type { PortReport } from '../../src/cli/port-report.ts';
import { buildLab, drive, passed } from '../support/harness.ts';
import { attachments, linkIn } from '../support/machine-state.ts';
import { ROOT } from '../support/nobody.ts';
import { Peer } from '../support/peers.ts';
import { commandLines, type Outcome, Run, start, temporary, twinpath } from '../support/process.ts';

/** What every demo promises, whatever network it ran on. */
function expectKept({ code, stdout, stderr }: Outcome): DemoLedger {
  expect(code, stderr).toBe(0);
  const ledger: DemoLedger = JSON.parse(stdout);
  expect(ledger.problems).toEqual([]);
  for (const tally of [ledger.packets, ledger.icmp]) {
    expect(tally).toMatchObject({ duplicated: 0, reordered: 0, unknown: 0 });
    expect(tally.received).toBeGreaterThan(100);
    expect(tally.received + tally.lost).toBe(tally.sent);
  }
  expect(ledger.lostBy).toEqual({ surprise: ledger.packets.lost, unexplained: 0 });
  expect(ledger.icmpLostBy).toEqual({ surprise: ledger.icmp.lost, unexplained: 0 });
  const { beforePort, inPort, afterPort } = ledger.lostWhere;
  expect(beforePort + inPort + afterPort).toBe(ledger.packets.lost + ledger.icmp.lost);
  expect(ledger.frames.accounted).toBe(ledger.frames.total);
  for (const path of ['vf', 'synthetic'] as const) {
    expect(ledger.paths[path].rx).toBeGreaterThan(100);
    expect(ledger.paths[path].tx).toBeGreaterThan(100);
  }
  expect(ledger.failovers.length).toBeGreaterThanOrEqual(6);
  expect(ledger.failovers.filter(({ surprise }) => surprise)).toHaveLength(1);
  for (const failover of ledger.failovers) {
    expect([failover.from, failover.to].sort()).toEqual(['synthetic', 'vf']);
    expect(failover.detectMicros).toBeGreaterThan(0);
    expect(failover.switchMicros).toBeGreaterThan(0);
    expect(failover.rescued).toBeGreaterThanOrEqual(0);
  }
  return ledger;
}

const npm = (...args: string[]): Promise<Outcome> => new Run(['npm', '--prefix', ROOT, ...args]).outcome;

describe('twinpath demo', () => {
  it('loses only what a surprise explains on kernel devices, with a download by the guest’s own stack, and prints one JSON object, also when npm runs it', async () => {
    const ledger = expectKept(await npm('run', '-s', 'demo', '--', '--seconds', '3', '--json'));
    expect(ledger).toMatchObject({ privileged: true, network: 'kernel', seconds: 3 });
    const { tcp } = ledger;
    expect(tcp).toMatchObject({ survived: true, retransmits: expect.any(Number) });
    expect(tcp!.bytes).toBeGreaterThan(1e6);
    expect(tcp!.longestStallMillis).toBeGreaterThan(0);
    const { vf, synthetic } = tcp!.paths;
    for (const path of [vf, synthetic]) {
      expect(path.rxBytes).toBeGreaterThan(1e5);
      expect(path.txBytes).toBeGreaterThan(1000);
    }
    expect(vf.rxBytes + synthetic.rxBytes).toBeGreaterThan(tcp!.bytes);
    expect(tcp!.frames.accounted).toBe(tcp!.frames.total);
    expect(tcp!.failovers.length).toBeGreaterThanOrEqual(6);
    expect(tcp!.failovers.filter(({ surprise }) => surprise)).toHaveLength(1);
    expect(new Set(tcp!.samples.map(({ path }) => path))).toContain('vf');
  });

  it('runs in memory without root, says what root adds, and prints one JSON object', async () => {
    const args = ['demo', '--seconds', '3', '--rate', '50000', '--json'];
    const outcome = await twinpath(args, { nobody: true });
    expect(expectKept(outcome)).toMatchObject({ privileged: false, network: 'memory' });
    expect(JSON.parse(outcome.stdout)).not.toHaveProperty('tcp');
    expect(outcome.stderr).toContain('Not root: the memory path');
    expect(outcome.stderr).toContain('root adds kernel devices');
    expect(outcome.stderr).toContain('No TCP download');
  });

  it('leaves the download out with --no-tcp, and ends with a readable ledger', async () => {
    const { code, stdout, stderr } = await twinpath(['demo', '--seconds', '3', '--no-tcp']);
    expect(code, stderr).toBe(0);
    expect(stdout).not.toMatch(/TCP|download/);
    for (const words of [
      'lost',
      'duplicated',
      'reordered',
      'vf → synthetic',
      '(surprise)',
      'All was well.',
    ]) {
      expect(stdout).toContain(words);
    }
  });

  it('removes its namespaces when it is interrupted', async () => {
    const run = start(['demo', '--seconds', '60', '--no-tcp']);
    await run.said('synthetic → vf');
    run.child.kill('SIGINT');
    const { code, stdout } = await run.outcome;
    expect(code).toBe(130);
    expect(stdout).toBe('');
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(`tp-${run.child.pid}-`))).toEqual([]);
  });
});

describe('twinpath list', () => {
  it('prints an empty array, or the reason, on a machine without NetVSC', async () => {
    const lab = await buildLab();
    const json = await twinpath(['list', '--json', '--netns', lab.guest]);
    expect(json).toMatchObject({ code: 0, stdout: '[]\n', stderr: '' });
    const { code, stdout } = await twinpath(['list', '--netns', lab.guest]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/No NetVSC.*VMBus[\s\S]*eth0 \(veth\)/);
  });

  it('works without root', async () => {
    expect(await twinpath(['list'], { nobody: true })).toMatchObject({ code: 0, stderr: '' });
  });
});

describe('twinpath run', () => {
  it('runs a handler through failovers until Ctrl-C, and leaves nothing behind', async () => {
    const lab = await buildLab();
    const { nic } = lab;
    const run = start([
      ...['run', 'echo', '--json', '--netns', lab.guest, '--netvsc', nic.netvsc, '--force'],
      ...['--option', `address=${nic.guestAddress}`, '--queues', '2'],
    ]);
    await run.said('is open');
    const traffic = await drive(lab, nic);
    await passed(traffic);
    await nic.plug();
    await run.said('synthetic → vf');
    await nic.moveDataPath('vf');
    await passed(traffic);
    await nic.unplug();
    await run.said('vf → synthetic');
    await passed(traffic);
    const { packets } = await traffic.stop();
    run.child.kill('SIGINT');
    const { code, stdout, stderr } = await run.outcome;
    expect(code, stderr).toBe(0);
    const result = JSON.parse(stdout);
    expect(packets).toMatchObject({ lost: 0, duplicated: 0, reordered: 0 });
    expect(result).toMatchObject({ ok: true, problems: [], device: nic.netvsc, mac: nic.mac });
    expect(result.statistics.received).toBeGreaterThanOrEqual(packets.received);
    expect(result.statistics.paths.vf.rxPackets).toBeGreaterThan(0);
    expect(result.failovers.map(({ to }: { to: string }) => to)).toEqual([
      'synthetic',
      'vf',
      'synthetic',
      'none',
    ]);
    expect(attachments(lab.guest)).toEqual([]);
    expect(linkIn(lab.guest, nic.netvsc)?.promiscuity).toBe(0);
  });

  it('runs a handler on several devices, and reports on each', async () => {
    const lab = await buildLab({ nics: 2 });
    const devices = lab.nics.flatMap(({ netvsc }) => ['--device', netvsc]);
    const address = `address=${JSON.stringify(lab.nics.map(({ guestAddress }) => guestAddress))}`;
    const run = start([
      ...['run', 'echo', '--json', '--netns', lab.guest, ...devices],
      ...['--queues', '2', '--option', address],
    ]);
    for (const { netvsc, mac } of lab.nics) await run.said(`${netvsc} (${mac}) is open`);
    const traffic = [];
    for (const nic of lab.nics) traffic.push(await drive(lab, nic, { rate: 2000 }));
    for (const one of traffic) await passed(one, 200);
    for (const one of traffic) await one.stop();
    run.child.kill('SIGINT');
    const { code, stdout, stderr } = await run.outcome;
    expect(code, stderr).toBe(0);
    for (const { netvsc } of lab.nics)
      expect(stderr).toMatch(new RegExp(`${netvsc}: synthetic: ${netvsc} through`));
    const reports = JSON.parse(stdout);
    expect(reports.map(({ ok, device }: PortReport) => [ok, device])).toEqual(
      lab.nics.map(({ netvsc }) => [true, netvsc]),
    );
    for (const { statistics, frames } of reports) {
      expect(statistics.received).toBeGreaterThanOrEqual(200);
      expect(frames).toHaveLength(2);
    }
    expect(attachments(lab.guest)).toEqual([]);
  });

  it('refuses devices that contradict each other', async () => {
    const wrong: readonly [string[], RegExp][] = [
      [['--all', '--device', 'eth0'], /--all.*contradicts --device/],
      [['--all', '--force'], /--all.*contradicts --force/],
      [
        ['--device', 'eth0', '--device', 'eth1', '--mac', '02:00:00:00:00:01'],
        /--device.*cannot be combined with --mac/,
      ],
      [['--device', 'eth0', '--device', 'eth0'], /ports\[1\].*names eth0/],
      [['--device', 'eth0', '--ignore', 'eth0'], /ignore.*eth0 is to be ignored/],
    ];
    const outcomes = await commandLines(wrong.map(([args]) => ['run', 'drop', ...args]));
    for (const [i, [args, words]] of wrong.entries()) {
      const { code, stderr } = outcomes[i]!;
      expect({ args, code, stderr }).toEqual({ args, code: 2, stderr: expect.stringMatching(words) });
    }
  });

  it('says what it looked at if --all finds nothing to take', async () => {
    const lab = await buildLab();
    const { code, stderr } = await twinpath(['run', 'drop', '--all', '--netns', lab.guest]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/ERR_NO_NETVSC|no NetVSC/i) });
  });

  it('ends after --seconds or on SIGTERM with readable statistics', async () => {
    const lab = await buildLab();
    const args = ['run', 'drop', '--netns', lab.guest, '--netvsc', lab.nic.netvsc, '--force'];
    const { code, stdout } = await twinpath([...args, '--seconds', '1']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/packets in[\s\S]*every one accounted for/);
    const run = start(args);
    await run.said('is open');
    run.child.kill('SIGTERM');
    expect((await run.outcome).code).toBe(0);
    expect(attachments(lab.guest)).toEqual([]);
  });

  it('prints one JSON document on SIGTERM even if the handler prints', async () => {
    const lab = await buildLab();
    const handler = join(temporary(), 'talker.mjs');
    writeFileSync(
      handler,
      `import { writeSync } from 'node:fs';
      console.log('imported');
      export function create() {
        console.log('x'.repeat(300_000));
        console.log('created');
        let seen = 0;
        return () => void (seen++ === 0 && writeSync(2, 'first\\n'));
      }`,
    );
    const args = ['run', handler, '--netns', lab.guest, '--netvsc', lab.nic.netvsc, '--force'];
    const run = start([...args, '--json', '--queues', '2']);
    await run.said('is open');
    await drive(lab, lab.nic, { rate: 1000 });
    await run.said('first');
    run.child.kill('SIGTERM');
    const { code, stdout, stderr } = await run.outcome;
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ ok: true, statistics: { handlerErrors: 0 } });
    expect(JSON.parse(stdout).statistics.received).toBeGreaterThan(0);
    expect(stderr.match(/created/g)).toHaveLength(2);
  });

  it("names the busiest flow first in count's report", async () => {
    const lab = await buildLab();
    const peer = await Peer.start(lab.outside);
    const run = start([
      ...['run', 'count', '--netns', lab.guest, '--netvsc', lab.nic.netvsc, '--force', '--queues', '1'],
      ...['--option', 'every=400', '--option', 'top=2'],
    ]);
    await run.said('is open');
    const flows = [
      [5001, 100],
      [5002, 250],
      [5003, 50],
    ] as const;
    for (const [port, packets] of flows) {
      await peer.call('send', lab.nic.guestAddress, 9, port, 0, packets, 32);
    }
    await run.said('queue 0: 400 packets');
    run.child.kill('SIGINT');
    const { code, stdout, stderr } = await run.outcome;
    expect(code, stderr).toBe(0);
    const name = (port: number): string => `  10.77.0.1:${port} > 10.77.0.2:9 udp`;
    expect(stderr).toContain(
      [
        'queue 0: 400 packets, ipv4 400, udp 400',
        `${name(5002)}: packets 250, bytes 18500`,
        `${name(5001)}: packets 100, bytes 7400`,
        '',
      ].join('\n'),
    );
    expect(stderr).not.toContain(name(5003));
    expect(stdout).toContain('dropped: verdict 400');
  });

  it('counts packets passed to the machine and received from it', async () => {
    const lab = await buildLab();
    const [outside, guest] = [await Peer.start(lab.outside), await Peer.start(lab.guest)];
    await guest.call('listen', 'guest', 8000);
    const run = start(['run', 'host', '--netns', lab.guest, '--netvsc', lab.nic.netvsc, '--force']);
    await run.said('is open');
    expect(await outside.call('askUdp', lab.nic.guestAddress, 8000, [0, 0, 0])).toHaveLength(3);
    run.child.kill('SIGINT');
    const { code, stdout, stderr } = await run.outcome;
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^3 packets in, 0 out.*\n[\s\S]*^ {2}machine {3}3 passed to it, 0 from it$/m);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('gives up opening at the first %s, and leaves nothing', async (signal, code) => {
    const lab = await buildLab();
    const handler = join(temporary(), 'endless.mjs');
    writeFileSync(
      handler,
      "process.stderr.write('loading\\n'); await new Promise(() => setInterval(() => {}, 1000)); export default () => {};",
    );
    const args = ['run', handler, '--netns', lab.guest, '--netvsc', lab.nic.netvsc, '--force', '--json'];
    const run = start(args);
    await run.said('loading');
    run.child.kill(signal);
    const outcome = await run.outcome;
    expect(outcome.code, outcome.stderr).toBe(code);
    expect(outcome.stderr).toContain('twinpath: interrupted before the port was open');
    expect(JSON.parse(outcome.stdout)).toEqual({ ok: false, problems: ['interrupted'] });
    expect(attachments(lab.guest)).toEqual([]);
  });

  it('exits with 1 when the handler throws', async () => {
    const lab = await buildLab();
    const handler = join(temporary(), 'thrower.mjs');
    writeFileSync(handler, "export default () => { throw new Error('not today'); };");
    const run = start(['run', handler, '--netns', lab.guest, '--netvsc', lab.nic.netvsc, '--force']);
    await run.said('is open');
    await drive(lab, lab.nic, { rate: 1000 });
    await run.said('not today');
    run.child.kill('SIGINT');
    const { code, stderr } = await run.outcome;
    expect(code).toBe(1);
    expect(stderr).toContain('the handler threw');
  });

  it('answers each wrong command line with one sentence on standard error', async () => {
    const wrong: readonly [what: string, args: string[], code: number, words: string][] = [
      ['an unknown handler', ['run', 'ehco'], 2, 'Did you mean "echo"?'],
      ['a handler that is not there', ['run', './missing.js'], 2, 'there is no file ./missing.js'],
      [
        'a device that is not there',
        ['run', 'drop', '--netvsc', 'nix0', '--force'],
        1,
        'no such network device',
      ],
      ['a namespace that is not there', ['run', 'drop', '--netns', 'tp-nix'], 2, 'tp-nix'],
      ['the beginning of an option', ['run', 'drop', '--secs', '2'], 2, 'Did you mean --seconds?'],
      ['help about an unknown command', ['help', 'rnu'], 2, 'Did you mean "run"?'],
      ['an unknown option', ['run', 'drop', '--quues', '2'], 2, 'Did you mean --queues?'],
      [
        'a queue too many in a table',
        ['run', 'drop', '--queues', '2', '--rss-table', '0,1,2,x'],
        2,
        'rss.table: there is no queue 2',
      ],
      [
        'an unknown hash type',
        ['run', 'drop', '--rss-table', '0', '--hash-types', 'udp4,sctp4'],
        2,
        'sctp4 is none of ipv4, tcp4',
      ],
      ['an unknown command', ['rnu', 'drop'], 2, 'Did you mean "run"?'],
      [
        'an option of a handler that has none',
        ['run', 'drop', '--option', 'every=1'],
        2,
        'drop has no options',
      ],
      [
        'an option that is there twice',
        ['run', 'firewall', '--option', 'a=1', '--option', 'a=2'],
        2,
        'a=A,B',
      ],
    ];
    const outcomes = await commandLines(wrong.map(([, args]) => args));
    for (const [i, [what, , code, words]] of wrong.entries()) {
      const { stderr, ...rest } = outcomes[i]!;
      expect({ what, ...rest }).toEqual({ what, code, stdout: '' });
      expect(stderr, what).toContain(words);
      expect(stderr.trim().split('\n'), what).toHaveLength(1);
      expect(stderr, what).not.toMatch(/\n\s+at /);
    }
  });

  it('escapes control characters and shortens long texts in messages, and repeats them exactly in JSON', async () => {
    const name = `\x1b[2J\u202e\x9b31m${'x'.repeat(100_000)}`;
    const handler = ['run', 'drop', '--option', `${name}=1`];
    const commands = [
      ['run', 'drop', '--netvsc', name],
      ['run', name],
      ['run', 'drop', `--${name}`],
      handler,
    ];
    for (const { stdout, stderr } of await Promise.all(
      commands.map((args) => twinpath([...args, '--json'])),
    )) {
      expect(stderr.replaceAll('\n', '')).not.toMatch(/\p{C}/u);
      expect(stderr).toContain('\\x1b[2J\\u{202e}\\x9b31m');
      expect(stderr.length).toBeLessThan(3_000);
      expect(JSON.parse(stdout).error.message).toContain(name);
    }
    const lab = await buildLab();
    execFileSync('ip', ['-n', lab.guest, 'link', 'add', 'a\x1b[31m', 'type', 'bridge']);
    const listed = await twinpath(['list', '--netns', lab.guest]);
    expect(listed.stdout).toContain('a\\x1b[31m (bridge)');
    expect(listed.stdout).not.toContain('\x1b');
  });

  it('repeats its errors as JSON with --json', async () => {
    const { code, stdout } = await twinpath(['run', 'drop', '--json', '--netvsc', 'nix0']);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'ERR_DEVICE_NOT_FOUND', device: 'nix0' } });
  });

  it('refuses users without CAP_SYS_ADMIN in one sentence', async () => {
    const lab = await buildLab();
    const args = ['run', 'drop', '--netns', lab.guest, '--netvsc', 'eth0', '--force'];
    const { code, stderr } = await twinpath(args, { nobody: true });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^twinpath: The kernel refused this user: .* needs root or CAP_SYS_ADMIN.*\n$/);
  });
});

describe('any command', () => {
  it('prints its help, usage and version', async () => {
    const lines = ['--help', 'help', 'run --help', 'help run', '--help run', 'demo --help', 'list -h'];
    const outcomes = await commandLines(lines.map((line) => line.split(' ')));
    for (const outcome of outcomes) expect(outcome).toMatchObject({ code: 0, stderr: '' });
    const [general, generalToo, about, ...same] = outcomes;
    expect(general!.stdout).toContain('Usage: twinpath COMMAND');
    expect(generalToo).toEqual(general);
    expect(same.slice(0, 2)).toEqual([about, about]);
    expect((await twinpath(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect((await twinpath([])).code).toBe(2);
  });

  it('prints one JSON document and nothing else for an error when npm runs it', async () => {
    const wrong = await npm('run', '-s', 'demo', '--', '--seconds', '1', '--json');
    expect(wrong.code).toBe(2);
    expect(JSON.parse(wrong.stdout)).toMatchObject({ error: { code: 'ERR_OPTION_INVALID' } });
    expect(wrong.stderr).toMatch(/^twinpath: [^{]*\n$/);
    expect((await npm('config', 'get', 'json')).stdout).toBe('false\n');
  });
});
