/** Pings a host from a network card and prints a histogram of the round trips. */
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { openPort } from 'twinpath';
import { ANSWERED, BUCKETS, SENT, STOP, WORDS } from './handler.mjs';

const USAGE = `Usage: node generator.mjs DEVICE ADDRESS [options]

Sends pings to an IPv4 address and prints a histogram of the round trips.

  --rate N        pings a second, 1 to 100000 (default: 1000)
  --seconds N     how long to send (default: until Ctrl-C)
  --mac MAC       MAC address of the target or of the gateway to it
                  (default: the entry for ADDRESS in the kernel's ARP table)`;

const { device, to, rate, seconds, mac = arpEntry() } = parsed();
const from = networkInterfaces()[device]?.find(({ family }) => family === 'IPv4')?.address;
if (from === undefined) refuse(`${device} has no IPv4 address that an answer could be sent to`);
if (mac === undefined) refuse(`${to} is not in the ARP table: ping it once, or give --mac`);

const results = new SharedArrayBuffer(4 * WORDS); // the worker counts in it; this thread writes STOP
const counts = new Int32Array(results);
const handler = new URL('./handler.mjs', import.meta.url);
const handlerOptions = { from, to, mac, rate, id: randomInt(0x10000), results };
const port = await openPort({ device, queues: 1, handler, handlerOptions });
console.log(`${rate} pings a second from ${from} to ${to}; Ctrl-C ends it`);

const ended = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => ended.abort());
port.once('close', () => ended.abort());
await sleep(seconds * 1000, undefined, { signal: ended.signal }).catch(() => {});
Atomics.store(counts, STOP, 1);
await sleep(500); // for the answers that are under way
await port.close();
report();

function report() {
  console.log(`${counts[SENT]} sent, ${counts[ANSWERED]} answered, ${counts[SENT] - counts[ANSWERED]} lost`);
  const buckets = [...counts.subarray(BUCKETS)];
  const longest = Math.max(...buckets);
  buckets.forEach((count, bits) => {
    if (count === 0) return;
    const bar = '█'.repeat(Math.ceil((40 * count) / longest)); // all times of a bucket have the same number of bits
    console.log(`below ${String(2 ** bits).padStart(8)} µs ${String(count).padStart(9)} ${bar}`);
  });
}

/** The MAC address that the kernel has found for the target, from /proc/net/arp. */
function arpEntry() {
  const rows = readFileSync('/proc/net/arp', 'utf8')
    .split('\n')
    .map((line) => line.split(/ +/));
  return rows.find(([ip, , flags, , , name]) => ip === to && name === device && flags !== '0x0')?.[3];
}

function parsed() {
  const { values, positionals } = parse();
  const [device, to] = positionals;
  const { mac } = values;
  const [rate, seconds] = [Number(values.rate), Number(values.seconds)];
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  if (positionals.length !== 2) refuse('it takes a device and an address');
  if (!isIPv4(to)) refuse(`${to} is no IPv4 address`);
  if (!(rate >= 1 && rate <= 100_000)) refuse(`--rate takes a number from 1 to 100000, not ${values.rate}`);
  if (!(seconds > 0 && seconds <= 1e6))
    refuse(`--seconds takes a number up to 1000000, not ${values.seconds}`);
  if (mac && !/^([\da-f]{2}:){5}[\da-f]{2}$/i.test(mac)) refuse(`${mac} is no MAC address`);
  return { device, to, rate, seconds, mac };
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        help: { type: 'boolean' },
        mac: { type: 'string' },
        rate: { type: 'string', default: '1000' },
        seconds: { type: 'string', default: '1000000' },
      },
    });
  } catch (error) {
    return refuse(/** @type {Error} */ (error).message);
  }
}

/** @returns {never} */
function refuse(reason) {
  console.error(`${reason}\n\n${USAGE}`);
  process.exit(2);
}
