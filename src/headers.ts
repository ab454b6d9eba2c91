/** Headers for handlers that make or change packets: `import { writeIpv4 } from 'twinpath/headers'`. */

export { adjust16, adjust32, adjustUdp16, adjustUdp32 } from './headers/adjust.ts';
export { ethernetBytes, writeEthernet, writeVlanTag } from './headers/ethernet.ts';
export { writeIcmp, writeIcmpChecksum } from './headers/icmp.ts';
export {
  IPV4_BYTES,
  IPV6_BYTES,
  type Ipv4Fields,
  type Ipv6Fields,
  writeIpv4,
  writeIpv6,
} from './headers/ip.ts';
export {
  TCP_BYTES,
  TcpFlag,
  UDP_BYTES,
  writeTcp,
  writeTcpChecksum,
  writeUdp,
  writeUdpChecksum,
} from './headers/transport.ts';
export { VXLAN_BYTES, VXLAN_PORT, vxlanVni, writeVxlan } from './headers/vxlan.ts';
export { ipv4Number, ipv6Bytes } from './net/addresses.ts';
