/** Opens a port with the counting handler and shows its numbers once a second. */
import { availableParallelism } from 'node:os';
import { openPort } from 'twinpath';
import { KINDS, WORDS } from './handler.mjs';

const USAGE = `Usage: node counter.mjs DEVICE

Counts the packets that arrive at a network card and passes them to the machine. Ctrl-C ends it.`;

const [device, ...rest] = process.argv.slice(2);
if (device === undefined || device.startsWith('-') || rest.length > 0) {
  const isHelp = device === '--help';
  console[isHelp ? 'log' : 'error'](USAGE);
  process.exit(isHelp ? 0 : 2);
}

// Shared with the workers, which write the counts. This thread reads them, without any messages.
const queues = Math.min(availableParallelism(), 8);
const counters = new SharedArrayBuffer(queues * WORDS * 4);
const words = new Int32Array(counters);
const handler = new URL('./handler.mjs', import.meta.url);
const port = await openPort({ device, queues, handler, handlerOptions: { counters } });
console.log(`counting on ${port.device}; Ctrl-C ends it`);

const before = new Int32Array(words.length);
const totals = KINDS.map(() => 0);
const timer = setInterval(show, 1000);
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void port.close());
port.once('close', () => {
  clearInterval(timer);
  show();
});

function show() {
  const rates = KINDS.map(() => 0);
  for (let queue = 0; queue < queues; queue++) {
    for (let kind = 0; kind < KINDS.length; kind++) {
      const at = queue * WORDS + kind;
      const now = Atomics.load(words, at);
      rates[kind] += (now - before[at]) >>> 0; // correct even after an overflow of the 32 bits
      before[at] = now;
    }
  }
  const texts = KINDS.map((name, kind) => {
    totals[kind] += rates[kind];
    return `${name} ${totals[kind]} (+${rates[kind]})`;
  });
  console.log(texts.join(', '));
}
