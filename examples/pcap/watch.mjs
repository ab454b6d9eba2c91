/** Prints the packets of a network card, in both directions, with the calls of npm's pcap. The machine keeps its traffic. */
import pcap from 'twinpath/pcap';

const USAGE = `Usage: node watch.mjs DEVICE [FILTER] [COUNT]

Prints the packets that FILTER takes (pcap-filter(7); default: all), COUNT of them or until Ctrl-C.`;

const [device, filter = '', limit = 'Infinity', ...rest] = process.argv.slice(2);
const count = Number(limit);
if (device === undefined || device.startsWith('-') || !(count >= 1) || rest.length > 0) {
  const isHelp = device === '--help';
  console[isHelp ? 'log' : 'error'](USAGE);
  process.exit(isHelp ? 0 : 2);
}

const session = pcap.createSession(device, { filter });
let seen = 0;
session.on('packet', (raw) => {
  console.log(`${pcap.decode.packet(raw)}`);
  if (++seen >= count) void end();
});
session.on('error', (error) => {
  console.error(error.message);
  process.exitCode = 1;
  void session.close();
});
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void end());

async function end() {
  await session.close();
  const { ps_recv: received, ps_drop: lost } = session.stats();
  console.log(`${seen} printed of ${received} received, ${lost} lost because this program was too slow`);
}
