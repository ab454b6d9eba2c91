/** A second port beside the one on the card: its NetVSC is one end of a veth pair in the guest, and so is its host. */
import { execFileSync } from 'node:child_process';
import { Traffic } from '../../dist/src/lab/traffic.js';

const FAR = 'far';
const MAC = '02:00:00:00:00:51';
const NETVSC = 'netvsc1';
export const SECOND_ADDRESS = '10.78.0.2';

const PACE = { rate: 200, window: 100, icmpRate: 2, writeOffMillis: 60_000 };

export class Second {
  /** What to name the port. */
  port = { netvsc: NETVSC, force: true };
  #traffic;

  constructor() {
    const commands = `
      ip netns add ${FAR}
      ip link add ${NETVSC} address ${MAC} type veth peer name far0 netns ${FAR}
      ip -n ${FAR} addr add 10.78.0.1/24 dev far0
      ip -n ${FAR} link set far0 up
      ip -n ${FAR} neigh replace ${SECOND_ADDRESS} lladdr ${MAC} dev far0 nud permanent
      ip link set ${NETVSC} up`;
    execFileSync('bash', ['-ec', commands]);
  }

  async drive() {
    this.#traffic = await Traffic.start({ outside: FAR }, { guestAddress: SECOND_ADDRESS }, PACE);
  }

  /** Ends it. Returns what was wrong: nothing is done to this port, so nothing may happen to its packets. */
  async stop() {
    const { packets, icmp } = await this.#traffic.stop({ settleMillis: 5_000 });
    return [packets, icmp].flatMap(({ received, lost, duplicated, reordered }) => {
      if (received > 0 && lost + duplicated + reordered === 0) return [];
      return [
        `the second port: ${received} back, ${lost} lost, ${duplicated} doubled, ${reordered} reordered`,
      ];
    });
  }

  /** To be called once the port is closed. */
  remove() {
    execFileSync('ip', ['netns', 'del', FAR]);
  }
}
