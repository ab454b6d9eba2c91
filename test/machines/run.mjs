/**
 * `npm run test:machines`: boots guests with real PCI hot-plug and Debian's kernels, runs scenarios in them, and prints a
 * table. Needs root, and some Debian packages that prepare.sh gets. Emulation is slow: it counts, and measures no time.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeReport } from './report.mjs';
import { checkRequirements, Lacking, UNAVAILABLE } from './requirements.mjs';
import { SCENARIOS } from './scenarios.mjs';
import { SUITES } from './suites.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const PROJECT = join(HERE, '../..');
const FOLDER = process.env.TWINPATH_MACHINES ?? join(homedir(), '.cache/twinpath-machines');
/** Debian 12's two, and of other suites: the pattern of a version, and where it is. */
const KERNELS = { '5.10': ['^5\\.10', 'bullseye'], 6.1: undefined, 6.12: undefined, newest: [] };
/** Scenarios run with each card; of the project's own tests the card makes no difference, so they run with the first. */
const NAMES = [...Object.keys(SCENARIOS), ...Object.keys(SUITES)];
/**
 * What is plugged in, and how QEMU is to make it. `failover` is an e1000e that the guest's kernel pairs with the synthetic
 * NIC, to a net_failover device.
 */
const CARDS = {
  igb: { model: 'igb' },
  e1000e: { model: 'e1000e' },
  vmxnet3: { model: 'vmxnet3' },
  virtio: { model: 'virtio' },
  'virtio-rss': { model: 'virtio', options: 'rss=on,hash=on' },
  /** With zero-copy, where the driver has it: it wants to map its memory itself. */
  'virtio-zc': { model: 'virtio', options: 'iommu_platform=on' },
  failover: { model: 'e1000e' },
};
const NICS = Object.keys(CARDS);
/** QEMU takes no igb as a primary ("must be in its own PCI slot"), and no other one while it remembers one that was yanked; a leg is no card alone. */
const NOT_FOR_FAILOVER = ['yank', 'alone'];
/** Seconds for a script that prepares, for a boot, and for a scenario, on a machine that is emulated and whose host is busy: only what hangs takes as long. */
const PREPARE_SECONDS = 900;
const BOOT_SECONDS = 300;
const SCENARIO_SECONDS = 600;
/** Status of timeout(1) if it had to end what it ran. */
const TIMED_OUT = 124;

const HELP = `Usage: npm run test:machines -- [options]

Boots emulated machines with Debian's kernels, and plugs real PCI cards in and out of them under a port.

Options:
  --kernel LIST   ${Object.keys(KERNELS).join(', ')} (default: all)
  --nic LIST      ${NICS.join(', ')} (default: all)
  --only LIST     ${NAMES.join(', ')} (default: all)
  --smoke         6.1 with igb, graceful: what CI runs; skipped where no guest can be prepared
  --json FILE     the results, for other programs
  --report FILE   the same as Vitest's JSON reporter writes them
  --help          this text

As root. Kernels, QEMU and a small root come from Debian's mirror, 1.5 GB below ${FOLDER.replace(homedir(), '~')}
($TWINPATH_MACHINES). Exit codes: 0 all passed, 1 some failed, 2 the command line was wrong.
`;

function asked() {
  const { values } = parseArgs({
    options: {
      ...{ kernel: { type: 'string' }, nic: { type: 'string' }, only: { type: 'string' } },
      ...{ smoke: { type: 'boolean' }, help: { type: 'boolean' } },
      ...{ json: { type: 'string' }, report: { type: 'string' } },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    process.exit(0);
  }
  const list = (name, all) => {
    const wanted = values[name]?.split(',') ?? all;
    const unknown = wanted.find((one) => !all.includes(one));
    if (unknown !== undefined) throw new Error(`--${name} knows no ${unknown}; it knows ${all.join(', ')}`);
    return wanted;
  };
  if (values.smoke) return { ...values, kernels: ['6.1'], nics: ['igb'], scenarios: ['graceful'] };
  const scenarios = list('only', NAMES);
  return { ...values, kernels: list('kernel', Object.keys(KERNELS)), nics: list('nic', NICS), scenarios };
}

/** What runs now: it ends with this program. */
let running;
for (const [signal, code] of Object.entries({ SIGINT: 130, SIGTERM: 143 })) {
  process.on(signal, () => {
    running?.kill('SIGTERM');
    process.exit(code);
  });
}

/** Runs a program, hands each line of its output on, and returns its status. */
function run(file, args, hear) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    running = child;
    let rest = '';
    child.stdout.on('data', (data) => {
      const lines = (rest + data).split('\n');
      rest = lines.pop();
      for (const line of lines) hear(line);
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(code ?? signal));
  });
}

