/** Connects two network cards as a cable would. */
import { openPorts } from 'twinpath';

const USAGE = `Usage: node forward.mjs DEVICE DEVICE

Sends each packet that arrives at one of two network cards out of the other one.
The machine itself gets none of them. Ctrl-C ends it.`;

const devices = process.argv.slice(2);
if (devices.length !== 2 || devices[0].startsWith('-')) {
  const isHelp = devices[0] === '--help';
  console[isHelp ? 'log' : 'error'](USAGE);
  process.exit(isHelp ? 0 : 2);
}

// Ports that are opened together share their memory, so a packet moves between them without a copy.
const ports = await openPorts({
  ports: devices.map((device) => ({ device })),
  handler: new URL('./handler.mjs', import.meta.url),
  host: 'off', // the machine's own stack gets no packets
});
console.log(`forwarding between ${ports.map(({ device }) => device).join(' and ')}; Ctrl-C ends it`);

const timer = setInterval(report, 1000);
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void ports[0].close()); // closes both
ports[0].once('close', () => {
  clearInterval(timer);
  report();
});

function report() {
  for (const port of ports) {
    const { received, transmitted, dropped } = port.stats();
    const lost = Object.entries(dropped).filter(([, packets]) => packets > 0);
    const reasons = lost.map(([reason, packets]) => `, ${packets} dropped (${reason})`).join('');
    console.log(`${port.device}: ${received} received, ${transmitted} sent${reasons}`);
  }
}
