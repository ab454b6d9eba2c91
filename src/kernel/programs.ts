/**
 * The BPF programs that Twinpath loads, each with the reason why it is enough.
 *
 * Pure functions: they return code for `Bpf.load` and touch nothing. Context offsets are those of
 * `struct xdp_md` and `struct __sk_buff` in include/uapi/linux/bpf.h.
 */
import { Assembler } from './assembler.ts';

/** Helper numbers, include/uapi/linux/bpf.h. */
const REDIRECT = 23;
const REDIRECT_MAP = 51;

const XDP_PASS = 2;
/** `struct xdp_md` */
const RX_QUEUE_INDEX = 16;
/** `struct __sk_buff` */
const QUEUE_MAPPING = 12;
const HASH = 68;

/**
 * What `skb->queue_mapping` holds for packets that a device has received. Drivers of hardware, hv_netvsc
 * and tap among them, record the RX queue plus one (skb_record_rx_queue); 0 is "not recorded". veth
 * leaves what the sender put there, the plain number of its TX queue, which is the peer's RX queue too
 * (veth_xmit since Linux 5.17, commit 710ad98c363a). The two cannot be told apart from the value.
 */
export type QueueMapping = 'recorded' | 'raw';

/**
 * For XDP: each packet goes to the AF_XDP socket in the XSKMAP slot of its RX queue, and to the
 * kernel where the slot is empty. Works from Linux 5.3 on (the fallback action in the flags).
 *
 * NB: the fallback does not hold for a slot whose socket is dead; such packets are dropped.
 */
export function xdpRedirect(mapFd: number): Uint8Array {
  return new Assembler()
    .loadW(2, 1, RX_QUEUE_INDEX)
    .loadMapFd(1, mapFd)
    .movImm(3, XDP_PASS)
    .call(REDIRECT_MAP)
    .exit()
    .assemble();
}

/**
 * For tc: every packet leaves by that device's transmit side, keeping `queue_mapping`, from which the
 * device picks its TX queue. So a frame written to queue q of a tap leaves a veth or a NetVSC by TX
 * queue q, if it has that many (skb_tx_hash, netvsc_pick_tx). A device that is down drops them.
 */
export function tcRedirect(ifindex: number): Uint8Array {
  return new Assembler().movImm(1, ifindex).movImm(2, 0).call(REDIRECT).exit().assemble();
}

/**
 * For TUNSETSTEERINGEBPF: a packet that the NetVSC received on its queue q goes to queue q of the tap,
 * modulo the tap's queues. So whoever spread the flows over the NetVSC's queues (the host's RSS, in a lab
 * the sender) decides here too. `mapping` is 'raw' when the NetVSC is a veth, or a bridge over veths.
 *
 * Packets without a recorded queue go by the hash that came with them, all to one queue if none did.
 * Without this program the tap would spread flows by a hash of its own (tun_automq_select_queue).
 * The tap holds the program: its descriptor may be closed after the ioctl.
 */
export function tapSteering(mapping: QueueMapping = 'recorded'): Uint8Array {
  const program = new Assembler().loadW(0, 1, QUEUE_MAPPING);
  if (mapping === 'raw') return program.exit().assemble();
  return program
    .jeqImm(0, 0, 'unrecorded')
    .aluImm('sub', 0, 1)
    .exit()
    .label('unrecorded')
    .loadW(0, 1, HASH)
    .exit()
    .assemble();
}
