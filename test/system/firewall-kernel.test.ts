/**
 * The kernel is the model of the firewall: whatever form of a datagram it delivers to a socket of a denied port, the
 * firewall drops. Packets of all forms are sent from a packet socket over a veth pair to a plain UDP socket.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { check } from '../../src/errors.ts';
import { DROP } from '../../src/handler/handler.ts';
import { create } from '../../src/handlers/firewall.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { cleanUpStaleLabs, deleteNamespaces, freeLabName, ip } from '../../src/lab/namespaces.ts';
import {
  be16,
  ethernet,
  handled,
  ipv4,
  ipv6,
  naiveChecksum,
  OUR_IP6,
  OUR_MAC,
  PEER_IP6,
  PEER_MAC,
  udp,
} from '../support/frames.ts';
import { until } from '../support/harness.ts';
import { privileged } from '../support/requirements.ts';

const AF_INET6 = 10;
const AF_PACKET = 17;
const SOCK_DGRAM_NONBLOCK = 2 | 0o4000 | 0o2000000;
const SOCK_RAW_NONBLOCK = 3 | 0o4000 | 0o2000000;
const SIOCGIFINDEX = 0x8933;
const DONT_WAIT = 0x40;
const PORT = 2222;
/** Payload bytes: the number of the form, and enough to be cut into fragments. */
const PAYLOAD = 24;

type Bytes = readonly number[];
/** Frames of one datagram that carries this payload. */
type Form = (payload: number[]) => Bytes[];

const datagram4 = (payload: number[]) => udp(payload, { to: PORT });
function datagram6(payload: number[]): number[] {
  const bytes = udp(payload, { to: PORT, bare: true });
  const pseudo = [...PEER_IP6, ...OUR_IP6, 0, 0, ...be16(bytes.length), 0, 0, 0, 17];
  bytes.splice(6, 2, ...be16(naiveChecksum([...pseudo, ...bytes]) || 0xffff));
  return bytes;
}
const four = (payload: number[], fields: object = {}) =>
  ipv4(datagram4(payload), { protocol: 17, ...fields });
const six = (chain: number[], first: number, payload: number[]) =>
  ethernet(ipv6([...chain, ...datagram6(payload)], { next: first }), { type: 0x86dd });

const tags = (count: number, ...kinds: [type: number, tci: number][]) =>
  Array.from({ length: count }, (_, i) => kinds[i % kinds.length]!).flatMap(([type, tci]) => [
    ...be16(type),
    ...be16(tci),
  ]);
const options = (next: number) => [next, 0, 1, 4, 0, 0, 0, 0];
const routing = (next: number, kind: number) => [next, 0, kind, 0, 0, 0, 0, 0];
const fragment = (next: number, place: number, id: number) => [next, 0, ...be16(place), 0, 0, 0, id];
const times = (count: number, next: number) =>
  Array.from({ length: count }, (_, i) => options(i === count - 1 ? next : 60)).flat();
const snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
const behind = (head: number[], payload: number[], outer: number[] = []) =>
  ethernet([...head, ...four(payload)], { tags: outer, type: head.length + four(payload).length });
const parts4 = (payload: number[], cut: number, first = 0) =>
  [
    [first, cut, 0x2000],
    [cut, 99, 0],
  ].map(([from, to, more]) =>
    ethernet(ipv4(datagram4(payload).slice(from, to), { protocol: 17, fragment: more! | (from! / 8) })),
  );
const parts6 = (payload: number[], next: [number, number], id: number, head: number[] = []) => {
  const whole = [...head, ...datagram6(payload)];
  return [
    [...fragment(next[0], 1, id), ...whole.slice(0, 16)],
    [...fragment(next[1], 16, id), ...whole.slice(16)],
  ].map((part) => ethernet(ipv6(part, { next: 44 }), { type: 0x86dd }));
};

