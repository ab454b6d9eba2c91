/**
 * The coordinator: finds the devices, manages the ports, and reports to the application.
 *
 * It has a thread of its own (workers/coordinator.ts) for the slow system calls, most of which take RTNL. The supervisor's
 * thread starts it, and orders the workers off lost paths meanwhile (group-failover.ts). If it dies, the supervisor starts
 * another one, which resumes from the checkpoint.
 */
import type { MessagePort } from 'node:worker_threads';
import { initial } from '../configuration.ts';
import { plainError, TwinpathError } from '../errors.ts';
import { recordingShim } from '../kernel/descriptors.ts';
import { raisePriority } from '../kernel/machine.ts';
import { enterNamespace } from '../kernel/namespace.ts';
import { closeReadiness } from '../kernel/readiness.ts';
import { loadShim, type Shim } from '../kernel/shim.ts';
import { Checkpoint } from '../memory/checkpoint.ts';
import { PATH_NAMES, type PathId } from '../memory/layout.ts';
import { setMac } from '../memory/macs.ts';
import { Memory } from '../memory/shared.ts';
import { errorEvent, type ReportedEvent } from '../port-events.ts';
import type { Settings } from '../settings.ts';
import { Audits } from './audits.ts';
import { complete } from './completion.ts';
import { concernsWorkers } from './configure.ts';
import type { LinkEvents } from './link-table.ts';
import { ManagedPort } from './managed-port.ts';
import { MemoryNetwork } from './memory-network.ts';
import type {
  CoordinatorCommand,
  CoordinatorData,
  FromCoordinator,
  OrderMessage,
  Question,
  SpreadMessage,
  ToCoordinator,
} from './messages.ts';
import { type GroupContext, type GroupHoldings, Networks } from './networks.ts';
import { OwnershipClient } from './ownership-client.ts';
import type { PathOrder } from './path-orders.ts';
import { closeUnheld } from './release.ts';
import { TaskRunner } from './task-runner.ts';

/** How often everything is checked and the kernel's counters are read: some 0.4 ms each time with cold caches. */
const CHECK_MILLIS = 500;

