/**
 * The process that tcp.ts has hold the port, so that it can be killed. Arguments: namespace, NetVSC, host
 * mode, queues. Tells its parent 'open' and the owner of its queues whenever that changes; closes the port when
 * the parent disconnects.
 */
import { openPort } from '../src/index.ts';

const [netns, netvsc, host, queues] = process.argv.slice(2);
const port = await openPort({
  ...{ netns, netvsc, force: true, host: host as 'inline', queues: Number(queues) },
  handler: new URL('../src/handlers/host.js', import.meta.url),
});
port.on('error', (error) => process.stderr.write(`${error.message}\n`));
process.send!('open');

let told = '';
const timer = setInterval(() => {
  const owners = [...new Set(port.stats().queues.map(({ owner }) => owner))].join(' ');
  if (owners !== told && process.connected) process.send!(owners);
  told = owners;
}, 5);
process.once('disconnect', async () => {
  clearInterval(timer);
  await port.close();
});
