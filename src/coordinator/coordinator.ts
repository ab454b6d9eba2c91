/**
 * The coordinator: finds the devices, keeps the ports, and tells the application.
 *
 * Runs in a thread of its own (workers/coordinator.ts), so that neither slow system calls nor a busy
 * application delay a failover. It blocks only in system calls that take RTNL. The supervisor's thread starts it and the
 * workers; if it dies, the supervisor starts another one, which goes on from the checkpoint.
 */
import type { MessagePort } from 'node:worker_threads';
import { TwinpathError } from '../errors.ts';
import { recordingShim } from '../kernel/descriptors.ts';
import { raisePriority } from '../kernel/machine.ts';
import { enterNamespace } from '../kernel/namespace.ts';
import { closeReadiness, onReadable, type Readiness } from '../kernel/readiness.ts';
import { loadShim, type Shim } from '../kernel/shim.ts';
import { Checkpoint } from '../memory/checkpoint.ts';
import { Journal } from '../memory/journal.ts';
import { PATH_NAMES, type PathId } from '../memory/layout.ts';
import { setMac } from '../memory/macs.ts';
import { Memory } from '../memory/shared.ts';
import type { Settings } from '../options.ts';
import { Audits } from './audits.ts';
import { Boundary } from './boundary.ts';
import { lift } from './latch.ts';
import type { LinkEvents } from './link-table.ts';
import { ManagedPort } from './managed-port.ts';
import { MemoryNetwork } from './memory-network.ts';
import {
  type CoordinatorData,
  type CoordinatorOrder,
  type Instruction,
  type Message,
  plain,
} from './messages.ts';
import { type GroupHoldings, Networks, type Place } from './networks.ts';
import { Ownership } from './ownership.ts';
import { closeUnheld } from './release.ts';

/** How often the kernel's own counters are read (some 0.4 ms each time when all caches are cold), and all is looked at. */
const LOOK_MILLIS = 500;

