/**
 * A port in a process of its own, which is Node and Twinpath and nothing else: see port-process.ts. Its argument is the port's
 * options as JSON. It answers each message with its status; the port closes when the parent disconnects.
 */
import { openPort } from '../../src/index.ts';

export interface PortStatus {
  /** Of each queue. */
  readonly owners: readonly string[];
  /** Of JavaScript, on the main thread. */
  readonly heapBytes: number;
  /** Frames that no place accounts for; 0 unless the message asked for an audit. */
  readonly framesMissing: number;
}

const port = await openPort(JSON.parse(process.argv[2]!));
port.on('error', (error) => process.stderr.write(`${error.message}\n`));
process.on('message', async (audit) => {
  const ledgers = audit === true ? await port.audit() : [];
  const status: PortStatus = {
    owners: port.stats().queues.map(({ owner }) => owner),
    heapBytes: process.memoryUsage().heapUsed,
    framesMissing: ledgers.reduce((sum, one) => sum + one.total - one.accounted + one.duplicates, 0),
  };
  process.send?.(status);
});
process.once('disconnect', () => void port.close());
