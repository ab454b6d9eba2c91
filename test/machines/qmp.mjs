/** QEMU's own remote control: JSON lines over a socket that QEMU connects to (docs/interop/qmp-spec.rst). */
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

export class Qmp {
  /** What QEMU has told by itself, oldest first. */
  events = [];
  #log;
  #socket;
  #calls = new Map();
  #last = 0;
  #waiters = new Set();

  constructor(path, log) {
    this.#log = log;
    createServer((socket) => {
      this.#socket = socket;
      socket.on('error', () => {}); // it ends with QEMU
      createInterface(socket).on('line', (line) => this.#hear(JSON.parse(line)));
    }).listen(path);
  }

  /** @throws what QEMU says is wrong */
  execute(command, args) {
    return new Promise((resolve, reject) => {
      const id = ++this.#last;
      this.#calls.set(id, { resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** The next event that is like that. @throws if there is none in that time */
  next(isLike, millis) {
    return new Promise((resolve, reject) => {
      const look = (event) => {
        if (!isLike(event)) return;
        this.#waiters.delete(look);
        clearTimeout(timer);
        resolve(event);
      };
      const timer = setTimeout(() => {
        this.#waiters.delete(look);
        reject(new Error(`no such event in ${millis} ms`));
      }, millis);
      this.#waiters.add(look);
    });
  }

  #hear({ QMP, event, data, id, error, return: result }) {
    if (QMP !== undefined) void this.execute('qmp_capabilities');
    else if (event !== undefined) {
      this.events.push({ event, data });
      this.#log(`event ${event} ${JSON.stringify(data ?? {})}`);
      for (const look of this.#waiters) look({ event, data });
    } else {
      const call = this.#calls.get(id);
      this.#calls.delete(id);
      if (error === undefined) call.resolve(result);
      else call.reject(new Error(error.desc));
    }
  }
}
