/**
 * A tap of ours, as long as it is open: others may set it down, put it into a bridge or another namespace, or delete it.
 * Its name and its MTU are nothing that packets depend on: programs know it by its ifindex, and no redirect and no read
 * looks at its MTU. Coordinator only.
 */
import { IFF, type Link, type LinkChange, type RtNetlink } from '../../kernel/rtnetlink.ts';
import { changed, type Surroundings } from '../upkeep.ts';
import { QUEUE_LENGTH } from './open.ts';

export class OwnTap {
  readonly #netlink: RtNetlink;
  readonly #ifindex: number;
  #name: string;
  /** It has reached the table of links: only then does its absence mean that it has gone. */
  #seen = false;
  #disciplines = 0;

  constructor(netlink: RtNetlink, { ifindex, name }: { readonly ifindex: number; readonly name: string }) {
    this.#netlink = netlink;
    this.#ifindex = ifindex;
    this.#name = name;
  }

  /** Its name, as of the last look. */
  get name(): string {
    return this.#name;
  }

  /** @throws ERR_DEVICE_CHANGED if only another tap will do */
  tend({ links, upkeep, thorough }: Surroundings): void {
    const told = links.link(this.#ifindex);
    if (told !== undefined) this.#name = told.name;
    else if (this.#seen) throw changed(this.#name, 'it was deleted, or moved to another network namespace');
    this.#seen ||= told !== undefined;
    // The table may be older than what we have repaired.
    if (told !== undefined && (thorough || faultsOf(told).length > 0)) this.#repairLink(upkeep);
    const disciplines = links.disciplines(this.#ifindex);
    if (disciplines === this.#disciplines) return;
    this.#disciplines = disciplines;
    if (this.#netlink.isNoqueue(this.#ifindex)) return;
    upkeep.repair(this.#name, 'its queueing discipline was changed', () =>
      this.#netlink.setNoqueue(this.#ifindex),
    );
  }

  #repairLink(upkeep: Surroundings['upkeep']): void {
    const link = this.#netlink.link(this.#ifindex);
    if (link === undefined) return; // its DELLINK is under way
    for (const [fault, change] of faultsOf(link)) {
      upkeep.repair(this.#name, fault, () => this.#netlink.setLink(this.#ifindex, change));
    }
    const { xdpProgram } = link;
    const detail = `XDP program ${xdpProgram} is attached to it: what that takes does not leave the port`;
    upkeep.tell(`${this.#ifindex} xdp`, xdpProgram === 0 ? undefined : changed(this.#name, detail));
  }
}

function faultsOf({ master, txQueueLength, carrier, flags }: Link): [fault: string, change: LinkChange][] {
  const found: [string, LinkChange][] = [];
  if (master !== 0) found.push(['it was put under another device', { master: 0 }]);
  if (txQueueLength !== QUEUE_LENGTH) {
    found.push(['its queue was given another length', { txQueueLength: QUEUE_LENGTH }]);
  }
  if ((flags & IFF.UP) === 0) found.push(['it was set down', { up: true }]);
  else if (!carrier) found.push(['its carrier was taken', { carrier: true }]);
  return found;
}