/** Whether this kernel is known to deliver it; undefined where that is its own affair. */
const FORMS: readonly [name: string, delivered: boolean | undefined, form: Form][] = [
  ['as it is', true, (p) => [ethernet(four(p))]],
  ...[1, 2, 3, 4, 20, 300].map((count): [string, boolean, Form] => [
    `behind ${count} tags of VLAN 0`,
    true,
    (p) => [ethernet(four(p), { tags: tags(count, [0x8100, 0]) })],
  ]),
  [
    'behind tags of both kinds, with priorities',
    true,
    (p) => [ethernet(four(p), { tags: tags(7, [0x88a8, 0], [0x8100, 0xe000], [0x8100, 0x1000]) })],
  ],
  [
    'in IPv6 behind five tags',
    true,
    (p) => [ethernet(ipv6(datagram6(p)), { type: 0x86dd, tags: tags(5, [0x8100, 0], [0x88a8, 0]) })],
  ],
  ['in a VLAN that it does not have', undefined, (p) => [ethernet(four(p), { tags: tags(1, [0x8100, 5]) })]],
  ...[0x9100, 0x9200, 0x9300].map((kind): [string, undefined, Form] => [
    `behind a tag of type 0x${kind.toString(16)}`,
    undefined,
    (p) => [ethernet(four(p), { tags: tags(1, [kind, 0]) })],
  ]),
  ['in SNAP', undefined, (p) => [behind(snap, p)]],
  ['in SNAP behind a tag', undefined, (p) => [behind(snap, p, tags(1, [0x8100, 0]))]],
  ['at the LLC address of IP', undefined, (p) => [behind([6, 6, 3], p)]],
  ['with IPv4 options', true, (p) => [ethernet(four(p, { options: [1, 1, 1, 1] }))]],
  ['with the reserved flag of IPv4', true, (p) => [ethernet(four(p, { fragment: 0x8000 }))]],
  ['with padding', true, (p) => [[...ethernet(four(p)), ...Array(30).fill(0)]]],
  ['cut off', undefined, (p) => [ethernet(four(p)).slice(0, -1)]],
  ['in IPv6', true, (p) => [six([], 17, p)]],
  ...[1, 2, 8, 9, 30].map((count): [string, boolean, Form] => [
    `behind ${count} destination options headers`,
    true,
    (p) => [six(times(count, 17), 60, p)],
  ]),
  ['behind hop-by-hop options', true, (p) => [six(options(17), 0, p)]],
  ['behind hop-by-hop and destination options', true, (p) => [six([...options(60), ...options(17)], 0, p)]],
  ...[0, 2, 3, 4, 9, 253].map((kind): [string, undefined, Form] => [
    `behind a routing header of type ${kind}`,
    undefined,
    (p) => [six(routing(17, kind), 43, p)],
  ]),
  ...[51, 135, 139, 140, 253].map((next): [string, undefined, Form] => [
    `behind the extension header ${next}`,
    undefined,
    (p) => [six([17, next === 51 ? 1 : 0, 0, 0, 0, 0, 0, 0, ...(next === 51 ? [0, 0, 0, 0] : [])], next, p)],
  ]),
  [
    'behind the authentication header of IPv4',
    undefined,
    (p) => [ethernet(ipv4([17, 1, ...Array(10).fill(0), ...datagram4(p)], { protocol: 51 }))],
  ],
  ['as an atomic fragment', true, (p) => [six(fragment(17, 0, 1), 44, p)]],
  ['as an atomic fragment with reserved bits', true, (p) => [six(fragment(17, 6, 2), 44, p)]],
  ['in two fragments of IPv4', true, (p) => parts4(p, 16)],
  ['in two fragments of IPv4, with the UDP header alone in the first', true, (p) => parts4(p, 8)],
  ['in two fragments of IPv6', true, (p) => parts6(p, [17, 17], 3)],
  ['in two fragments of IPv6, the later one of which says it is ICMP', true, (p) => parts6(p, [17, 58], 4)],
  ['in two fragments of IPv6, the later one first', true, (p) => parts6(p, [17, 58], 5).reverse()],
  [
    'in two fragments of IPv6, the first of which hides UDP behind options',
    undefined,
    (p) => parts6(p, [60, 60], 6, options(17)),
  ],
  [
    'in a fragment inside a fragment',
    undefined,
    (p) => [six([...fragment(44, 0, 7), ...fragment(17, 0, 8)], 44, p)],
  ],
];

