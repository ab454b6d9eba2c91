/**
 * Ethernet: where the network header of a frame begins, and which protocol it is. All of Twinpath's parsers use this
 * one, so that a filter, the hash and the segments cannot disagree about a frame.
 *
 * The kernel removes any number of VLAN tags: `__netif_receive_skb_core` (net/core/dev.c) continues with the next tag
 * if the VLAN ID is 0, a priority tag, or belongs to a VLAN device, and VLAN devices may be stacked. It knows two kinds of
 * tag, 802.1Q and 802.1ad (`eth_type_vlan` in include/linux/if_vlan.h), and treats them alike. So this skips any number of
 * both, up to the end of the frame. A parser that stops earlier lets a denied packet through behind one more tag (CERT
 * VU#855201).
 *
 * Other headers in front of IP are not skipped, as in the kernel: the tags of QinQ before 802.1ad (0x9100 to 0x9300),
 * LLC/SNAP after an 802.3 length, and tunnels, which need an endpoint.
 *
 * wasm/include has the same function for C, Rust and AssemblyScript. Any thread; allocates nothing.
 */

/** Not exported: V8 loads and checks an exported or imported value with each use. Hot code elsewhere copies it. */
const VLAN = 0x8100;
const SERVICE_VLAN = 0x88a8;
const HEADER_BYTES = 14;
const TAG_BYTES = 4;

/** IEEE 802 numbers of the EtherType field. */
export const EtherType = { IPV4: 0x0800, ARP: 0x0806, VLAN, IPV6: 0x86dd, SERVICE_VLAN } as const;

/** Bytes of the header that every frame has: destination, source, type. */
export const ETHERNET_BYTES = HEADER_BYTES;

/** Bytes of one VLAN tag: its type, and the VLAN ID with priority. */
export const VLAN_TAG_BYTES = TAG_BYTES;

/** A smaller value of the type field is a length (IEEE 802.3), and LLC follows. */
export const LOWEST_TYPE = 0x600;

/**
 * Distance from the frame's first byte to its network header. The EtherType is in the two bytes before. If the frame ends
 * inside a tag, the type is that of a tag; the kernel drops such frames.
 *
 * Returning distance and type in one number would save a load, but is slower: for V8 the distance of an untagged frame is
 * a constant here, and the code after it need not wait until the type is loaded.
 *
 * @param start of the frame in `view`
 * @param bytes of the frame, at least `ETHERNET_BYTES`
 */
export function networkOffset(view: DataView, start: number, bytes: number): number {
  const type = view.getUint16(start + HEADER_BYTES - 2);
  return type === VLAN || type === SERVICE_VLAN ? behindTags(view, start, bytes) : HEADER_BYTES;
}

/** A separate function, so that V8 can inline the short path of untagged frames. */
function behindTags(view: DataView, start: number, bytes: number): number {
  let l3 = HEADER_BYTES;
  while (isTag(view.getUint16(start + l3 - 2)) && l3 + TAG_BYTES <= bytes) l3 += TAG_BYTES;
  return l3;
}

/** Whether this is the type of a VLAN tag. The type before `networkOffset` is one only if the tag is cut off. */
export function isTag(type: number): boolean {
  return type === VLAN || type === SERVICE_VLAN;
}

/** Whether this is the type of a QinQ tag from before 802.1ad, which Linux does not remove. */
export function isPreStandardTag(type: number): boolean {
  return type === 0x9100 || type === 0x9200 || type === 0x9300;
}
