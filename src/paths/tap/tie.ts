/**
 * The tie between the NetVSC and the capture tap: redirect all that arrives on one to the other's
 * transmit side. tcx bpf_links where the kernel has them (6.6), else cls_bpf filters under clsact.
 *
 * Coordinator only. Filters survive a killed process and then redirect to a device that is gone, which
 * drops: so attaching first removes whatever an earlier Twinpath left. Links need no such care.
 */
import { check, Errno } from '../../errors.ts';
import type { Bpf } from '../../kernel/bpf.ts';
import { tcRedirect } from '../../kernel/programs.ts';
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';

export type TieKind = 'tcx' | 'clsact';

export interface TieRequest {
  readonly netvsc: number;
  readonly tap: number;
  readonly device: string;
  readonly kind: TieKind;
}

/** Ours alone: nobody else's filter has this name at this place. */
const FILTER = { name: 'twinpath', handle: 0x7457, priority: 0x7457 } as const;

export class Tie {
  readonly name: string;
  #netvsc: () => void;
  #tap: () => void;

  private constructor(name: string, netvsc: () => void, tap: () => void) {
    this.name = name;
    this.#netvsc = netvsc;
    this.#tap = tap;
  }

  /** Ties both ways: outgoing first, so that the first packet can already be answered. */
  static attach(bpf: Bpf, netlink: RtNetlink, shim: Shim, { netvsc, tap, device, kind }: TieRequest): Tie {
    removeFilter(netlink, netvsc);
    const outgoing = bpf.load('sched_cls', 'twinpath_out', tcRedirect(netvsc));
    const incoming = bpf.load('sched_cls', 'twinpath_in', tcRedirect(tap));
    try {
      if (kind === 'tcx') {
        const out = bpf.attachTcx(outgoing, tap, 'ingress');
        if (out >= 0) {
          const into = bpf.attachTcx(incoming, netvsc, 'ingress');
          if (into < 0) shim.close(out);
          check(into, 'bpf(LINK_CREATE, tcx)', { device });
          return new Tie(
            'tcx links',
            () => shim.close(into),
            () => shim.close(out),
          );
        }
        if (out !== Errno.EINVAL && out !== Errno.ENOSYS && out !== Errno.EOPNOTSUPP) {
          check(out, 'bpf(LINK_CREATE, tcx)', { device });
        }
      }
      return Tie.#filters(netlink, { netvsc, tap }, { outgoing, incoming });
    } finally {
      shim.close(outgoing);
      shim.close(incoming);
    }
  }

  static #filters(
    netlink: RtNetlink,
    { netvsc, tap }: { netvsc: number; tap: number },
    programs: { outgoing: number; incoming: number },
  ): Tie {
    const { name, handle, priority } = FILTER;
    netlink.addClsact(tap); // goes with the tap
    netlink.addBpfFilter(tap, 'ingress', programs.outgoing, name, handle, priority);
    const added = netlink.addClsact(netvsc);
    netlink.addBpfFilter(netvsc, 'ingress', programs.incoming, name, handle, priority);
    const remove = (): void => {
      netlink.deleteBpfFilter(netvsc, 'ingress', handle, priority);
      if (added) removeEmptyClsact(netlink, netvsc);
    };
    return new Tie('clsact filters', remove, () => {});
  }

  /** The kernel gets the NetVSC's packets again; what the tap is given still goes out. */
  releaseNetvsc(): void {
    this.#netvsc();
    this.#netvsc = () => {};
  }

  release(): void {
    this.releaseNetvsc();
    this.#tap();
    this.#tap = () => {};
  }
}

function removeFilter(netlink: RtNetlink, netvsc: number): void {
  const ours = netlink.bpfFilters(netvsc, 'ingress').some(({ name }) => name === FILTER.name);
  if (!ours) return;
  netlink.deleteBpfFilter(netvsc, 'ingress', FILTER.handle, FILTER.priority);
  removeEmptyClsact(netlink, netvsc);
}

/** The qdisc came with our filter; it stays if somebody has put a filter of theirs there since. */
function removeEmptyClsact(netlink: RtNetlink, ifindex: number): void {
  const hooks = ['ingress', 'egress'] as const;
  if (hooks.every((where) => netlink.bpfFilters(ifindex, where).length === 0)) netlink.deleteClsact(ifindex);
}
