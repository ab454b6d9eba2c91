/**
 * What numbered traffic needs of a network, so that one generator drives UDP through the kernel, ICMP,
 * or a network in memory. One thread; nothing waits but `wait`; counts, never errors, for what traffic does.
 */
export interface Wire {
  /**
   * Sends `count` packets of a flow, numbered from `first`.
   *
   * @returns how many went, from the first on; the rest is to be offered again
   */
  send(flow: number, first: number, count: number): number;
  /** Hands over everything that has come back, and returns how many packets that were. */
  receive(onPacket: (flow: number, sequence: number) => void): number;
  /** Returns when something may have come back, at the latest after so many milliseconds. */
  wait(millis: number): void;
  close(): void;
}