describe('the firewall', () => {
  const shim = loadShim();
  const name = freeLabName();
  const [outside, guest] = [`${name}-out`, `${name}-guest`];
  let sender = -1;
  let receiver = -1;

  beforeAll(
    privileged(() => {
      cleanUpStaleLabs();
      ip([`netns add ${outside}`, `netns add ${guest}`]);
      ip([
        `link add tp-a address ${mac(PEER_MAC)} netns ${outside} type veth peer name tp-b address ${mac(OUR_MAC)} netns ${guest}`,
      ]);
      ip(['link set tp-a up'], outside);
      ip(
        ['addr add 10.77.0.2/24 dev tp-b', 'addr add 2001:db8::2/64 dev tp-b nodad', 'link set tp-b up'],
        guest,
      );
      receiver = inNamespace(shim, guest, () =>
        check(shim.socket(AF_INET6, SOCK_DGRAM_NONBLOCK, 0), 'socket'),
      );
      const any = Uint8Array.of(AF_INET6, 0, ...be16(PORT), ...Array(24).fill(0));
      check(shim.bind(receiver, any, any.length), 'bind');
      sender = inNamespace(shim, outside, () =>
        check(shim.socket(AF_PACKET, SOCK_RAW_NONBLOCK, 0), 'socket'),
      );
      const request = Buffer.alloc(40);
      request.write('tp-a');
      check(shim.ioctl(sender, SIOCGIFINDEX, request), 'SIOCGIFINDEX');
      const device = Buffer.alloc(20);
      device.writeUInt16LE(AF_PACKET);
      request.copy(device, 4, 16, 20);
      check(shim.bind(sender, device, device.length), 'bind');
    }),
  );
  afterAll(
    privileged(() => {
      for (const fd of [sender, receiver]) if (fd >= 0) shim.close(fd);
      deleteNamespaces([outside, guest]);
    }),
  );

  const mac = (bytes: readonly number[]) => bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  const numbered = (i: number) => [...be16(i), ...Array(PAYLOAD - 2).fill(0)];
  const send = (frames: readonly Bytes[]) => {
    for (const frame of frames) check(shim.send(sender, Uint8Array.from(frame), frame.length, 0), 'send');
  };

  it('drops each form of a datagram that the kernel delivers to a socket of the denied port', async () => {
    const arrived = new Set<number>();
    const room = Buffer.alloc(100);
    const hear = () => {
      while (shim.recv(receiver, room, room.length, DONT_WAIT) > 0) arrived.add(room.readUInt16BE(0));
      return arrived;
    };
    const plain = FORMS[0]![2];
    let heartbeat = 1000;
    /** What was sent before it has arrived, or never will: the pair keeps the order. */
    const passed = async () => {
      const first = ++heartbeat;
      await until('a datagram through the pair', () => {
        send(plain(numbered(++heartbeat)));
        return [...hear()].some((number) => number > first);
      });
    };
    await passed();
    FORMS.forEach(([, , form], i) => {
      send(form(numbered(i)));
    });
    await passed();

    const firewall = create({ deny: `udp/${PORT}` });
    FORMS.forEach(([what, delivered, form], i) => {
      if (delivered !== undefined) expect([what, arrived.has(i)]).toEqual([what, delivered]);
      const verdicts = form(numbered(i)).map((frame) => handled(firewall, frame)[0]);
      // Of fragments one is enough: what is not whole does not arrive.
      if (arrived.has(i)) expect([what, verdicts.includes(DROP)]).toEqual([what, true]);
    });
    expect(arrived.size).toBeGreaterThan(25);
  });
});
