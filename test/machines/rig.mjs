/**
 * Owns QEMU for one boot: starts it, copies the guest's output, answers the remote control, ends it. Started by boot.sh,
 * in the machine's own namespaces.
 *
 * The remote control is one line in, `| text` lines and `= status` out, on a serial port of the guest:
 *
 *     vf add [SLOT] [MODEL]  hot-plug into slot 1, 2 or 3: virtio, e1000e, vmxnet3, igb
 *     vf del                 removal that the guest is asked for; waits until it has let go
 *     vf yank                surprise: the device goes, its registers read ff, and the guest is not asked
 *     path syn|vf            which leg gets the guest's unicast: the host's half of a switch
 *     link syn|vf up|down    carrier
 *     traffic start OPTIONS  numbered traffic from the outside host: see outside.mjs
 *     traffic tagged         numbered traffic in a VLAN: see tagged.mjs
 *     traffic look, stop     its progress, its report: JSON
 *     out COMMAND            runs a shell command in the outside host's namespace
 *     exit N                 the guest's script has ended with N
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Qmp } from './qmp.mjs';

const { T, OUT, RESULTS, TIMEOUT, QUEUES, MAC, VF_OPTIONS = '', FAILOVER = '' } = process.env;
const DELETED_MILLIS = 120_000;

const began = performance.now();
const log = (text) => {
  const seconds = ((performance.now() - began) / 1000).toFixed(3);
  appendFileSync(join(RESULTS, 'rig.log'), `${seconds} ${text}\n`);
};
const qmp = new Qmp(join(T, 'qmp'), log);
/** Of the VF in QEMU, which keeps the one of a yanked device. */
let id = 'vf';
let yanked = 0;
let outside;
let outsideEnded;
let guestStatus;

/** Runs a program to its end. @throws what it said if it failed */
const run = (file, args) =>
  new Promise((resolve, reject) => {
    execFile(file, args, { maxBuffer: 2 ** 26 }, (error, stdout, stderr) =>
      error ? reject(new Error(stderr || error.message)) : resolve(stdout),
    );
  });
const inOutside = (...command) => ['-t', OUT, '-n', ...command];

/** The properties of --vf-options, `on` and `off` as QMP has them. */
function moreProperties() {
  const pairs = VF_OPTIONS.split(',').filter(Boolean);
  const entries = pairs.map((pair) => pair.split('='));
  return Object.fromEntries(
    entries.map(([key, value]) => [key, value === 'on' || (value !== 'off' && value)]),
  );
}

function card(model, slot) {
  const pair = FAILOVER === '' ? {} : { failover_pair_id: 'syn' };
  const place = { id, netdev: 'vf-leg', mac: MAC, bus: `slot${slot}`, romfile: '', ...pair };
  if (model !== 'virtio') return { driver: model, ...place, ...moreProperties() };
  const queues = Number(QUEUES);
  const rings = { mq: queues > 1, vectors: 2 * queues + 2, rx_queue_size: 1024 };
  return { driver: 'virtio-net-pci', ...place, ...rings, ...moreProperties() };
}

/** What the outside host says next. */
const said = () => once(outside, 'message', { signal: outsideEnded.signal }).then(([message]) => message);

async function asked(what) {
  if (!outside?.connected) throw new Error('there is no traffic');
  outside.send(what);
  return JSON.stringify(await said());
}

const VF = {
  add: (slot = '1', model = 'virtio') => qmp.execute('device_add', card(model, slot)),
  async del() {
    const gone = qmp.next(
      ({ event, data }) => event === 'DEVICE_DELETED' && data.device === id,
      DELETED_MILLIS,
    );
    gone.catch(() => {}); // it is awaited once the order is taken
    await qmp.execute('device_del', { id });
    await gone;
  },
  async yank() {
    await qmp.execute('qom-set', { path: `/machine/peripheral/${id}`, property: 'realized', value: false });
    id = `vf-${++yanked}`;
  },
};

async function send(name, ...args) {
  const program = fileURLToPath(new URL(name, import.meta.url));
  const stdio = ['ignore', 'inherit', 'inherit', 'ipc'];
  outside = spawn('nsenter', inOutside(process.execPath, program, ...args), { stdio });
  outsideEnded = new AbortController();
  outside.on('exit', () => outsideEnded.abort(new Error('the traffic ended')));
  await said();
}

const TRAFFIC = {
  start: (options) => send('outside.mjs', options || '{}'),
  tagged: () => send('tagged.mjs'),
  look: () => asked('look'),
  stop: () => asked('stop'),
};

/** Each takes the words behind it, or all that is behind it, and may return text. */
const COMMANDS = {
  vf: ([verb, ...words]) => VF[verb](...words),
  path: ([leg]) => run('bridge', ['fdb', 'replace', MAC, 'dev', `${leg}-leg`, 'master', 'static']),
  link: ([leg, state]) => qmp.execute('set_link', { name: leg === 'vf' ? id : leg, up: state === 'up' }),
  traffic: ([verb], line) => TRAFFIC[verb](line.slice(verb.length).trim()),
  out: (_, line) => run('nsenter', inOutside('bash', '-c', line)),
  exit([status]) {
    guestStatus = Number(status);
  },
};

/** Answers what comes on a port, in order. */
function serve(socket) {
  let before = Promise.resolve();
  const obey = async (line) => {
    const [verb, ...words] = line.split(/\s+/);
    log(line);
    let status = 0;
    let text = '';
    try {
      const answer = await COMMANDS[verb](words, line.slice(verb.length).trim());
      if (typeof answer === 'string') text = answer;
    } catch (error) {
      status = 1;
      text = error.message;
    }
    log(`= ${status} ${text.slice(0, 200)}`);
    const lines = text.split('\n').filter(Boolean);
    socket.write([...lines.map((one) => `| ${one}`), `= ${status}`, ''].join('\n'));
  };
  createInterface(socket).on('line', (line) => {
    if (line.trim() !== '') before = before.then(() => obey(line.trim()));
  });
  socket.on('error', () => {}); // it ends with QEMU
}

createServer(serve).listen(join(T, 'ctl'));
const outputEnded = new Promise((resolve) => {
  createServer((socket) => {
    socket.on('data', (data) => process.stdout.write(data));
    socket.on('close', resolve).on('error', resolve);
  }).listen(join(T, 'out'));
});
await sleep(20); // QEMU connects to these at once

const [file, ...args] = process.argv.slice(2);
const qemu = spawn(file, args, { stdio: ['ignore', 'inherit', 'inherit'] });
log(`qemu ${qemu.pid}: ${file} ${args.join(' ')}`);
const exited = new Promise((resolve) => qemu.on('exit', (code, signal) => resolve(code ?? signal)));
let late = false;
const timer = setTimeout(() => {
  late = true;
  qemu.kill('SIGKILL');
}, Number(TIMEOUT) * 1000);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => qemu.kill('SIGKILL'));
const ended = await exited;
clearTimeout(timer);
await Promise.race([outputEnded, sleep(500)]);
log(`qemu ended: ${ended}`);
if (late) console.error(`boot: not done in ${TIMEOUT} s`);
else if (guestStatus === undefined) {
  console.error(`boot: the guest died (${ended}); the end of its console:`);
  const text = readFileSync(join(RESULTS, 'console.log'), 'latin1');
  console.error(text.split('\n').slice(-15).join('\n'));
}
process.exit(late ? 124 : (guestStatus ?? 125));
