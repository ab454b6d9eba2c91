/**
 * A bulk stream of the machine's own, with IPv6 extension headers in every packet, through a port in inline mode: the
 * kernel leaves it in large segments, and the port must neither lose them nor send what the other end refuses.
 */
import { createServer, type Socket } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { check, Errno } from '../../src/errors.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { switchOffloadsOff } from '../../src/lab/devices.ts';
import { ip, sysctl } from '../../src/lab/namespaces.ts';
import { buildLab, type Lab, Scene, until } from '../support/harness.ts';
import { badChecksums } from '../support/stations.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
/** include/uapi/linux/{socket,in6}.h */
const [AF_INET6, IPPROTO_IPV6, IPV6_HOPOPTS, IPV6_DSTOPTS] = [10, 41, 54, 59];
const STREAM_NONBLOCK = 1 | 0o4000;
const EINPROGRESS = -115;
const PORT = 9000;
const BYTES = 2 << 20;
const CHUNK = 1 << 16;

const shim = loadShim();

/** IPv6 addresses at both ends of a lab, and how they reach each other. */
function addIpv6(lab: Lab): void {
  for (const [namespace, device, own, other, mac] of [
    [lab.guest, 'eth0', 'fd77::2', 'fd77::1', '02:15:5d:77:00:01'],
    [lab.outside, 'u0', 'fd77::1', 'fd77::2', lab.nic.mac],
  ] as const) {
    sysctl(shim, namespace, `ipv6/conf/${device}/disable_ipv6`, '0');
    ip(
      [
        `addr add ${own}/64 dev ${device} nodad`,
        `neigh replace ${other} lladdr ${mac} dev ${device} nud permanent`,
      ],
      namespace,
    );
  }
}

/** What a server at the outside receives. */
async function serve(lab: Lab): Promise<{ connections: number; bytes: number; wrong: number }> {
  const got = { connections: 0, bytes: 0, wrong: 0 };
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    got.connections++;
    socket.on('data', (data) => {
      for (const byte of data) if (byte !== (got.bytes++ * 7) % 251) got.wrong++;
    });
  });
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  inNamespace(shim, lab.outside, () => void server.listen(PORT));
  await until('a server', () => server.listening);
  return got;
}

/** A socket of the guest whose packets have these extension headers, padding each. */
function connect(lab: Lab, options: readonly number[]): number {
  const fd = inNamespace(shim, lab.guest, () => check(shim.socket(AF_INET6, STREAM_NONBLOCK, 0), 'socket'));
  onTestFinished(() => void shim.close(fd));
  const padding = Uint8Array.from([0, 0, 1, 4, 0, 0, 0, 0]);
  for (const option of options) {
    check(shim.setsockopt(fd, IPPROTO_IPV6, option, padding, padding.length), 'setsockopt');
  }
  const name = new DataView(new ArrayBuffer(28)); // struct sockaddr_in6
  name.setUint16(0, AF_INET6, true);
  name.setUint16(2, PORT);
  name.setUint16(8, 0xfd77);
  name.setUint16(22, 1);
  const result = shim.connect(fd, name, 28);
  if (result !== EINPROGRESS) check(result, 'connect');
  return fd;
}

it.each([
  { names: 'hop-by-hop options', options: [IPV6_HOPOPTS] },
  { names: 'destination options', options: [IPV6_DSTOPTS] },
  { names: 'both', options: [IPV6_HOPOPTS, IPV6_DSTOPTS] },
])('$names in every packet of a stream cost no large segment, cut or uncut', async ({ options }) => {
  const lab = await buildLab({ queues: 1 });
  addIpv6(lab);
  const got = await serve(lab);
  const fd = connect(lab, options);
  await until('a connection', () => got.connections === 1);
  const scene = await Scene.openIn(lab, { handler: HOST, host: 'inline' });
  const { port } = scene;
  let sent = 0;
  const chunk = new Uint8Array(CHUNK);
  const send = async (bytes: number): Promise<void> => {
    const end = sent + bytes;
    await until(`${end} bytes sent`, () => {
      for (;;) {
        const count = Math.min(CHUNK, end - sent);
        if (count === 0) return true;
        for (let i = 0; i < count; i++) chunk[i] = ((sent + i) * 7) % 251;
        const went = shim.send(fd, chunk, count, 0);
        if (went === Errno.EAGAIN || went === Errno.ENOTCONN) return false;
        sent += check(went, 'send');
      }
    });
    await until(`${end} bytes received`, () => got.bytes === end);
  };
  const cut = (): number => port.stats().queues[0]!.segments;

  await send(BYTES);
  await scene.plug();
  await send(BYTES);
  const { synthetic, vf } = port.stats().paths;
  expect(Math.min(synthetic.txSegments, vf.txSegments)).toBeGreaterThan(0);
  const before = cut();
  inNamespace(shim, lab.guest, () => switchOffloadsOff(shim, lab.nic.vf!));
  await send(BYTES);
  expect(cut()).toBeGreaterThan(before);

  expect(got.wrong).toBe(0);
  expect(port.stats().dropped.uncut).toBe(0);
  expect(port.stats().paths.host.rxErrors).toBe(0);
  for (const namespace of [lab.guest, lab.outside]) expect(badChecksums(namespace)).toBe(0);
  await scene.finish();
});
