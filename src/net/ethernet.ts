/**
 * Ethernet: where the network layer of a frame begins, and which protocol it is. Everything in Twinpath that looks into
 * a packet asks here, so that a filter, the hash and the segments cannot disagree about one frame.
 *
 * The kernel takes any number of VLAN tags off: `__netif_receive_skb_core` (net/core/dev.c) goes on with the next tag
 * for as long as the VLAN ID is 0, a priority tag, or one of a VLAN device, which may be stacked. It knows two kinds,
 * 802.1Q and 802.1ad (`eth_type_vlan` in include/linux/if_vlan.h), and tells neither from the other. So any number of
 * both is skipped here, up to the end of the frame: a parser that stops earlier lets a denied packet through behind one
 * tag more (CERT VU#855201).
 *
 * Other headers that stand in front of IP are not skipped, because the kernel does not: the tags of QinQ before it was
 * a standard (0x9100 to 0x9300), LLC/SNAP behind an 802.3 length, and tunnels, which need an endpoint.
 *
 * wasm/include has the same function for C, Rust and AssemblyScript. Any thread; allocates nothing.
 */

/** Not exported: V8 loads and checks an export with every use, here too. What is hot elsewhere copies it. */
const VLAN = 0x8100;
const SERVICE_VLAN = 0x88a8;
const HEADER_BYTES = 14;
const TAG_BYTES = 4;

/** IEEE 802 numbers of the EtherType field. */
export const EtherType = { IPV4: 0x0800, ARP: 0x0806, VLAN, IPV6: 0x86dd, SERVICE_VLAN } as const;

/** Destination and source address and the type: what every frame has. */
export const ETHERNET_BYTES = HEADER_BYTES;

/** One VLAN tag: its type, and the VLAN ID with priority. */
export const VLAN_TAG_BYTES = TAG_BYTES;

/** Smaller values of the type field are lengths (IEEE 802.3), and LLC follows. */
export const LOWEST_TYPE = 0x600;

/**
 * Distance from the frame's first byte to its network header. The EtherType lies in the two bytes before that; it is
 * still that of a tag where the frame ends inside one, which the kernel drops.
 *
 * Both in one number would be one load less and slower: for V8 the distance of an untagged frame is a constant here, and
 * nothing that follows waits for the type to be loaded.
 *
 * @param start of the frame in `view`
 * @param bytes of the frame, at least `ETHERNET_BYTES`
 */
export function networkOffset(view: DataView, start: number, bytes: number): number {
  const type = view.getUint16(start + HEADER_BYTES - 2);
  return type === VLAN || type === SERVICE_VLAN ? behindTags(view, start, bytes) : HEADER_BYTES;
}

/** Apart, so that what most frames need stays short enough to be compiled into its callers. */
function behindTags(view: DataView, start: number, bytes: number): number {
  let l3 = HEADER_BYTES;
  while (isTag(view.getUint16(start + l3 - 2)) && l3 + TAG_BYTES <= bytes) l3 += TAG_BYTES;
  return l3;
}

/** Whether this is the type of a VLAN tag: behind `networkOffset`, of one that is cut off. */
export function isTag(type: number): boolean {
  return type === VLAN || type === SERVICE_VLAN;
}

/** Whether this is the type of a tag that was in use for QinQ before 802.1ad. Linux does not take it off. */
export function isPreStandardTag(type: number): boolean {
  return type === 0x9100 || type === 0x9200 || type === 0x9300;
}
