/** Names, MAC addresses and MTUs of a port's devices that have changed since the port was opened. Coordinator thread only. */
import { TwinpathError } from '../errors.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import { Path, type PathId } from '../memory/layout.ts';
import { largerFrame, maxMtu } from '../net/packet-size.ts';
import type { LinkChange } from './network.ts';

export class LinkChanges {
  readonly #frameSize: number;
  readonly #vfFrame: () => number | undefined;
  readonly #last = new Map<PathId, Link>();

  /** @param vfFrame what of a frame the VF's path uses; undefined without a VF */
  constructor(frameSize: number, vfFrame: () => number | undefined) {
    this.#frameSize = frameSize;
    this.#vfFrame = vfFrame;
  }

  /** The path's device is opened in this state. */
  opened(path: PathId, link: Link): void {
    this.#last.set(path, link);
  }

  /** What has changed about the path's device since the last call; nothing if it has replaced another device. */
  since(path: PathId, link: Link): LinkChange[] {
    const before = this.#last.get(path);
    this.#last.set(path, link);
    if (before?.ifindex !== link.ifindex) return [];
    const found: LinkChange[] = [];
    const note = (
      what: string,
      was: string | number,
      is: string | number,
      rest: Partial<LinkChange> = {},
    ): void => {
      if (was === is) return;
      found.push({ path, device: link.name, detail: `its ${what} was ${was} and is ${is}`, ...rest });
    };
    note('name', before.name, link.name);
    note('MAC address', before.address, link.address, { value: { mac: link.address } });
    note('MTU', before.mtu, link.mtu, { value: { mtu: link.mtu }, error: this.#tooLong(path, link) });
    return found;
  }

  /** The MTU may be raised while the port is open: the kernel does not ask, and truncates or drops what does not fit. */
  #tooLong(path: PathId, { name, mtu }: Link): TwinpathError | undefined {
    const frameSize = (path === Path.VF ? this.#vfFrame() : undefined) ?? this.#frameSize;
    const most = maxMtu(frameSize);
    if (mtu <= most) return undefined;
    const longer =
      path === Path.VF
        ? 'longer packets are dropped (paths.vf.kernel.rxDropped)'
        : 'longer packets of TCP are cut, others are dropped (paths.synthetic.rxTooLong)';
    return new TwinpathError('ERR_DEVICE_SETTINGS', {
      device: name,
      detail: `its MTU is ${mtu} now and a frame of ${frameSize} bytes serves one up to ${most}: ${longer}`,
      hint: largerFrame(mtu, this.#frameSize),
    });
  }
}
