/**
 * The metadata before a packet that a tap brings: memory/metadata.ts has the layout, and kernel/metadata-programs.ts writes it.
 *
 * A tap inserts a VLAN tag that a packet has outside its bytes behind the first 12 bytes of what it brings (tun_put_user in
 * drivers/net/tun.c), which are those of the metadata here. So the program leaves no tag of the packet there: it puts one of its
 * own in front, and the kernel then writes the packet's tag to its bytes.
 *
 * ```
 *   metadata (16)                         packet
 *   metadata (12)  own tag (4)  (4)       packet
 * ```
 */
import { isMark, METADATA_BYTES, METADATA_GAP_BYTES, MetadataField } from '../../memory/metadata.ts';

/** The bytes before the packet of what was read to `at`. Any thread. */
export function prefixBytes(view: DataView, at: number): number {
  const gap = !isMark(view.getUint16(at + MetadataField.MARK, true));
  return gap ? METADATA_BYTES + METADATA_GAP_BYTES : METADATA_BYTES;
}
