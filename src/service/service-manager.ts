/**
 * What a process with ports tells the service manager that runs it: that it is ready, what it does, that it stops; and, while
 * every thread of its ports moves, that it lives (sd_notify(3), sd_watchdog_enabled(3)). Belongs to the thread that opened
 * the ports: if that thread hangs, the watchdog is not fed either.
 */
import { NotifySocket } from '../kernel/notify-socket.ts';
import { loadShim } from '../kernel/shim.ts';
import type { Port } from '../port.ts';
import { invalid } from '../validation.ts';
import { Liveness } from './liveness.ts';

/** Looks at the threads within one watchdog period: a thread may be late once or twice. */
const LOOKS = 4;
/** Shorter, a thread that waits for the kernel for a moment would be taken for one that hangs. Seconds. */
const SHORTEST = 2;

export class ServiceManager {
  readonly #socket: NotifySocket;
  readonly #period: number | undefined;
  readonly #timers: NodeJS.Timeout[] = [];
  #stopping = false;

  private constructor(socket: NotifySocket, period: number | undefined) {
    this.#socket = socket;
    this.#period = period;
  }

  /**
   * The manager that has started this process; undefined if none has. Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
   *
   * @throws ERR_OPTION_INVALID: what they say cannot be used; ERR_KERNEL, ERR_PERMISSION
   */
  static find(environment: NodeJS.ProcessEnv = process.env): ServiceManager | undefined {
    const { NOTIFY_SOCKET: name } = environment;
    if (name === undefined || name === '') return undefined;
    const period = watchdogMillis(environment);
    return new ServiceManager(NotifySocket.open(loadShim(), name), period);
  }

  /** The milliseconds within which the watchdog must be fed; undefined without one. */
  get watchdogMillis(): number | undefined {
    return this.#period;
  }

  /**
   * The ports are open. The manager is told as soon as they can be attached to: what it starts next may do that. From now on
   * the watchdog is fed, each time when all threads of all ports have moved since the last.
   *
   * @param status what the ports do, in one line; read every five seconds
   */
  ready(ports: readonly Port[], status?: () => string): void {
    const first = this.#period === undefined ? ['READY=1'] : ['READY=1', 'WATCHDOG=1'];
    // Where the control socket cannot be opened, an `error` event says so, and the port is ready all the same.
    void Promise.allSettled(ports.map((port) => port.attachable())).then(() => {
      if (!this.#stopping) this.#socket.send(...first);
    });
    if (status !== undefined) this.#every(5000, () => this.status(status()));
    if (this.#period === undefined) return;
    const groups = new Set(ports.map(({ shared }) => shared)); // ports that were opened together have one
    const alive = [...groups].map((shared) => new Liveness(shared));
    this.#every(this.#period / LOOKS, () => {
      const hanging = alive.flatMap((one) => one.hanging());
      if (hanging.length > 0) {
        this.status(`not moving: ${hanging.join(', ')}`);
        return;
      }
      for (const one of alive) one.mark();
      this.#socket.send('WATCHDOG=1');
    });
  }

  /** One line that `systemctl status` shows. */
  status(text: string): void {
    this.#socket.send(`STATUS=${text}`);
  }

  /** The ports are about to close. @param millis how long that may take; the manager waits so long before it kills */
  stopping(millis: number): void {
    this.#stopping = true;
    this.#socket.send('STOPPING=1', `EXTEND_TIMEOUT_USEC=${Math.ceil(millis * 1000)}`);
  }

  /** The ports are closed, and nothing more is said. */
  close(): void {
    this.#stopping = true;
    for (const timer of this.#timers) clearInterval(timer);
    this.#socket.close();
  }

  #every(millis: number, work: () => void): void {
    this.#timers.push(setInterval(work, millis).unref());
  }
}

function watchdogMillis({ WATCHDOG_USEC, WATCHDOG_PID }: NodeJS.ProcessEnv): number | undefined {
  if (!WATCHDOG_USEC) return undefined;
  if (WATCHDOG_PID && WATCHDOG_PID !== String(process.pid)) return undefined; // it is another process's
  const micros = Number(WATCHDOG_USEC);
  if (Number.isSafeInteger(micros) && micros >= SHORTEST * 1e6) return micros / 1000;
  return invalid(
    'WATCHDOG_USEC',
    `${WATCHDOG_USEC} is not a number of microseconds from ${SHORTEST * 1e6} on`,
    `Set WatchdogSec to ${SHORTEST} seconds or more, better to 30.`,
  );
}
