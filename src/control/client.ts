/** A client of a control socket, for commands and other programs. Any thread. */
import type { Socket } from 'node:net';
import { TwinpathError } from '../errors.ts';
import {
  type Answer,
  type Hello,
  LineReader,
  PROTOCOL,
  type Request,
  type StatisticsSample,
} from './protocol.ts';
import { connectTo } from './sockets.ts';

/** How long a process may take to answer; the coordinator may wait for RTNL meanwhile. */
const ANSWER_MILLIS = 30_000;
/** How long its thread may take to greet: it has no other work. */
const HELLO_MILLIS = 5_000;

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class ControlClient {
  readonly file: string;
  readonly hello: Hello;
  /** Resolves when the connection has ended. */
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;
  #watching: ((sample: StatisticsSample) => void) | undefined;

  private constructor(file: string, socket: Socket, hello: Hello) {
    this.file = file;
    this.hello = hello;
    this.#socket = socket;
    this.ended = new Promise((resolve) => {
      socket.once('close', () => {
        for (const { reject } of this.#waiting.values()) reject(new TwinpathError('ERR_PORT_CLOSED'));
        this.#waiting.clear();
        resolve();
      });
    });
  }

  /**
   * Connects. Returns undefined if the process of the socket is gone, or takes no more clients.
   *
   * @throws ERR_CONTROL: the kernel refuses, the process has another version, or it does not answer
   */
  static async connect(file: string): Promise<ControlClient | undefined> {
    const socket = await connectTo(file).catch((error: Error) => {
      throw refused(file, error.message);
    });
    if (socket === undefined) return undefined;
    socket.on('error', () => {}); // 'close' follows
    const reader = new LineReader();
    let client: ControlClient | undefined;
    return await new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        reject(refused(file, `nobody answers there within ${HELLO_MILLIS / 1000} s`));
        socket.destroy();
      }, HELLO_MILLIS);
      socket.once('close', () => {
        clearTimeout(late);
        resolve(undefined); // it ended, and so did its process or its ports; or it has too many clients
      });
      socket.on('data', (chunk: Buffer) => {
        try {
          for (const line of reader.push(chunk)) {
            const document = JSON.parse(line) as Hello | Answer;
            if (client !== undefined) client.#receive(document as Answer);
            else {
              clearTimeout(late);
              client = new ControlClient(file, socket, checked(file, document as Hello));
              resolve(client);
            }
          }
        } catch (error) {
          reject(error instanceof TwinpathError ? error : refused(file, (error as Error).message));
          socket.destroy();
        }
      });
    });
  }

  /** The answer to a request. @throws what the process answers; ERR_PORT_CLOSED; ERR_TIMEOUT */
  async request(request: Request): Promise<unknown> {
    const id = this.#next++;
    const late = setTimeout(() => {
      const detail = `process ${this.hello.pid} did not answer "${request.request}" in ${ANSWER_MILLIS / 1000} s`;
      this.#waiting.get(id)?.reject(new TwinpathError('ERR_TIMEOUT', { device: this.file, detail }));
      this.#waiting.delete(id);
    }, ANSWER_MILLIS);
    try {
      return await new Promise((resolve, reject) => {
        this.#waiting.set(id, { resolve, reject });
        if (this.#socket.destroyed) reject(new TwinpathError('ERR_PORT_CLOSED'));
        else this.#socket.write(`${JSON.stringify({ id, ...request })}\n`);
      });
    } finally {
      clearTimeout(late);
    }
  }

  /** Calls `take` with the first sample at once and then periodically, until the connection ends. One watch a client. */
  async watch(millis: number, take: (sample: StatisticsSample) => void): Promise<void> {
    take((await this.request({ request: 'watch', millis })) as StatisticsSample);
    this.#watching = take;
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive({ id, result, error }: Answer): void {
    const waiting = this.#waiting.get(id as number);
    this.#waiting.delete(id as number);
    if (waiting === undefined) {
      if (error === undefined) this.#watching?.(result as StatisticsSample);
    } else if (error === undefined) waiting.resolve(result);
    else waiting.reject(TwinpathError.from(error as never));
  }
}

function checked(file: string, hello: Hello): Hello {
  if (hello.protocol === PROTOCOL) return hello;
  const detail = `process ${hello.pid} is Twinpath ${hello.twinpath}, which speaks version ${hello.protocol} of the protocol`;
  throw new TwinpathError('ERR_CONTROL', {
    device: file,
    detail,
    hint: `Use the twinpath of that version; this one speaks ${PROTOCOL}.`,
  });
}

const refused = (file: string, detail: string): TwinpathError =>
  new TwinpathError('ERR_CONTROL', { device: file, detail });
