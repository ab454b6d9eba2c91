/** A capture, as a command has it: a connection of its own to the control socket. Any thread. */
import type { Socket } from 'node:net';
import { TwinpathError } from '../errors.ts';
import type { Answer } from './protocol.ts';
import { connectTo } from './sockets.ts';

/** Bytes before the file: a greeting and an answer. */
const MAX_HEAD = 1 << 20;
const NEWLINE = 10;
/** How long the thread of the socket may take to answer: it asks no other. */
const ANSWER_MILLIS = 5_000;

export interface CaptureWish {
  readonly port: number;
  readonly filter?: string | undefined;
  readonly snapLength?: number | undefined;
}

export class CaptureClient {
  readonly #socket: Socket;
  readonly #rest: Buffer;

  private constructor(socket: Socket, rest: Buffer) {
    this.#socket = socket;
    this.#rest = rest;
  }

  /**
   * Begins a capture.
   *
   * @param file the control socket
   * @throws what the process answers, such as ERR_OPTION_INVALID for the filter; ERR_PORT_CLOSED if it is gone; ERR_TIMEOUT
   */
  static async start(file: string, wish: CaptureWish): Promise<CaptureClient> {
    const socket = await connectTo(file);
    if (socket === undefined) throw gone();
    socket.on('error', () => {}); // 'close' follows
    const late = setTimeout(() => socket.destroy(timeout(file)), ANSWER_MILLIS);
    try {
      const request = { id: 1, request: 'capture', ...wish };
      socket.write(`${JSON.stringify(request)}\n`);
      const [, answer, rest] = await twoLines(socket);
      const { error } = JSON.parse(answer) as Answer;
      if (error !== undefined) throw TwinpathError.from(error as never);
      return new CaptureClient(socket, rest);
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  /** The bytes of the file, until the capture or the process has ended. */
  async *bytes(): AsyncGenerator<Buffer> {
    if (this.#rest.length > 0) yield this.#rest;
    try {
      for await (const chunk of this.#socket) yield chunk as Buffer;
    } catch {} // the process was killed: what is there is what it has sent
  }

  /** Ends the capture: the rest of the file follows. */
  end(): void {
    this.#socket.write('\n');
  }

  /** Ends the connection at once. */
  close(): void {
    this.#socket.destroy();
  }
}

const gone = (): TwinpathError => new TwinpathError('ERR_PORT_CLOSED');

function timeout(device: string): TwinpathError {
  const detail = `its process did not answer "capture" in ${ANSWER_MILLIS / 1000} s`;
  return new TwinpathError('ERR_TIMEOUT', { device, detail });
}

/** The first two lines, and what is behind them. */
async function twoLines(socket: Socket): Promise<[string, string, Buffer]> {
  let head = Buffer.alloc(0);
  return await new Promise((resolve, reject) => {
    const read = (): void => {
      for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) {
        head = Buffer.concat([head, chunk as Buffer]);
        const first = head.indexOf(NEWLINE);
        const second = first < 0 ? -1 : head.indexOf(NEWLINE, first + 1);
        if (second >= 0) {
          socket.off('readable', read);
          const [hello, answer] = [head.toString('utf8', 0, first), head.toString('utf8', first + 1, second)];
          resolve([hello, answer, head.subarray(second + 1)]);
          return;
        }
        if (head.length > MAX_HEAD)
          reject(new TwinpathError('ERR_CONTROL', { detail: 'it does not answer' }));
      }
    };
    socket.on('readable', read);
    socket.once('error', (error) => reject(error instanceof TwinpathError ? error : gone()));
    socket.once('close', () => reject(gone()));
  });
}
