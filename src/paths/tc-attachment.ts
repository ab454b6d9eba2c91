/**
 * A program of ours attached to a tc hook of a device, and its upkeep. tcx-link.ts and tc-filter.ts implement it, and
 * tc-attachments.ts chooses between the two. Coordinator only.
 */
import type { Bpf } from '../kernel/bpf.ts';
import type { RtNetlink } from '../kernel/rtnetlink.ts';
import type { Shim } from '../kernel/shim.ts';
import type { Hook } from '../kernel/traffic-control.ts';
import { changed, type Upkeep } from './upkeep.ts';

/** What attaching a program needs. */
export interface TcContext {
  readonly bpf: Bpf;
  readonly netlink: RtNetlink;
  readonly shim: Shim;
  /** The port's device, for error messages. */
  readonly device: string;
}

export interface TcProgram {
  readonly ifindex: number;
  readonly where: Hook;
  /** Whether a tcx link is placed before those that are there. A filter has its priority instead. */
  readonly first?: boolean;
  /** At most 15 characters. */
  readonly name: string;
  /** The code for a tcx link. */
  readonly link: Uint8Array;
  /**
   * The code for a filter. It differs from `link` where the filter can outlive the tap. A function makes it from the descriptor
   * of a map that has the tap, see `Bpf.presenceMap`.
   */
  readonly filter: Uint8Array | ((tapMap: number) => Uint8Array);
  /** ifindex of the tap it belongs to. */
  readonly tap: number;
}

/** An attachment as data: another coordinator adopts it from this and its program. */
export type AttachmentHolding =
  /** A tcx bpf_link, by its descriptor. */
  | { readonly link: number; readonly programId: number }
  /** A filter of ours, and whether we added clsact for it. */
  | { readonly clsact: boolean; readonly programId: number };

export interface TcAttachment {
  readonly program: TcProgram;
  readonly holding: AttachmentHolding;
  /** How others have altered it; undefined if it stands. Asks the kernel. */
  fault(): string | undefined;
  /**
   * Attaches the program again, whatever its state.
   *
   * @param changed called when the holding has changed, before the old link is closed
   * @throws as `TcAttachments.attach`
   */
  renew(changed: () => void): void;
  /**
   * Puts another program in its place, between two packets.
   *
   * @throws ERR_KERNEL: the program before stays
   */
  replace(program: TcProgram): void;
  /** Names the programs that run before it, for people; '' if none does. */
  before(): string;
  /** May be called twice. */
  detach(): void;
}

/**
 * Repairs an attachment that others have altered, and reports programs that others have placed before it.
 *
 * @param renewed called when its holding has changed
 */
export function tendAttachment(
  attachment: TcAttachment | undefined,
  device: string,
  upkeep: Upkeep,
  renewed: () => void,
): void {
  if (attachment === undefined) return;
  const fault = attachment.fault();
  if (fault !== undefined) upkeep.repair(device, fault, () => attachment.renew(renewed));
  const { where, ifindex } = attachment.program;
  const before = attachment.before();
  const detail = `${before} has come before ours at its ${where}: the port does not get the packets that it takes`;
  upkeep.tell(`${ifindex} ${where}`, before === '' ? undefined : changed(device, detail));
}
