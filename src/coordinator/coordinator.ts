/**
 * The coordinator: finds the devices, keeps the ports, starts the workers, and tells the application.
 *
 * Runs in a thread of its own (workers/coordinator.ts), so that neither slow system calls nor a busy
 * application delay a failover. It blocks only in system calls that take RTNL.
 */
import type { MessagePort } from 'node:worker_threads';
import { check } from '../errors.ts';
import { claim } from '../kernel/claim.ts';
import { ringDoorbell } from '../kernel/doorbell.ts';
import { enterNamespace } from '../kernel/namespace.ts';
import { takePrecedence } from '../kernel/niceness.ts';
import { onReadable, type Readiness } from '../kernel/readiness.ts';
import { loadShim, type Shim } from '../kernel/shim.ts';
import { Sysfs } from '../kernel/sysfs.ts';
import { Journal } from '../memory/journal.ts';
import { Control, PATH_NAMES, type PathId, RETA_ENTRIES, WorkerBlock } from '../memory/layout.ts';
import { Memory } from '../memory/shared.ts';
import type { Settings } from '../options.ts';
import { respread, spread } from '../rss/redirection.ts';
import { choose, refuseToCut, takeSnapshot } from './discovery.ts';
import { KernelNetwork } from './kernel-network.ts';
import { LinkTable } from './link-table.ts';
import { ManagedPort } from './managed-port.ts';
import { MemoryNetwork } from './memory-network.ts';
import type { CoordinatorData, Order, Report } from './messages.ts';
import type { PortNetwork } from './network.ts';
import { Ownership } from './ownership.ts';
import { plain, QueueWorkers } from './queue-workers.ts';
import { Vigil } from './vigil.ts';

/** How often the kernel's own counters are read: some 0.4 ms each time when all caches are cold. */
const COUNT_MILLIS = 500;

export class Coordinator {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #settings: Settings;
  readonly #parent: MessagePort;
  readonly #fds: number[] = [];
  #readiness: Readiness | undefined;
  #table: LinkTable | undefined;
  #ports: ManagedPort[] = [];
  #workers: QueueWorkers | undefined;
  #timer: NodeJS.Timeout | undefined;
  #vigil: NodeJS.Timeout | undefined;
  #audits: { id: number; wanted: number }[] = [];
  #auditTimer: NodeJS.Timeout | undefined;
  #wanted = 0;

  constructor({ shared, settings }: CoordinatorData, parent: MessagePort) {
    this.#shim = loadShim();
    this.#memory = Memory.attach(shared);
    this.#settings = settings;
    this.#parent = parent;
  }