/** The last line that a script for preparations printed. @throws Lacking if it cannot have its packages */
async function prepare(script, ...args) {
  let last = '';
  const limit = ['-k', '10', String(PREPARE_SECONDS), 'bash'];
  const status = await run('timeout', [...limit, join(HERE, script), ...args], (line) => {
    last = line;
  });
  if (status === UNAVAILABLE) throw new Lacking(last);
  if (status === TIMED_OUT) throw new Lacking(`${script} was not done in ${PREPARE_SECONDS} s`);
  if (status !== 0) throw new Error(`${[script, ...args].join(' ')} ended with ${status}`);
  return last;
}

async function prepared(kernel) {
  const suite = KERNELS[kernel];
  if (suite === undefined) await prepare('prepare.sh', kernel);
  const name = suite === undefined ? kernel : await prepare('prepare-kernel.sh', ...suite);
  if (!existsSync(join(FOLDER, 'qemu/usr/bin/qemu-system-x86_64')))
    console.error(await prepare('prepare-qemu.sh'));
  return name;
}

async function boot(kernel, name, nic, scenarios, told) {
  const results = join(PROJECT, 'build/machines', `${kernel}-${nic}`);
  rmSync(results, { recursive: true, force: true });
  mkdirSync(results, { recursive: true });
  const timeout = BOOT_SECONDS + scenarios.length * SCENARIO_SECONDS;
  const { model, options } = CARDS[nic];
  const cards = nic === 'failover' ? ['--vf', 'none', '--failover'] : ['--vf', model];
  if (options !== undefined) cards.push('--vf-options', options);
  const args = [name, ...cards, '--share', PROJECT, '--run', join(HERE, 'guest.mjs')];
  const found = [];
  const status = await run(
    'bash',
    [
      join(HERE, 'boot.sh'),
      ...args,
      '--results',
      results,
      '--timeout',
      String(timeout),
      '--',
      model,
      ...scenarios,
    ],
    (line) => {
      if (!line.startsWith('RESULT ')) return void console.error(`  ${line}`);
      const result = { ...JSON.parse(line.slice(7)), line: kernel, model: nic };
      found.push(result);
      told(result);
    },
  );
  for (const scenario of scenarios.slice(found.length)) {
    const failures = [`the machine ended with ${status}: see build/machines/${kernel}-${nic}/console.log`];
    found.push({ kernel: name, line: kernel, model: nic, scenario, failures });
    told(found.at(-1));
  }
  return found;
}

const COLUMNS = ['kernel', 'card', 'scenario', 'sent', 'lost', 'doubled', 'reordered', 'rescued', 'result'];

/** The results as a table in Markdown. */
function table(results) {
  const row = ({ kernel, model, scenario, sent, lost, doubled, reordered, rescued, failures }) => [
    ...[kernel, model, scenario, ...[sent, lost, doubled, reordered, rescued].map((n) => n ?? '')],
    failures.length === 0 ? 'passed' : `failed: ${failures.join('; ')}`.slice(0, 200),
  ];
  const lines = [COLUMNS, COLUMNS.map(() => '---'), ...results.map(row)];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** A test for each result, as Vitest names them. */
function report(results) {
  return results.map(({ line, model, scenario, failures }) => ({
    title: `${line} with ${model}: ${scenario}`,
    status: failures.length === 0 ? 'passed' : 'failed',
    failureMessages: failures,
  }));
}

async function main({ kernels, nics, scenarios, json, report: file }) {
  checkRequirements(FOLDER);
  const results = [];
  for (const kernel of kernels) {
    const name = await prepared(kernel);
    for (const nic of nics) {
      console.error(`${kernel} with ${nic}: ${scenarios.join(', ')}`);
      const told = ({ scenario, failures, lost }) =>
        console.error(
          `  ${failures.length === 0 ? 'passed' : 'FAILED'} ${scenario}: ${failures.join('; ') || `${lost} lost`}`,
        );
      const fit = scenarios.filter(
        (one) =>
          (nic !== 'failover' || !NOT_FOR_FAILOVER.includes(one)) && (nic === nics[0] || !(one in SUITES)),
      );
      if (fit.length > 0) results.push(...(await boot(kernel, name, nic, fit, told)));
    }
  }
  console.log(table(results));
  if (json !== undefined) writeFileSync(json, JSON.stringify(results, undefined, 2));
  if (file !== undefined) writeReport(file, 'test/machines', report(results));
  return results.every(({ failures }) => failures.length === 0) ? 0 : 1;
}

let order = {};
try {
  order = asked();
  process.exitCode = await main(order);
} catch (error) {
  const skipped = order.smoke === true && error instanceof Lacking;
  console.error(skipped ? `skipped: ${error.message}` : `test:machines: ${error.message}`);
  process.exitCode = skipped ? 0 : 2;
  if (order.report !== undefined) {
    const status = skipped ? 'skipped' : 'failed';
    writeReport(order.report, 'test/machines', [
      { title: 'preparation', status, failureMessages: [error.message] },
    ]);
  }
}
