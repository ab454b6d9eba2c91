/**
 * Closes what a coordinator that died has left open: part of it for the coordinator that replaces it, or all of it to fail
 * open.
 *
 * The thread that fails open is the supervisor's, or the application's if the supervisor has died too.
 */
import { recordedDescriptors, recordingShim } from '../kernel/descriptors.ts';
import { descriptorsOf } from '../kernel/kernel-rules.ts';
import { closeLinkWatch } from '../kernel/link-watch.ts';
import { inNamespace } from '../kernel/namespace.ts';
import type { Shim } from '../kernel/shim.ts';
import { Checkpoint } from '../memory/checkpoint.ts';
import type { Memory } from '../memory/shared.ts';
import type { AfXdpHoldings } from '../paths/af-xdp/device.ts';
import type { HostHoldings } from '../paths/host/device.ts';
import type { TapHoldings } from '../paths/tap/device.ts';
import type { KernelHoldings } from './kernel-options.ts';
import { type GroupContext, type GroupHoldings, Networks } from './networks.ts';
import { descriptorsOfFilter } from './port-mac-filter.ts';

type AnyHoldings = Partial<AfXdpHoldings | TapHoldings | HostHoldings>;

/**
 * Gives the kernel its interfaces back, at once: closes the bpf_links of every path. Nothing here waits or fails. {@link
 * release} closes the rest (tc filters, sockets, taps, settings of devices) from what this leaves of the checkpoint.
 */
export function closeLinks(plain: Shim, memory: Memory): void {
  const shim = recordingShim(plain, memory);
  const checkpoint = new Checkpoint<GroupHoldings>(memory);
  const holdings = checkpoint.load();
  if (holdings === undefined) return;
  for (const device of devicesOf(holdings)) {
    if (device.fds !== undefined && 'attached' in device.fds && device.fds.attached > 0) {
      shim.close(device.fds.attached);
      device.fds.attached = -1;
    }
    const ends = redirectOf(device);
    for (const [end, attachment] of Object.entries(ends)) {
      const link = linkOf(attachment);
      if (link === undefined) continue;
      shim.close(link);
      ends[end] = undefined;
    }
  }
  checkpoint.save(holdings);
}

/** Closes the descriptors of a dead coordinator that are not in the checkpoint: netlink sockets, programs. */
export function closeUnheld(shim: Shim, memory: Memory, holdings: GroupHoldings): void {
  const held = new Set(holdings.locks);
  for (const { network } of holdings.ports) {
    const { rules, macFilter } = (network ?? {}) as Partial<KernelHoldings>;
    for (const fd of rules === undefined ? [] : descriptorsOf(rules)) held.add(fd);
    for (const fd of macFilter === undefined ? [] : descriptorsOfFilter(macFilter)) held.add(fd);
  }
  for (const device of devicesOf(holdings)) {
    for (const fd of Object.values(device.fds ?? {})) held.add(fd);
    for (const fd of 'segmentFds' in device ? (device.segmentFds ?? []) : []) held.add(fd);
    held.add('configuration' in device ? (device.configuration?.fd ?? 0) : 0);
    for (const attachment of Object.values(redirectOf(device))) held.add(linkOf(attachment) ?? 0);
  }
  for (const fd of recordedDescriptors(memory)) if (!held.has(fd)) shim.close(fd);
}

/**
 * Closes everything else, in the order in which a coordinator does. After the workers have ended: they use these descriptors.
 *
 * @returns the errors
 */
export function release(context: GroupContext): unknown[] {
  const { memory, settings } = context;
  const shim = recordingShim(context.shim, memory);
  const checkpoint = new Checkpoint<GroupHoldings>(memory);
  const holdings = checkpoint.load() ?? { locks: [], ports: [] };
  const errors: unknown[] = [];
  const attempt = (step: () => void): void => {
    try {
      step();
    } catch (error) {
      errors.push(error);
    }
  };
  const closeAll = (): void => {
    const networks = Networks.resume({ ...context, shim }, holdings, {
      changed: () => {},
      settingsChanged: () => {},
      failed: () => {},
    });
    holdings.ports.forEach(({ slots }, port) => {
      for (const { path, key, device } of slots.toReversed()) {
        if (device !== undefined) attempt(() => networks.list[port]!.adopt(path, { key }, device).close());
      }
    });
    networks.close();
  };
  if (holdings.ports.length > 0) {
    const { netns } = settings;
    attempt(() => (netns === undefined ? closeAll() : inNamespace(shim, netns, closeAll)));
  }
  closeUnheld(shim, memory, { locks: [], ports: [] });
  closeLinkWatch(context.shim, memory);
  attempt(() => checkpoint.save({ locks: [], ports: [] }));
  return errors;
}

function devicesOf({ ports }: GroupHoldings): AnyHoldings[] {
  return ports.flatMap(({ slots }) => slots.map(({ device }) => (device ?? {}) as AnyHoldings));
}

/** The two ends of a path's redirect, with their attachments. */
function redirectOf(device: AnyHoldings): Record<string, unknown> {
  return ('redirect' in device ? (device.redirect ?? {}) : {}) as Record<string, unknown>;
}

function linkOf(attachment: unknown): number | undefined {
  return typeof attachment === 'object' && attachment !== null
    ? (attachment as { link?: number }).link
    : undefined;
}
