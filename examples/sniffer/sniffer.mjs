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
const port = await openPort({ device, handler, host: 'off' });
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
  // Magic number (timestamps in microseconds), version 2.4, time zone, accuracy, longest packet, Ethernet.
  yield Buffer.from(Uint32Array.of(0xa1b2c3d4, 0x0004_0002, 0, 0, 262_144, 1).buffer);
  // After port.close() the loop still gets the packets that were delivered before, and then ends.
  for await (const packets of port.batches({ most: 256 })) {
    // Packets carry no time of arrival. The time of reading is about a millisecond later.
    const micros = Math.round((performance.timeOrigin + performance.now()) * 1000);
    const taken = packets.slice(0, count - written);
    written += taken.length;
    yield Buffer.concat(taken.flatMap(({ data }) => [header(micros, data.length), data]));
    if (written >= count) return;
  }
}

/** Seconds, microseconds, bytes in the file, bytes on the wire. The byte order is the machine's, as the format allows. */
function header(micros, bytes) {
  const words = Uint32Array.of(Math.floor(micros / 1e6), micros % 1e6, bytes, bytes);
  return Buffer.from(words.buffer);
}
