/** How the device in front of the machines, a router or a gateway load balancer, chooses a machine for each flow. */

/** Chooses for a flow, by its hash. It may remember flows: a flow that has ended is none of its concern. */
export interface Front {
  choose(flow: number, hash: number, machines: readonly number[]): number;
}

/** Equal-cost multipath as the simplest routers have it: the hash modulo the number of machines. */
export const modulo: Front = { choose: (_, hash, machines) => machines[hash % machines.length]! };

/**
 * Resilient or consistent hashing: a flow moves only if its machine goes, or to a machine that comes. Rendezvous hashing
 * (Thaler and Ravishankar, 1998) moves no more flows than it must.
 */
export const consistent: Front = {
  choose(_, hash, machines) {
    let [best, weight] = [-1, -1];
    for (const machine of machines) {
      const score = scramble(hash ^ scramble(machine + 1));
      if (score > weight) [best, weight] = [machine, score];
    }
    return best;
  },
};

/** Remembers the machine of each flow while that machine is there, as a gateway load balancer does. */
export class Remembering implements Front {
  readonly #machines = new Map<number, number>();

  choose(flow: number, hash: number, machines: readonly number[]): number {
    const known = this.#machines.get(flow);
    if (known !== undefined && machines.includes(known)) return known;
    const machine = consistent.choose(flow, hash, machines);
    this.#machines.set(flow, machine);
    return machine;
  }
}

/** 32 well-mixed bits: the finalizer of MurmurHash3. */
export function scramble(value: number): number {
  let bits = value | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
