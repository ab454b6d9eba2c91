/**
 * Closing what a coordinator holds without that coordinator, from its checkpoint: failing open.
 *
 * For the thread that finds that there is no coordinator and that none will follow: the supervisor's, or the
 * application's if the supervisor has died too.
 */
import { inNamespace } from '../kernel/namespace.ts';
import type { Shim } from '../kernel/shim.ts';
import { Checkpoint } from '../memory/checkpoint.ts';
import type { Memory } from '../memory/shared.ts';
import type { AfXdpHoldings } from '../paths/af-xdp/device.ts';
import type { HostHoldings } from '../paths/host/device.ts';
import type { TapHoldings } from '../paths/tap/device.ts';
import type { GroupHoldings } from './networks.ts';
import { Networks, type Place } from './networks.ts';

/**
 * Gives the kernel its interfaces back, at once: closes the bpf_links of every path. Nothing here waits or fails. What is
 * no link (tc filters, sockets, taps, settings of devices) stays for {@link release}, which goes by what this leaves of
 * the checkpoint.
 */
export function closeLinks(shim: Shim, memory: Memory): void {
  const checkpoint = new Checkpoint<GroupHoldings>(memory);
  const holdings = checkpoint.load();
  if (holdings === undefined) return;
  for (const { slots } of holdings.ports) {
    for (const { device } of slots) {
      const { fds, tie } = (device ?? {}) as Partial<AfXdpHoldings & TapHoldings & HostHoldings>;
      if (fds !== undefined && 'attached' in fds && fds.attached > 0) {
        shim.close(fds.attached);
        fds.attached = -1;
      }
      const ends = (tie ?? {}) as Record<string, unknown>;
      for (const [end, attachment] of Object.entries(ends)) {
        const link = (attachment as { link?: number }).link ?? -1;
        if (link < 0) continue;
        shim.close(link);
        delete ends[end];
      }
    }
  }
  checkpoint.save(holdings);
}

/**
 * Closes the rest, in the order in which a coordinator does. After the workers have ended: they use these descriptors.
 *
 * @returns what could not be given back
 */
export function release(place: Place): unknown[] {
  const checkpoint = new Checkpoint<GroupHoldings>(place.memory);
  const holdings = checkpoint.load();
  if (holdings === undefined || holdings.ports.length === 0) return [];
  const errors: unknown[] = [];
  const attempt = (step: () => void): void => {
    try {
      step();
    } catch (error) {
      errors.push(error);
    }
  };
  const closeAll = (): void => {
    const networks = Networks.resume(place, holdings, { changed: () => {}, failed: () => {} });
    holdings.ports.forEach(({ slots }, port) => {
      for (const { path, key, device } of slots.toReversed()) {
        if (device !== undefined) attempt(() => networks.list[port]!.adopt(path, { key }, device).close());
      }
    });
    networks.close();
  };
  const { netns } = place.settings;
  attempt(() => (netns === undefined ? closeAll() : inNamespace(place.shim, netns, closeAll)));
  attempt(() => checkpoint.save({ claims: [], sockets: [], ports: [] }));
  return errors;
}
