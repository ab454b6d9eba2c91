/** Sends every packet back to the machine it came from. */
import { TX } from 'twinpath/handler';

/** @type {import('twinpath/handler').Handler} */
export default function reflect(burst) {
  for (let i = 0; i < burst.length; i++) {
    const packet = burst.packet(i);
    // A multicast or broadcast address must not become a source address. The verdict stays DROP, the default.
    if (packet.isGroup) continue;
    packet.swapMacs(); // a switch delivers a packet by its destination address
    burst.verdict[i] = TX;
  }
}