  /** Everything up to the first packet. Reports 'ready', or 'failed' having undone all of it. */
  async start(): Promise<void> {
    try {
      this.#shim.threadName('twinpath-coord');
      takePrecedence();
      if (this.#settings.netns !== undefined) enterNamespace(this.#shim, this.#settings.netns);
      this.#openDoorbells();
      const journal = new Journal(this.#memory);
      const { queues } = this.#settings;
      const all = Array.from({ length: queues }, (_, queue) => queue);
      this.#settings.ports.forEach((_, port) => {
        this.#memory.bytes.set(spread(all), this.#memory.layout.redirection(port));
      });
      this.#ports = this.#networks().map((network, port) => {
        const ownership = new Ownership(this.#shim, this.#memory, journal, port, (failover) =>
          this.#tell({ kind: 'path', failover, paths: this.#ports[port]!.paths }),
        );
        return new ManagedPort(this.#memory, port, network, ownership, {
          link: (news) => this.#tell({ kind: 'link', news, paths: this.#ports[port]!.paths }),
          error: (error) => this.#tell({ kind: 'error', error }),
        });
      });
      const vigil = new Vigil(this.#memory, this.#settings.stuckMillis, (queue) =>
        this.#workers?.endStuck(queue),
      );
      const macs = this.#ports.map(({ network }) => network.mac);
      this.#workers = new QueueWorkers(this.#memory.shared, this.#settings, macs, {
        worker: (news) => {
          if (news.state === 'died') vigil.died(news.queue);
          this.#tell({ kind: 'worker', news });
        },
        error: (error) => this.#tell({ kind: 'error', error }),
        left: (queue) => {
          for (const port of this.#ports) port.abandon(queue);
        },
      });
      await this.#workers.start();
      // Packets come as soon as the first path is open, and orders wait for workers.
      this.#vigil = setInterval(() => vigil.look(), vigil.periodMillis);
      for (const port of this.#ports) await port.start();
      this.#timer = setInterval(() => this.#count(), COUNT_MILLIS);
      this.#tell({
        kind: 'ready',
        ports: this.#ports.map(({ network, paths }) => ({ device: network.device, mac: network.mac, paths })),
      });
    } catch (error) {
      await this.#shutDown();
      this.#tell({ kind: 'failed', error: plain(error) });
    }
  }

  async obey(order: Order): Promise<void> {
    switch (order.kind) {
      case 'close':
        await this.#shutDown();
        this.#tell({ kind: 'closed' });
        return;
      case 'audit':
        this.#audit(order.id);
        return;
      case 'plug':
      case 'unplug': {
        const port = this.#ports[order.port]!;
        const { network } = port;
        if (!(network instanceof MemoryNetwork)) {
          const detail = 'a port on devices finds them by itself: only a memory network is plugged by hand';
          this.#tell({ kind: 'error', error: { code: 'ERR_OPTION_INVALID', device: order.kind, detail } });
          return;
        }
        const path = PATH_NAMES.indexOf(order.path) as PathId;
        const gone = order.kind === 'unplug' ? network.unplug(path) : undefined;
        if (order.kind === 'plug') network.plug(path, order.name);
        await port.changed(new Set(gone === undefined ? [] : [gone]));
        return;
      }
      case 'redirect':
        this.#redirect(order.port, order.queues);
        return;
    }
  }

  #networks(): PortNetwork[] {
    const { ports, network, tap, tie, host, rss, rssKey } = this.#settings;
    if (network !== 'kernel') {
      return ports.map((_, port) => new MemoryNetwork(this.#memory, port, network === 'loop'));
    }
    const table = new LinkTable(this.#shim, (gone, downed) => {
      for (const port of this.#ports) void port.changed(gone, downed);
    });
    this.#table = table;
    const sysfs = new Sysfs();
    const taken = new Set<number>();
    return ports.map((wanted, port) => {
      const snapshot = takeSnapshot(table.netlink, sysfs);
      const choice = choose(snapshot, wanted, taken);
      if (host === 'off' && !this.#settings.cutHost) refuseToCut(snapshot, choice);
      this.#fds.push(claim(this.#shim, choice.netvsc.ifindex, choice.netvsc.name));
      taken.add(choice.netvsc.ifindex);
      if (choice.vf !== undefined) taken.add(choice.vf.ifindex);
      return new KernelNetwork(this.#shim, this.#memory, port, table, sysfs, choice, {
        tap: { plain: tap === 'read/write', tie, inline: host === 'inline' },
        ...{ host, tie, rss, rssKey },
      });
    });
  }

  #openDoorbells(): void {
    const { words, layout } = this.#memory;
    const eventfd = (): number => {
      const fd = check(this.#shim.eventfd(), 'eventfd2');
      this.#fds.push(fd);
      return fd;
    };
    const attention = eventfd();
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      words[(layout.worker(queue) + WorkerBlock.doorbellFd) >> 2] = eventfd();
      words[(layout.worker(queue) + WorkerBlock.attentionFd) >> 2] = attention;
    }
    const scratch = new Uint8Array(8);
    this.#readiness = onReadable(attention, () => {
      this.#shim.read(attention, scratch, 8);
      for (const port of this.#ports) port.attention();
    });
  }

  /** Workers see the new table within a burst; the next audit is answered behind it. */
  #redirect(port: number, queues: readonly number[]): void {
    const { bytes, layout } = this.#memory;
    const at = layout.redirection(port);
    bytes.set(respread(bytes.slice(at, at + RETA_ENTRIES), queues), at);
  }

  #count(): void {
    for (const port of this.#ports) port.count();
  }

  #audit(id: number): void {
    const { words, layout } = this.#memory;
    this.#count();
    this.#wanted = (this.#wanted + 1) | 0;
    this.#audits.push({ id, wanted: this.#wanted });
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      Atomics.store(words, (layout.worker(queue) + WorkerBlock.auditWanted) >> 2, this.#wanted);
      ringDoorbell(this.#shim, this.#memory, queue);
    }
    this.#auditTimer ??= setInterval(() => this.#audited(), 1);
  }

  /** Workers answer audits at a burst boundary, within microseconds unless they are asleep or dead. */
  #audited(): void {
    const { words, layout } = this.#memory;
    const done = Array.from({ length: layout.geometry.queues }, (_, queue) =>
      Atomics.load(words, (layout.worker(queue) + WorkerBlock.auditDone) >> 2),
    );
    const oldest = done.reduce((a, b) => (((a - b) | 0) < 0 ? a : b));
    const answered = this.#audits.filter(({ wanted }) => ((oldest - wanted) | 0) >= 0);
    this.#audits = this.#audits.filter(({ wanted }) => ((oldest - wanted) | 0) < 0);
    for (const { id } of answered) this.#tell({ kind: 'audited', id });
    if (this.#audits.length > 0) return;
    clearInterval(this.#auditTimer);
    this.#auditTimer = undefined;
  }

  /** Paths first, while the workers can still drain them; then the workers; then our own descriptors. */
  async #shutDown(): Promise<void> {
    clearInterval(this.#timer);
    clearInterval(this.#vigil);
    clearInterval(this.#auditTimer);
    if (this.#workers !== undefined) {
      this.#workers.close();
      for (const port of this.#ports) await port.close();
      const { words, layout } = this.#memory;
      Atomics.store(words, Control.stop >> 2, 1);
      for (let queue = 0; queue < layout.geometry.queues; queue++)
        ringDoorbell(this.#shim, this.#memory, queue);
      await this.#workers.stop();
      this.#workers = undefined;
    }
    this.#readiness?.close();
    this.#table?.close();
    for (const fd of this.#fds.splice(0)) this.#shim.close(fd);
  }

  #tell(report: Report): void {
    this.#parent.postMessage(report);
  }
}
