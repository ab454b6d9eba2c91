/** Writes the packets that arrive at a network card to a file that tcpdump and Wireshark read. */
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { openPort } from 'twinpath';

const USAGE = `Usage: node sniffer.mjs DEVICE FILE [COUNT]

Writes packets to FILE in the pcap format, COUNT of them or until Ctrl-C. The machine does not get them.`;

const [device, file, limit = 'Infinity', ...rest] = process.argv.slice(2);
const count = Number(limit);
if (file === undefined || device.startsWith('-') || !(count >= 1) || rest.length > 0) {
  const isHelp = device === '--help';
  console[isHelp ? 'log' : 'error'](USAGE);
  process.exit(isHelp ? 0 : 2);
}

const output = await open(file, 'w'); // before the port: with a wrong path nothing happens to the network
const handler = new URL('./handler.mjs', import.meta.url);
// One queue: with several the packets are in order within each, and the file would have to be sorted.
const port = await openPort({ device, handler, host: 'off', queues: 1 });
console.log(`writing packets of ${port.device} to ${file}; Ctrl-C ends it`);
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void port.close());

let written = 0;
try {
  await pipeline(records, output.createWriteStream());
} finally {
  await port.close();
}
// Workers never wait for the file. When it is too slow, packets are lost here.
console.log(
  `${written} packets written, ${port.stats().dropped.deliverFull} lost because the file was too slow`,
);

async function* records() {
  // Magic number (timestamps in nanoseconds), version 2.4, time zone, accuracy, longest packet, Ethernet.
  yield Buffer.from(Uint32Array.of(0xa1b23c4d, 0x0004_0002, 0, 0, 262_144, 1).buffer);
  // After port.close() the loop still gets the packets that were delivered before, and then ends.
  for await (const burst of port.bursts()) {
    const pieces = [];
    for (let i = 0; i < burst.length && written < count; i++, written++) {
      pieces.push(header(burst.timestamp[i], burst.bytes[i]), burst.data(i));
    }
    yield Buffer.concat(pieces); // a copy: the packets go back with the next step
    if (written >= count) return;
  }
}

/** Seconds, nanoseconds, bytes in the file, bytes on the wire. The byte order is the machine's, as the format allows. */
function header(nanos, bytes) {
  const second = 1_000_000_000n;
  const words = Uint32Array.of(Number(nanos / second), Number(nanos % second), bytes, bytes);
  return Buffer.from(words.buffer);
}