export class Coordinator {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #settings: Settings;
  readonly #parent: MessagePort;
  readonly #boundary: Boundary;
  readonly #checkpoint: Checkpoint<GroupHoldings>;
  readonly #audits: Audits;
  readonly #resume: boolean;
  #networks: Networks | undefined;
  #ports: ManagedPort[] = [];
  #readiness: Readiness | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor({ shared, settings, resume }: CoordinatorData, parent: MessagePort) {
    this.#memory = Memory.attach(shared);
    this.#shim = recordingShim(loadShim(), this.#memory);
    this.#settings = settings;
    this.#parent = parent;
    this.#resume = resume;
    this.#boundary = new Boundary((error) => this.#tell({ kind: 'error', error }));
    this.#checkpoint = new Checkpoint(this.#memory);
    this.#audits = new Audits(this.#shim, this.#memory);
  }

  /** Everything up to the workers. Reports 'chosen', or 'failed' having undone all of it; nothing if it follows another. */
  start(): void {
    try {
      this.#shim.threadName('twinpath-coord');
      raisePriority();
      if (this.#settings.netns !== undefined) enterNamespace(this.#shim, this.#settings.netns);
      if (this.#resume) this.#goOn();
      else this.#begin();
      this.#watch();
    } catch (error) {
      if (this.#resume) throw error; // the supervisor tries another one
      this.#fail(error);
    }
  }

  /** What the supervisor says. */
  hear(instruction: Instruction): void {
    switch (instruction.kind) {
      case 'workers started':
        this.#openPorts().catch((error: unknown) => this.#fail(error));
        return;
      case 'exit':
        closeReadiness();
        lift(instruction.done);
        return;
      case 'left':
        for (const port of this.#ports) port.abandon(instruction.queue);
        return;
      case 'order': {
        const { id, order } = instruction;
        this.#boundary.guard(`carrying out '${order.kind}'`, () =>
          this.#obey(order).finally(() => this.#tell({ kind: 'obeyed', id })),
        );
        return;
      }
    }
  }

  #begin(): void {
    this.#networks = Networks.choose(this.#place, this.#linkEvents);
    this.#makePorts();
    this.#save();
    this.#networks.list.forEach(({ mac }, port) => {
      setMac(this.#memory, port, mac);
    });
    this.#tell({ kind: 'chosen' });
  }

  #goOn(): void {
    const holdings = this.#checkpoint.load();
    if (holdings === undefined) throw new TwinpathError('ERR_WORKER', { detail: 'there is no checkpoint' });
    closeUnheld(this.#shim, this.#memory, holdings);
    this.#networks = Networks.resume(this.#place, holdings, this.#linkEvents);
    this.#makePorts();
    this.#ports.forEach((port, number) => {
      port.adopt(holdings.ports[number]!);
    });
    this.#save();
    for (const port of this.#ports) this.#boundary.guard('going on', () => port.resume());
  }

  get #place(): Place {
    const report = (error: TwinpathError): void => this.#tell({ kind: 'error', error: error.toJSON() });
    return { shim: this.#shim, memory: this.#memory, settings: this.#settings, report };
  }

  get #linkEvents(): LinkEvents {
    return {
      changed: (gone, downed) => {
        for (const port of this.#ports)
          this.#boundary.guard('following links', () => port.changed(gone, downed));
      },
      reset: (ifindex) => {
        for (const port of this.#ports)
          this.#boundary.guard('following settings', () => port.resettled(ifindex));
      },
      failed: (error) => this.#boundary.failed('reading links', error),
    };
  }

  #makePorts(): void {
    const journal = new Journal(this.#memory);
    this.#ports = this.#networks!.list.map((network, port) => {
      const paths = () => this.#ports[port]!.paths;
      const ownership = new Ownership(this.#shim, this.#memory, journal, port, (failover) =>
        this.#tell({ kind: 'path', failover, paths: paths() }),
      );
      return new ManagedPort(this.#memory, port, network, ownership, {
        link: (news) => this.#tell({ kind: 'link', news, paths: paths() }),
        error: (error) => this.#tell({ kind: 'error', error }),
        changed: () => this.#save(),
        guard: (what, work) => this.#boundary.guard(what, work),
      });
    });
  }

  /** Packets come as soon as the first path is open, and orders wait for workers: so these are there before. */
  async #openPorts(): Promise<void> {
    for (const port of this.#ports) await port.start();
    this.#tell({
      kind: 'ready',
      ports: this.#ports.map(({ network, paths }) => ({ device: network.device, paths })),
    });
  }

  /** Looks when a worker rings, and now and then: a bell may be lost, and a look may fail. */
  #watch(): void {
    const bell = this.#memory.workers[0]!.coordinatorFd;
    const scratch = new Uint8Array(8);
    const attention = (port: ManagedPort): void =>
      this.#boundary.guard('hearing workers', () => port.hearWorkers());
    const look = (): void => {
      this.#shim.read(bell, scratch, 8);
      this.#ports.forEach(attention);
    };
    this.#readiness = onReadable(bell, look, (error) => this.#boundary.failed('hearing workers', error));
    this.#timer = setInterval(() => {
      this.#networks?.table?.look();
      for (const port of this.#ports) {
        attention(port);
        this.#boundary.guard('looking', () => port.changed());
      }
      this.#count();
    }, LOOK_MILLIS);
  }

  #count(): void {
    for (const port of this.#ports) this.#boundary.guard('reading counters', () => port.count());
  }

  async #obey(order: CoordinatorOrder): Promise<void> {
    switch (order.kind) {
      case 'close':
        await this.#close();
        return;
      case 'audit':
        this.#count(); // what cannot be read now is read later: whoever asked is answered
        await this.#audits.ask();
        this.#tell({ kind: 'audited', id: order.id });
        return;
      case 'plug':
      case 'unplug': {
        const port = this.#ports[order.port]!;
        const { network } = port;
        if (!(network instanceof MemoryNetwork)) {
          const detail = 'a port on devices finds them by itself: only a memory network is plugged by hand';
          throw new TwinpathError('ERR_OPTION_INVALID', { device: order.kind, detail });
        }
        const path = PATH_NAMES.indexOf(order.path) as PathId;
        const gone = order.kind === 'unplug' ? network.unplug(path) : undefined;
        if (order.kind === 'plug') network.plug(path, order.name);
        this.#save();
        await port.changed(new Set(gone === undefined ? [] : [gone]));
        return;
      }
    }
  }

  /** Everything of ours on the machine, while the workers can still drain it. */
  async #close(): Promise<void> {
    clearInterval(this.#timer);
    this.#audits.close();
    for (const port of this.#ports) await port.close();
    this.#readiness?.close();
    this.#networks?.close();
    this.#networks = undefined;
    this.#checkpoint.save({ locks: [], ports: [] });
  }

  /** Opening failed. */
  #fail(error: unknown): void {
    this.#boundary.guard('closing what was opened', async () => {
      await this.#close().finally(() => this.#tell({ kind: 'failed', error: plain(error) }));
    });
  }

  #save(): void {
    const { locks } = this.#networks!;
    const ports = this.#ports.map(({ holdings }) => holdings);
    // A link may have hundreds of alternative names, of 127 bytes each. Whoever follows reads the links anew.
    this.#checkpoint.save({ locks, ports }, (key, value) => (key === 'altNames' ? [] : value));
  }

  #tell(message: Message): void {
    this.#parent.postMessage(message);
  }
}
