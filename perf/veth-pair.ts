/**
 * A veth pair in a network namespace of its own, for measuring AF_XDP with nothing else in the way: one queue
 * each way, no addresses, no IPv6. The calling thread is in the namespace from then on.
 */
import { enterNamespace } from '../src/kernel/namespace.ts';
import { type Link, RtNetlink } from '../src/kernel/rtnetlink.ts';
import type { Shim } from '../src/kernel/shim.ts';
import { deleteNamespaces, freeLabName, ip, sysctl } from '../src/lab/namespaces.ts';

const DEVICES = ['va', 'vb'] as const;

export class VethPair {
  /** Name of the namespace, one that a later run cleans up if this one is killed. */
  readonly namespace: string;
  readonly devices = DEVICES;

  private constructor(namespace: string) {
    this.namespace = namespace;
  }

  /** @throws ERR_LAB, ERR_PERMISSION */
  static create(shim: Shim): VethPair {
    const namespace = `${freeLabName()}-host`;
    ip([`netns add ${namespace}`]);
    for (const scope of ['all', 'default']) sysctl(shim, namespace, `ipv6/conf/${scope}/disable_ipv6`, '1');
    const [near, far] = DEVICES.map((name) => `${name} numtxqueues 1 numrxqueues 1`);
    ip(
      [`link add ${near} type veth peer name ${far}`, ...DEVICES.map((name) => `link set ${name} up`)],
      namespace,
    );
    enterNamespace(shim, namespace);
    return new VethPair(namespace);
  }

  /** Both ends as the kernel describes them now. */
  links(shim: Shim): Link[] {
    const netlink = RtNetlink.open(shim);
    const links = DEVICES.map((name) => netlink.link(name)!);
    netlink.close();
    return links;
  }

  /** The devices go first: a namespace with a live socket in it outlives its name. */
  close(): void {
    ip([`link del ${DEVICES[0]}`], this.namespace);
    deleteNamespaces([this.namespace]);
  }
}
