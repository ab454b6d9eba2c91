/**
 * Lists of N rules for the frame of peers/xdp-generator.c, as Twinpath and nftables write them.
 *
 * Ten are rules for one port each, which are tried one by one. More are rules for one prefix each: both sides search for the
 * longest or only match among them, Twinpath in a trie, nftables in a set of intervals, as its users write such lists.
 */

/** The frame's source, and its destination port. */
const SOURCE = '10.77.0.1';
const PORT = 4001;

/** From which number on rules are prefixes. */
const MANY = 100;

/** Whether the last rule matches the frame, or none does. */
export type Matching = 'last' | 'none';

const ports = (count: number, matching: Matching): number[] =>
  Array.from({ length: count }, (_, i) => (matching === 'last' && i === count - 1 ? PORT : 5000 + i));

const prefixes = (count: number, matching: Matching): string[] =>
  Array.from({ length: count }, (_, i) =>
    matching === 'last' && i === count - 1
      ? `${SOURCE}/32`
      : `${100 + (i >> 14)}.${(i >> 6) & 255}.${(i & 63) * 4}.0/24`,
  );

/** Rules of a port that drop. */
export const portRules = (count: number, matching: Matching): string[] =>
  count < MANY
    ? ports(count, matching).map((port) => `udp dst port ${port} drop`)
    : prefixes(count, matching).map((prefix) => `src ${prefix} drop`);

/** The same at the ingress of a device, as the input of nft(8). Its table is `perf`, its chain `rules`. */
export function nftRules(device: string, count: number, matching: Matching): string {
  const hook = `type filter hook ingress device "${device}" priority 0;`;
  if (count < MANY) {
    const lines = ports(count, matching).map((port) => `udp dport ${port} counter drop`);
    return `table netdev perf {\nchain rules {\n${hook}\n${lines.join('\n')}\n}\n}\n`;
  }
  const set = `set listed { type ipv4_addr; flags interval; elements = { ${prefixes(count, matching).join(', ')} }; }`;
  return `table netdev perf {\n${set}\nchain rules {\n${hook}\nip saddr @listed counter drop\n}\n}\n`;
}
