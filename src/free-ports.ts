/** The ports of `openPorts({ ports: 'all' })`: on every NetVSC that the machine does not use. Any thread. */
import { freePairs } from './coordinator/discovery.ts';
import { takeSnapshot } from './coordinator/inventory.ts';
import { inNamespace } from './kernel/namespace.ts';
import { RtNetlink } from './kernel/rtnetlink.ts';
import { loadShim } from './kernel/shim.ts';
import { Sysfs } from './kernel/sysfs.ts';
import type { OpenPortsOptions } from './options.ts';
import { MAX_PORTS, validate } from './settings.ts';
import { invalid, onlyKnown, plainObject } from './validation.ts';

/**
 * The options with a list of ports, in the order of their ifindexes. The coordinator looks again whether the machine uses one.
 *
 * @throws ERR_NO_NETVSC, ERR_DEVICE_IN_USE, which say what was looked at; ERR_OPTION_INVALID, ERR_KERNEL; as `inNamespace`
 */
export function onFreePairs(options: OpenPortsOptions): OpenPortsOptions {
  const { each = {}, ...rest } = options ?? {};
  onlyKnown(plainObject('each', each), ['vf', 'configuration'], 'Known are vf and configuration.');
  if (each.vf !== undefined && each.vf !== false)
    invalid('each', 'its vf may be false: no VF is that of all ports');
  const { netns, network, ignore } = validate({ ...rest, ports: [each] }); // all but the ports
  if (network !== 'kernel')
    invalid('ports', `with network '${network}' it must be a list: there are no devices to find`);
  const shim = loadShim();
  const look = (): string[] => {
    const netlink = RtNetlink.open(shim);
    try {
      return freePairs(takeSnapshot(netlink, new Sysfs()), ignore).map(({ netvsc }) => netvsc.name);
    } finally {
      netlink.close();
    }
  };
  const names = netns === undefined ? look() : inNamespace(shim, netns, look);
  if (names.length > MAX_PORTS) {
    const hint = 'Name some of them in ignore (--ignore NAME).';
    invalid('ports', `${names.join(', ')} are ${names.length} devices; ${MAX_PORTS} are the most`, hint);
  }
  return { ...rest, ports: names.map((netvsc) => ({ ...each, netvsc })) };
}
