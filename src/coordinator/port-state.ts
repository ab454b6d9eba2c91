/** What the parts of a managed port share: its slots, and whom they report to. Coordinator thread only. */

import type { PortConfiguration } from '../configuration.ts';
import { PATH_NAMES } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { errorEvent, type LinkEvent, type OpenPaths, type ReportedEvent } from '../port-events.ts';
import type { PortNetwork } from './network.ts';
import type { OwnershipClient } from './ownership-client.ts';
import type { WorkerConfiguration } from './queue-spread.ts';
import type { Slot } from './slot.ts';

/** What a managed port needs of its coordinator. */
export interface PortServices {
  /** Reports an event to the application. */
  readonly report: (event: ReportedEvent) => void;
  /** Writes the checkpoint. Called when what the port holds has changed, before anything else is done. */
  readonly save: () => void;
  /** Runs a task that the port starts by itself; its exceptions are reported. */
  readonly run: (task: string, work: () => void | Promise<void>) => void;
  /** What its devices shall have. */
  configuration: PortConfiguration;
  /** Has the workers carry out what is theirs of a configuration. Resolves when they can see it. */
  readonly spread: (wanted: WorkerConfiguration) => Promise<void>;
}

export interface PortState extends PortServices {
  readonly memory: Memory;
  readonly port: number;
  readonly network: PortNetwork;
  readonly ownership: OwnershipClient;
  /** In the order in which they are opened. */
  readonly slots: readonly Slot[];
  /** Whether paths may be opened: the workers have loaded the handler, which says what metadata it asks for. */
  opens: boolean;
  /** Whether the VF is left, and not opened: the platform is about to pause the machine. */
  aside: boolean;
  /** Whether the port is being closed. */
  closing: boolean;
  /** Whether the application has asked what the devices count. */
  counting: boolean;
  /** See `ManagedPort.changed`. */
  readonly changed: () => Promise<void>;
  /** See `Reconciler.reconcile`. */
  readonly reconcile: () => Promise<void>;
}

export function openPaths({ slots }: Pick<PortState, 'slots'>): OpenPaths {
  const open = slots.filter(({ ready }) => ready);
  return Object.fromEntries(open.map(({ path, device }) => [PATH_NAMES[path], device!.description]));
}

/** Reports a 'link' event of a path. */
export function reportLink(
  state: PortState,
  slot: Slot,
  link: LinkEvent['state'],
  detail?: string,
  device = slot.device?.description.device ?? state.network.device,
): void {
  const event = { port: state.port, path: PATH_NAMES[slot.path], device, state: link, detail };
  state.report({ kind: 'link', event, paths: openPaths(state) });
}

/** Runs a step that must not stop the steps after it; its exception is reported. */
export function attempt({ run, network }: PortState, step: string, work: () => void): void {
  run(`${step}, ${network.device}`, work);
}

export function reportError({ report, port }: PortState, error: unknown): void {
  report(errorEvent(error, port));
}
