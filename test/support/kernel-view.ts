/** What the machine's own stack believes about its network: what a port must leave as it is. */
import { execFileSync } from 'node:child_process';

/** Devices that come and go beside the NetVSC: ours, and VFs. */
const OTHERS = /^(twin|tlock|vf)/;

type Entry = Readonly<Record<string, unknown>>;

/** Addresses, routes, rules, neighbours and qdiscs, of all devices that stay. Comparable. */
export function kernelView(namespace: string): Record<string, Entry[]> {
  const ask = (tool: 'ip' | 'tc', ...words: string[]): Entry[] => {
    const text = execFileSync(tool, ['-n', namespace, '-j', ...words], { encoding: 'utf8' });
    const entries: Entry[] = text.trim() === '' ? [] : JSON.parse(text);
    return entries.filter(({ ifname, dev }) => !OTHERS.test(String(ifname ?? dev ?? '')));
  };
  return {
    addresses: ask('ip', 'addr'),
    routes: ask('ip', 'route', 'show', 'table', 'all'),
    rules: ask('ip', 'rule'),
    // Whether an entry was confirmed lately is for the kernel to know.
    neighbours: ask('ip', 'neigh').map(({ dst, dev, lladdr }) => ({ dst, dev, lladdr })),
    qdiscs: ask('tc', 'qdisc'),
  };
}
