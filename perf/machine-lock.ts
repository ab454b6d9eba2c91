/** One measurement at a time: two would measure each other. */
import { createServer, type Server } from 'node:net';
import { TwinpathError } from '../src/errors.ts';

/** Of the abstract namespace (unix(7)): the kernel frees it when its process ends, however it ends. */
const NAME = '\0twinpath-perf';

/** Holds the machine until the server is closed. @throws ERR_DEVICE_BUSY while another process does */
export async function holdMachine(name = NAME): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(name, resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE') throw error;
    throw new TwinpathError('ERR_DEVICE_BUSY', {
      device: 'this machine',
      detail: 'another measurement is running',
      hint: 'Wait for it: two at once would measure each other.',
    });
  });
  server.unref();
  return server;
}
