/** The running ports of this user, as commands find and name them. */
import { ControlClient } from '../control/client.ts';
import type { PortRow } from '../control/protocol.ts';
import { socketFiles } from '../control/sockets.ts';
import { TwinpathError } from '../errors.ts';
import { foreignFolders, runtimeFolder } from '../kernel/runtime-folder.ts';
import { normalizeMac } from '../net/mac.ts';
import type { Terminal } from './terminal.ts';

/** A port of another process. */
export interface Attached {
  readonly client: ControlClient;
  readonly row: PortRow;
}

/**
 * Attaches to the running ports of this user; for root, to those of all users. The caller closes the clients.
 *
 * @param failed told of a process that does not answer, or speaks another version: the others are found all the same
 * @throws ERR_CONTROL if this user has no folder for control sockets
 */
export async function runningPorts(failed: (error: TwinpathError) => void): Promise<Attached[]> {
  const { folder, refusal } = runtimeFolder();
  if (folder === undefined || refusal !== undefined)
    throw new TwinpathError('ERR_CONTROL', { device: folder, detail: refusal });
  const files = [folder, ...foreignFolders()].flatMap(socketFiles);
  // All at once: a process that does not answer keeps none of the others waiting.
  return (await Promise.all(files.map((file) => portsAt(file, failed)))).flat();
}

async function portsAt(file: string, failed: (error: TwinpathError) => void): Promise<Attached[]> {
  let client: ControlClient | undefined;
  try {
    client = await ControlClient.connect(file);
    if (client === undefined) return [];
    const connected = client;
    const rows = (await client.request({ request: 'ports' })) as PortRow[];
    return rows.map((row) => ({ client: connected, row }));
  } catch (error) {
    client?.close();
    if (!(error instanceof TwinpathError)) throw error;
    if (error.code !== 'ERR_PORT_CLOSED') failed(error);
    return [];
  }
}

export function detach(ports: readonly Attached[]): void {
  for (const { client } of ports) client.close();
}

/**
 * The port of that name: its device, its MAC address, or the process that holds it. Without a name, the only one that runs.
 *
 * @throws ERR_NO_PORT, ERR_DEVICE_AMBIGUOUS
 */
export function choose(ports: readonly Attached[], name: string | undefined): Attached {
  const mac = name === undefined ? undefined : normalizeMac(name);
  const fits = ports.filter(
    ({ client, row }) =>
      name === undefined || row.device === name || row.mac === mac || String(client.hello.pid) === name,
  );
  const [only, another] = fits;
  if (only !== undefined && another === undefined) return only;
  const names = (fits.length > 0 ? fits : ports).map(
    ({ client, row }) => `${row.device} (${row.mac}, process ${client.hello.pid})`,
  );
  const running = names.length === 0 ? 'no port of this user runs' : `there are ${names.join(', ')}`;
  if (only === undefined) {
    const hint = 'A port of another user, and one that was opened with control: false, is not seen.';
    throw new TwinpathError('ERR_NO_PORT', {
      ...(name === undefined ? {} : { device: name }),
      detail: running,
      hint,
    });
  }
  const hint = 'Name one by its MAC address, or by its process.';
  throw new TwinpathError('ERR_DEVICE_AMBIGUOUS', { device: name ?? 'PORT', detail: running, hint });
}

/** Attaches to one port while `use` runs. */
export async function attachedTo<T>(
  name: string | undefined,
  terminal: Terminal,
  use: (port: Attached) => Promise<T>,
): Promise<T> {
  const ports = await runningPorts(({ message }) => terminal.log(`twinpath: ${message}`));
  try {
    return await use(choose(ports, name));
  } finally {
    detach(ports);
  }
}