export class Coordinator {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #settings: Settings;
  readonly #parent: MessagePort;
  readonly #tasks: TaskRunner;
  readonly #checkpoint: Checkpoint<GroupHoldings>;
  readonly #audits: Audits;
  readonly #resume: boolean;
  /** What resolves each order's promise, by the order's number. */
  readonly #orders = new Map<number, () => void>();
  #nextOrder = 1;
  #networks: Networks | undefined;
  #ports: ManagedPort[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor({ shared, settings, resume }: CoordinatorData, parent: MessagePort) {
    this.#memory = Memory.attach(shared);
    this.#shim = recordingShim(loadShim(), this.#memory);
    this.#settings = settings;
    this.#parent = parent;
    this.#resume = resume;
    this.#tasks = new TaskRunner((event) => this.#post(event));
    this.#checkpoint = new Checkpoint(this.#memory);
    this.#audits = new Audits(this.#shim, this.#memory);
  }

  /**
   * Chooses the devices: posts 'devices chosen', or 'failed' after everything was undone. If it replaces another coordinator,
   * takes the ports over instead.
   */
  start(): void {
    try {
      this.#shim.threadName('twinpath-coord');
      raisePriority();
      if (this.#settings.netns !== undefined) enterNamespace(this.#shim, this.#settings.netns);
      if (this.#resume) this.#takeOver();
      else this.#chooseDevices();
      this.#watch();
    } catch (error) {
      if (this.#resume) throw error; // the supervisor starts another one
      this.#fail(error);
    }
  }

  /** Takes a message of the supervisor. */
  receive(message: ToCoordinator): void {
    switch (message.kind) {
      case 'workers started':
        this.#openPorts().catch((error: unknown) => this.#fail(error));
        return;
      case 'exit':
        closeReadiness();
        complete(message.done);
        return;
      case 'ordered':
        this.#orders.get(message.id)?.();
        this.#orders.delete(message.id);
        return;
      case 'left':
        this.#tasks.run('closing a path', () => this.#ports[message.port]!.left(message), message.port);
        // The messages that the supervisor has read: a path that is open again is not to be left for the same one.
        this.#networks?.table?.update();
        return;
      case 'doubted':
        this.#ports[message.port]!.checkLinks();
        return;
      case 'execute': {
        const { id, command } = message;
        const port = 'port' in command ? command.port : undefined;
        const work = (): Promise<void> =>
          this.#execute(command).finally(() => this.#post({ kind: 'executed', id }));
        this.#tasks.run(`executing '${command.kind}'`, work, port);
        return;
      }
    }
  }

  #chooseDevices(): void {
    this.#networks = Networks.choose(this.#context, this.#linkEvents);
    this.#makePorts();
    for (const port of this.#ports) port.prepare();
    this.#save();
    this.#networks.list.forEach(({ mac }, port) => {
      setMac(this.#memory, port, mac);
    });
    this.#post({ kind: 'devices chosen' });
  }

  #takeOver(): void {
    const holdings = this.#checkpoint.load();
    if (holdings === undefined) throw new TwinpathError('ERR_WORKER', { detail: 'there is no checkpoint' });
    closeUnheld(this.#shim, this.#memory, holdings);
    this.#networks = Networks.resume(this.#context, holdings, this.#linkEvents);
    this.#makePorts();
    this.#ports.forEach((port, number) => {
      port.adopt(holdings.ports[number]!);
    });
    this.#save();
    this.#eachPort('taking a port over', (port) => port.resume());
  }

  get #context(): GroupContext {
    const report = (error: TwinpathError, port?: number): void => this.#post(errorEvent(error, port));
    return { shim: this.#shim, memory: this.#memory, settings: this.#settings, report };
  }

  get #linkEvents(): LinkEvents {
    return {
      changed: (gone, downed) => {
        this.#eachPort('following links', (port) => port.changed(gone, downed));
      },
      settingsChanged: (ifindex) => {
        this.#eachPort('following settings', (port) => port.settingsChanged(ifindex));
      },
      failed: (error) => this.#tasks.failed('reading links', error),
    };
  }

  #makePorts(): void {
    this.#ports = this.#networks!.list.map((network, port) => {
      const report = (event: ReportedEvent): void => this.#post(event);
      const ownership = new OwnershipClient(this.#memory, port, (order) => this.#order(port, order));
      const { configuration = {} } = this.#settings.ports[port]!;
      return new ManagedPort(this.#memory, port, network, ownership, {
        report,
        save: () => this.#save(),
        run: (task, work) => this.#tasks.run(task, work, port),
        configuration: initial(configuration),
        spread: (wanted) => this.#sent((id) => ({ kind: 'spread', id, port, wanted })),
      });
    });
  }

  /** After the workers have started: packets arrive as soon as the first path is open, and orders wait for workers. */
  async #openPorts(): Promise<void> {
    for (const port of this.#ports) await port.start();
    this.#post({ kind: 'ready', ports: this.#ports.map((port) => port.describe()) });
  }

  #watch(): void {
    const { control, words } = this.#memory;
    this.#timer = setInterval(() => {
      Atomics.add(words, control.at('checks'), 1);
      this.#networks?.table?.update();
      this.#eachPort('checking paths', (port) => port.changed());
      this.#count();
    }, CHECK_MILLIS);
  }

  /** Sends an order to the supervisor. Resolves when the workers have carried out every order so far. */
  #order(port: number, order: PathOrder): Promise<void> {
    return this.#sent((id) => ({ kind: 'order', id, port, order }));
  }

  /** Sends the supervisor a message that it answers with its number. */
  #sent(message: (id: number) => OrderMessage | SpreadMessage): Promise<void> {
    const id = this.#nextOrder++;
    const done = new Promise<void>((resolve) => this.#orders.set(id, resolve));
    this.#post(message(id));
    return done;
  }

  #count(): void {
    this.#eachPort('reading counters', (port) => port.count());
  }

  /** A port that fails keeps none of the others from its task, and its error names it. */
  #eachPort(task: string, work: (port: ManagedPort) => void | Promise<void>): void {
    for (const [number, port] of this.#ports.entries()) this.#tasks.run(task, () => work(port), number);
  }

  async #execute(command: CoordinatorCommand): Promise<void> {
    switch (command.kind) {
      case 'close':
        await this.#close();
        return;
      case 'ask': {
        const { id, question } = command;
        const answer = await this.#answer(question).then(
          (value) => ({ value }),
          (error: unknown) => ({ error: plainError(error) }),
        );
        this.#post({ kind: 'answered', id, ...answer });
        return;
      }
      case 'plug':
      case 'unplug': {
        const port = this.#ports[command.port]!;
        const { network } = port;
        if (!(network instanceof MemoryNetwork)) {
          const detail = 'a port on devices finds them by itself: only a memory network can be plugged';
          throw new TwinpathError('ERR_OPTION_INVALID', { device: command.kind, detail });
        }
        const path = PATH_NAMES.indexOf(command.path) as PathId;
        const gone = command.kind === 'unplug' ? network.unplug(path) : undefined;
        if (command.kind === 'plug') network.plug(path, command.name);
        this.#save();
        await port.changed(new Set(gone === undefined ? [] : [gone]));
        return;
      }
    }
  }

  async #answer(question: Question): Promise<unknown> {
    switch (question.kind) {
      case 'audit':
        this.#count(); // a counter that cannot be read now is read later, and the audit goes on
        await this.#audits.ask();
        return undefined;
      case 'information':
        return this.#ports[question.port]!.information();
      case 'counters':
        return this.#ports[question.port]!.counters();
      case 'count rules':
        return this.#ports[question.port]!.ruleCounts;
      case 'set aside':
        await Promise.all(this.#ports.map((port) => port.setAside(question.aside)));
        return undefined;
      case 'configure': {
        const configuration = await this.#ports[question.port]!.configure(question.change);
        this.#networks?.table?.update(); // the kernel has sent its messages about the change
        if (concernsWorkers(question.change)) await this.#audits.ask(); // answered after the change
        return configuration;
      }
    }
  }

  /** Closes everything that the group has open on the machine, while the workers can still drain it. */
  async #close(): Promise<void> {
    clearInterval(this.#timer);
    this.#audits.close();
    for (const port of this.#ports) await port.close();
    this.#networks?.close();
    this.#networks = undefined;
    this.#checkpoint.save({ locks: [], ports: [] });
  }

  /** Opening failed. */
  #fail(error: unknown): void {
    this.#tasks.run('closing what was opened', async () => {
      await this.#close().finally(() => this.#post({ kind: 'failed', error: plainError(error) }));
    });
  }

  #save(): void {
    const { locks } = this.#networks!;
    const ports = this.#ports.map(({ holdings }) => holdings);
    // A link may have hundreds of alternative names of 127 bytes each. The next coordinator reads the links anew.
    this.#checkpoint.save({ locks, ports }, (key, value) => (key === 'altNames' ? [] : value));
  }

  #post(message: FromCoordinator): void {
    this.#parent.postMessage(message);
  }
}
