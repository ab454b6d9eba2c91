/**
 * One client of a control socket. Its requests are answered one after the other; while one is, nothing more is read. What it
 * does not read waits in the kernel's buffer and in one answer here, so a client that is slow or hostile costs the thread of
 * the socket a bounded amount of memory, and other clients nothing but their turn. Control thread only.
 */
import type { Socket } from 'node:net';
import { type Attendant, answerError, notJson } from './attendant.ts';
import type { Capture, CaptureOutput } from './captures.ts';
import { type Answer, type Hello, LineReader } from './protocol.ts';

/** How long a connection that ends waits for its client to read. */
const PATIENCE_MILLIS = 500;
/** The same for one that has the rest of a capture to read. */
const CAPTURE_PATIENCE_MILLIS = 10_000;

export class Connection {
  readonly #socket: Socket;
  readonly #attendant: Attendant;
  readonly #hello: Hello;
  readonly #reader = new LineReader();
  #timer: NodeJS.Timeout | undefined;
  #missed = 0;
  #ends = false;
  /** Once it runs, the connection carries its file. */
  #capture: Capture | undefined;
  /** Goes on when the client has read what was written, or has gone. */
  #resume = (): void => {};

  constructor(socket: Socket, attendant: Attendant, hello: Hello) {
    this.#socket = socket;
    this.#attendant = attendant;
    this.#hello = hello;
    socket.on('error', () => {}); // 'close' follows
    socket.on('drain', () => this.#resume());
    socket.on('close', () => {
      clearInterval(this.#timer);
      this.#capture?.abandon();
      this.#resume();
    });
    socket.on('data', (chunk) => void this.#receive(chunk));
    socket.on('end', () => {
      if (this.#capture !== undefined)
        this.end(); // the client may still read
      else socket.end();
    });
    this.#write(hello);
  }

  /** Ends the connection when the client has read what was written and the rest of its capture, or does not. */
  end(): void {
    if (this.#ends) return;
    this.#ends = true;
    clearInterval(this.#timer);
    if (this.#capture === undefined) this.#socket.end();
    else this.#capture.end(); // the connection ends with the file
    const patience = this.#capture === undefined ? PATIENCE_MILLIS : CAPTURE_PATIENCE_MILLIS;
    const timer = setTimeout(() => this.#socket.destroy(), patience);
    this.#socket.once('close', () => clearTimeout(timer));
  }

  async #receive(chunk: Buffer): Promise<void> {
    if (this.#ends) return;
    if (this.#capture !== undefined) {
      this.end(); // any byte ends a capture
      return;
    }
    this.#socket.pause();
    try {
      for (const line of this.#reader.push(chunk)) {
        if (line.trim() === '') continue;
        this.#write(await this.#answer(line));
        if (this.#beginsCapture()) break; // nothing of what follows is a request
        if (this.#socket.writableNeedDrain) await this.#drained();
        await new Promise(setImmediate); // many small requests in one chunk are not one turn
        if (this.#socket.destroyed) return;
        if (this.#ends) break;
      }
      this.#socket.resume();
    } catch (error) {
      // A line that is too long: where the next one begins is not worth a search.
      this.#write({ id: null, error: answerError(error) });
      this.end();
    }
  }

  async #answer(line: string): Promise<Answer> {
    let id: unknown = null;
    try {
      const given = parse(line);
      id = (given as { id?: unknown } | null)?.id ?? null;
      const request = this.#attendant.check(given);
      if (request.request === 'capture') {
        const application = `Twinpath ${this.#hello.twinpath}`;
        this.#capture = this.#attendant.capture(request, application, this.#output());
        clearInterval(this.#timer); // what follows is no place for samples
        return { id, result: null };
      }
      if (request.request !== 'watch') return { id, result: await this.#attendant.answer(request) };
      this.#watch(id, request.millis);
      return { id, result: this.#attendant.sample() };
    } catch (error) {
      return { id, error: answerError(error) };
    }
  }

  /** Another watch of this client takes the place of the last. */
  #watch(id: unknown, millis: number): void {
    clearInterval(this.#timer);
    this.#missed = 0;
    this.#timer = setInterval(() => {
      if (this.#socket.writableLength > 0) {
        this.#missed++;
        return;
      }
      const missed = this.#missed === 0 ? {} : { missed: this.#missed };
      this.#write({ id, result: { ...this.#attendant.sample(), ...missed } });
    }, millis);
  }

  #beginsCapture(): boolean {
    if (this.#capture === undefined) return false;
    this.#capture.run().then(
      () => this.#socket.end(),
      (error) => this.#socket.destroy(error as Error), // the file stays without its end
    );
    return true;
  }

  #output(): CaptureOutput {
    return {
      write: (bytes) => this.#socket.writable && this.#socket.write(bytes),
      drained: () => this.#drained(),
    };
  }

  #write(document: Hello | Answer): void {
    if (this.#socket.writable) this.#socket.write(`${JSON.stringify(document)}\n`);
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    return notJson(error);
  }
}
