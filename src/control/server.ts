/**
 * The control socket of ports that were opened together: listens, and admits clients. Only the user of the process, and root,
 * may connect: the folder is the user's alone, the socket has mode 0600, and the kernel says who the peer is. Control thread
 * only.
 */
import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { TwinpathError } from '../errors.ts';
import { type RuntimeFolder, runtimeFolder } from '../kernel/runtime-folder.ts';
import type { Shim } from '../kernel/shim.ts';
import type { Attendant } from './attendant.ts';
import { Connection } from './connection.ts';
import type { Hello } from './protocol.ts';
import { removeStale, socketFile } from './sockets.ts';

/** Clients at one time; each has a few hundred kilobytes at most. */
const MAX_CLIENTS = 32;
/** Sockets of one process: one for each group of ports. */
const MAX_SOCKETS = 256;

const SOL_SOCKET = 1;
/** struct ucred: pid, uid, gid. */
const SO_PEERCRED = 17;

export class ControlServer {
  readonly #shim: Shim;
  readonly #attendant: Attendant;
  readonly #hello: Hello;
  readonly #server: Server;
  readonly #place: RuntimeFolder;
  readonly #connections = new Set<Connection>();
  #file = '';

  /** @param place where the socket is made */
  constructor(shim: Shim, attendant: Attendant, hello: Hello, place = runtimeFolder()) {
    this.#shim = shim;
    this.#attendant = attendant;
    this.#hello = hello;
    this.#place = place;
    // A client that has ended its side may still want the rest of its capture.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#admit(socket));
    this.#server.maxConnections = MAX_CLIENTS;
  }

  /** Listens. Returns the socket's path. @throws ERR_CONTROL */
  async listen(): Promise<string> {
    const { folder, refusal } = this.#place;
    if (folder === undefined || refusal !== undefined) throw failure(folder, refusal);
    await removeStale(folder);
    for (let n = 0; n < MAX_SOCKETS; n++) {
      const file = socketFile(folder, n);
      try {
        this.#server.listen(file);
        await once(this.#server, 'listening');
        this.#file = file;
        chmodSync(file, 0o600);
        return file;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE')
          throw failure(file, (error as Error).message);
      }
    }
    throw failure(folder, `this process has ${MAX_SOCKETS} control sockets already`);
  }

  /** Removes the socket; clients have what was written. */
  close(): void {
    this.#server.close();
    for (const connection of this.#connections) connection.end();
    try {
      if (this.#file !== '') rmSync(this.#file, { force: true });
    } catch {} // this process may have become another user: the next port removes the socket
  }

  #admit(socket: Socket): void {
    if (!this.#isTrusted(socket)) {
      socket.destroy();
      return;
    }
    const connection = new Connection(socket, this.#attendant, this.#hello);
    this.#connections.add(connection);
    socket.once('close', () => this.#connections.delete(connection));
  }

  #isTrusted(socket: Socket): boolean {
    // Node has no interface for it; a handle that has no descriptor is not trusted.
    const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd ?? -1;
    const credentials = new Uint32Array(3);
    if (fd < 0 || this.#shim.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, 12) !== 12) return false;
    return credentials[1] === 0 || credentials[1] === process.geteuid?.();
  }
}

function failure(device: string | undefined, detail: string | undefined): TwinpathError {
  return new TwinpathError('ERR_CONTROL', { device, detail });
}
