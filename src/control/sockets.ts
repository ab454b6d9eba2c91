/**
 * Where control sockets are: `PID.sock`, or `PID-N.sock` for further ports of a process, in the folder of
 * kernel/runtime-folder.ts. A killed process leaves its sockets there; nobody listens at them, and the next one to look removes
 * them.
 */
import { readdirSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { basename, join } from 'node:path';

const NAME = /^\d+(-\d+)?\.sock$/;

/** Paths of the sockets in the folder, in the order of their names. Empty if there is no folder. */
export function socketFiles(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => NAME.test(name))
      .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}

/** Path of the n-th socket of this process. */
export const socketFile = (folder: string, n: number): string =>
  join(folder, `${process.pid}${n === 0 ? '' : `-${n}`}.sock`);

/** Connects to a socket. Removes it and returns undefined if its process is gone. @throws Error: why the kernel refuses */
export function connectTo(file: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect(file);
    socket.once('connect', () => {
      socket.off('error', refused);
      resolve(socket);
    });
    const refused = (error: NodeJS.ErrnoException): void => {
      // A process that is about to listen refuses too, for a moment.
      if (error.code === 'ECONNREFUSED' && !isRunning(file)) rmSync(file, { force: true });
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(undefined);
      else reject(error);
    };
    socket.once('error', refused);
  });
}

/** Whether the process that the socket is named after runs. */
function isRunning(file: string): boolean {
  try {
    process.kill(Number.parseInt(basename(file), 10), 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Removes the sockets of processes that are gone. Never throws. */
export async function removeStale(folder: string): Promise<void> {
  for (const file of socketFiles(folder)) {
    const socket = await connectTo(file).catch(() => undefined);
    socket?.on('error', () => {}).destroy();
  }
}
