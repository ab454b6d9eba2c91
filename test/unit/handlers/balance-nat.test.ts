import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DROP, PASS, TX } from '../../../src/handler/handler.ts';
import { create } from '../../../src/handlers/balance.ts';
import { HandlerTest, type HandlerTestOptions } from '../../../src/testing.ts';
import {
  be16,
  ethernet,
  icmpEcho,
  ipv4,
  naiveChecksum,
  OUR_IP,
  OUR_MAC,
  PEER_MAC,
  udp,
} from '../../support/frames.ts';

const VIP = OUR_IP;
const BACKENDS = [
  [10, 1, 0, 1],
  [10, 1, 0, 2],
  [10, 1, 0, 3],
];
const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];
const OPTIONS = {
  mode: 'nat',
  vip: VIP.join('.'),
  ports: '80',
  backends: BACKENDS.map((one) => `${one.join('.')}:8080`),
};

interface End {
  readonly ip: number[];
  readonly port: number;
}

let now = 1e12;
const seconds = (count: number): void => {
  now += count * 1e9;
};

function opened(options: object = {}, settings: HandlerTestOptions = {}): HandlerTest {
  return HandlerTest.of({ create }, { options: { ...OPTIONS, ...options }, now: () => now, ...settings });
}

function tcp(from: End, to: End, flags: number, data: number[] = [], acknowledges = 2): number[] {
  const segment = [
    ...be16(from.port),
    ...be16(to.port),
    0,
    0,
    0,
    1,
    0,
    0,
    ...be16(acknowledges),
    0x50,
    flags,
    1,
    0,
    0,
    0,
    0,
    0,
    ...data,
  ];
  segment.splice(
    16,
    2,
    ...be16(naiveChecksum([...from.ip, ...to.ip, 0, 6, ...be16(segment.length), ...segment])),
  );
  return ethernet(ipv4(segment, { src: from.ip, dst: to.ip, protocol: 6 }));
}

const datagram = (from: End, to: End, data: number[], bare = false): number[] =>
  ethernet(
    ipv4(udp(data, { src: from.ip, dst: to.ip, from: from.port, to: to.port, bare }), {
      src: from.ip,
      dst: to.ip,
      protocol: 17,
    }),
  );

const client = (n: number): End => ({ ip: [192, 0, (n >> 8) & 255, n & 255], port: 1024 + (n % 60_000) });
const virtual: End = { ip: VIP, port: 80 };

function sent(test: HandlerTest, frame: number[]): number[] {
  const [outcome] = test.run([frame]);
  expect(outcome!.verdict).toBe(TX);
  return [...outcome!.bytes];
}
const verdictOf = (test: HandlerTest, frame: number[]): number => test.run([frame])[0]!.verdict;

/** Where a frame comes from and goes to. */
const endsOf = (frame: number[]): [from: End, to: End] => [
  { ip: frame.slice(26, 30), port: frame[34]! * 256 + frame[35]! },
  { ip: frame.slice(30, 34), port: frame[36]! * 256 + frame[37]! },
];

/** A connection that both ends have confirmed. Returns where the backend sees it. */
function connected(test: HandlerTest, one: End): [source: End, backend: End] {
  const [source, backend] = endsOf(sent(test, tcp(one, virtual, SYN)));
  sent(test, tcp(backend, source, SYN | ACK));
  sent(test, tcp(one, virtual, ACK));
  return [source, backend];
}

describe('balance by NAT', () => {
  it('sends each packet on as the one that the two ends it names would have sent', () => {
    const bytes = fc.array(fc.nat(255), { maxLength: 40 });
    fc.assert(
      fc.property(
        fc.nat(60_000),
        bytes,
        bytes,
        fc.boolean(),
        fc.boolean(),
        (n, question, answer, isTcp, bare) => {
          const test = opened();
          const packet = (from: End, to: End, data: number[], flags: number): number[] =>
            isTcp ? tcp(from, to, flags, data) : datagram(from, to, data, bare);
          const there = sent(test, packet(client(n), virtual, question, SYN));
          const [source, backend] = endsOf(there);
          expect(source.ip).toEqual(VIP);
          expect(BACKENDS).toContainEqual(backend.ip);
          expect(backend.port).toBe(8080);
          // The IPv4 checksum may be either form of 0, so it is compared by its sum.
          const macs = [...PEER_MAC, ...OUR_MAC];
          const right = [...macs, ...packet(source, backend, question, SYN).slice(12)];
          expect(naiveChecksum(there.slice(14, 34))).toBe(0);
          expect(there.toSpliced(24, 2)).toEqual(right.toSpliced(24, 2));
          const back = sent(test, packet(backend, source, answer, SYN | ACK));
          const rightBack = [...macs, ...packet(virtual, client(n), answer, SYN | ACK).slice(12)];
          expect(naiveChecksum(back.slice(14, 34))).toBe(0);
          expect(back.toSpliced(24, 2)).toEqual(rightBack.toSpliced(24, 2));
        },
      ),
    );
  });

  it('keeps connections apart, spreads them over all backends, and gives no source port twice', () => {
    const test = opened();
    const seen = new Map<number, number>();
    const shares = new Map<string, number>();
    for (let n = 0; n < 3000; n++) {
      const [source, backend] = connected(test, client(n));
      expect(seen.has(source.port)).toBe(false);
      seen.set(source.port, n);
      shares.set(backend.ip.join(), (shares.get(backend.ip.join()) ?? 0) + 1);
    }
    expect(Math.min(...shares.values())).toBeGreaterThan(800);
    for (const [port, n] of seen) {
      const source = { ip: VIP, port };
      const backend = endsOf(sent(test, tcp(client(n), virtual, ACK)))[1];
      expect(endsOf(sent(test, tcp(backend, source, ACK)))).toEqual([virtual, client(n)]);
    }
  });

  it('keeps a connection when its worker is replaced, and when the list of backends is another', () => {
    const test = opened();
    const before = Array.from({ length: 50 }, (_, n) => connected(test, client(n)));
    const options = { backends: '10.1.0.9:8080' };
    const next = opened(options, { sharedWith: test });
    for (const [n, [source, backend]] of before.entries()) {
      expect(endsOf(sent(next, tcp(client(n), virtual, ACK)))).toEqual([source, backend]);
      expect(endsOf(sent(next, tcp(backend, source, ACK)))).toEqual([virtual, client(n)]);
    }
    expect(connected(next, client(99))[1].ip).toEqual([10, 1, 0, 9]);
  });

  it('has the same connections in all workers, whichever packet reaches which', () => {
    const first = opened({}, { queue: 0, queues: 3 });
    const workers = [first, ...[1, 2].map((queue) => opened({}, { queue, queues: 3, sharedWith: first }))];
    const ports = new Set<number>();
    for (let n = 0; n < 300; n++) {
      const [source, backend] = connected(workers[n % 3]!, client(n));
      ports.add(source.port);
      for (const worker of workers) {
        expect(endsOf(sent(worker, tcp(backend, source, ACK)))).toEqual([virtual, client(n)]);
        expect(endsOf(sent(worker, tcp(client(n), virtual, ACK)))).toEqual([source, backend]);
      }
    }
    expect(ports.size).toBe(300);
  });

  it('drops a segment of an unknown connection, and does not answer for one', () => {
    const test = opened();
    for (const flags of [ACK, SYN | ACK, RST, FIN | ACK]) {
      expect(verdictOf(test, tcp(client(1), virtual, flags))).toBe(DROP);
    }
    expect(verdictOf(test, tcp({ ip: BACKENDS[0]!, port: 8080 }, { ip: VIP, port: 20_000 }, ACK))).toBe(PASS);
  });

  it('passes what another than the backend sends to a source port, and all that it does not serve', () => {
    const test = opened();
    const [source, backend] = connected(test, client(1));
    for (const frame of [
      tcp({ ...backend, port: 8081 }, source, ACK),
      tcp({ ...backend, ip: [10, 9, 9, 9] }, source, ACK),
      datagram(backend, source, [1]),
      tcp(client(1), { ip: VIP, port: 22 }, SYN),
      tcp(client(1), { ip: [10, 77, 0, 3], port: 80 }, SYN),
      ethernet(ipv4(icmpEcho([1, 2]))),
      ethernet(ipv4(icmpEcho([1, 2])), { dst: [2, 0, 0, 0, 0, 7] }),
    ]) {
      expect(verdictOf(test, frame)).toBe(PASS);
      expect([...test.run([frame])[0]!.bytes]).toEqual(frame);
    }
    expect(verdictOf(opened({ otherwise: 'drop' }), ethernet(ipv4(icmpEcho([1]))))).toBe(DROP);
  });

  it('drops the first fragment of a packet that is its own, and passes those of the machine', () => {
    const test = opened();
    const [source, backend] = connected(test, client(1));
    const fragment = (from: End, to: End, offset: number): number[] => {
      const ports = { from: from.port, to: to.port, src: from.ip, dst: to.ip };
      return ethernet(ipv4(udp([1, 2], ports), { src: from.ip, dst: to.ip, protocol: 17, fragment: offset }));
    };
    expect(verdictOf(test, fragment(client(1), virtual, 0x2000))).toBe(DROP);
    expect(verdictOf(test, fragment(backend, source, 0x2000))).toBe(DROP);
    for (const frame of [
      fragment(client(1), virtual, 100),
      fragment(client(1), { ip: VIP, port: 5000 }, 0x2000),
      fragment(client(1), { ip: VIP, port: 5000 }, 0x2001),
    ]) {
      const [outcome] = test.run([frame]);
      expect([outcome!.verdict, ...outcome!.bytes]).toEqual([PASS, ...frame]);
    }
  });

  it('leaves a datagram alone whose header is cut off', () => {
    const test = opened();
    sent(test, datagram(client(1), virtual, [1]));
    const cut = [...be16(client(1).port), ...be16(virtual.port)];
    const frame = ethernet(ipv4(cut, { src: client(1).ip, dst: VIP, protocol: 17 }));
    const [outcome] = test.run([frame]);
    expect(outcome).toMatchObject({ verdict: PASS });
    expect(outcome!.error).toBeUndefined();
  });

  it('drops what comes from its own addresses, which would come round for ever, and from no host', () => {
    const test = opened({ source: '10.77.0.7,10.77.0.8' });
    for (const ip of [
      VIP,
      [10, 77, 0, 8],
      [0, 0, 0, 0],
      [127, 0, 0, 1],
      [224, 0, 0, 1],
      [255, 255, 255, 255],
    ]) {
      for (const port of [80, 20_000]) {
        expect(verdictOf(test, datagram({ ip, port }, virtual, [1]))).toBe(DROP);
        expect(verdictOf(test, tcp({ ip, port }, virtual, SYN))).toBe(DROP);
      }
    }
  });

  it('forgets a half-open connection soon, one that both ends have ended soon after, and another after its time', () => {
    const test = opened({ idle: 600 });
    const [first] = endsOf(sent(test, tcp(client(1), virtual, SYN)));
    seconds(11);
    expect(verdictOf(test, tcp(client(1), virtual, ACK))).toBe(DROP);
    const [source, backend] = connected(test, client(2));
    seconds(599);
    sent(test, tcp(backend, source, ACK));
    seconds(599);
    sent(test, tcp(client(2), virtual, FIN | ACK));
    sent(test, tcp(backend, source, FIN | ACK));
    sent(test, tcp(client(2), virtual, ACK));
    seconds(11);
    expect(verdictOf(test, tcp(client(2), virtual, ACK))).toBe(DROP);
    expect(first.ip).toEqual(VIP);
    connected(test, client(3));
    seconds(601);
    expect(verdictOf(test, tcp(client(3), virtual, ACK))).toBe(DROP);
  });

  it('lets a client use its port again after a connection is over', () => {
    const test = opened();
    const [source, backend] = connected(test, client(1));
    sent(test, tcp(client(1), virtual, RST));
    connected(test, client(1));
    seconds(300); // as long as only an open one lives
    expect(endsOf(sent(test, tcp(client(1), virtual, ACK)))).toEqual([source, backend]);
  });

  it('lets no flood of first segments replace open connections', () => {
    const test = opened({ sourcePorts: '20000-20063' });
    const open = Array.from({ length: 20 }, (_, n) => n).filter((n) => {
      const [outcome] = test.run([tcp(client(n), virtual, SYN)]);
      if (outcome!.verdict !== TX) return false;
      const [source, backend] = endsOf([...outcome!.bytes]);
      sent(test, tcp(backend, source, SYN | ACK));
      sent(test, tcp(client(n), virtual, ACK));
      return true;
    });
    for (let n = 100; n < 2000; n++) test.run([tcp(client(n), virtual, SYN)]);
    for (const n of open) sent(test, tcp(client(n), virtual, ACK));
    expect(open.length).toBeGreaterThan(10);
  });

  it('lets no flood of first segments and guessed acknowledgements take the entries', () => {
    const test = opened({ sourcePorts: '20000-20063' });
    for (let n = 100; n < 2000; n++) {
      const [outcome] = test.run([tcp(client(n), virtual, SYN)]);
      expect(outcome!.verdict).toBe(TX);
      const [source, backend] = endsOf([...outcome!.bytes]);
      sent(test, tcp(backend, source, SYN | ACK));
      sent(test, tcp(client(n), virtual, ACK, [], 3));
    }
  });

  it('takes data of the backend for a sign that the client is real', () => {
    const test = opened();
    const [source, backend] = endsOf(sent(test, tcp(client(1), virtual, SYN)));
    sent(test, tcp(backend, source, SYN | ACK));
    sent(test, tcp(backend, source, ACK, [1]));
    sent(test, tcp(client(1), virtual, ACK, [], 3));
    seconds(300);
    sent(test, tcp(client(1), virtual, ACK, [], 3));
  });

  it('gives the entries of connections that are over to new ones', () => {
    const test = opened({ sourcePorts: '20000-20063' });
    for (let n = 0; n < 500; n++) {
      connected(test, client(n));
      sent(test, tcp(client(n), virtual, RST));
    }
  });

  it('keeps a connection that goes on after a reset, which another has forged', () => {
    const test = opened();
    const [source, backend] = connected(test, client(1));
    sent(test, tcp(client(1), virtual, RST));
    sent(test, tcp(client(1), virtual, ACK));
    sent(test, tcp(backend, source, RST));
    sent(test, tcp(backend, source, ACK));
    seconds(300);
    sent(test, tcp(client(1), virtual, ACK));
    sent(test, tcp(backend, source, RST));
    sent(test, tcp(client(1), virtual, ACK)); // the backend has not gone on
    seconds(11);
    expect(verdictOf(test, tcp(client(1), virtual, ACK))).toBe(DROP);
  });

  it('lets no flood of first datagrams replace flows that both ends have used', () => {
    const test = opened({ sourcePorts: '20000-20063' });
    const open = Array.from({ length: 20 }, (_, n) => n).filter((n) => {
      const [outcome] = test.run([datagram(client(n), virtual, [1])]);
      if (outcome!.verdict !== TX) return false;
      const [source, backend] = endsOf([...outcome!.bytes]);
      sent(test, datagram(backend, source, [2]));
      sent(test, datagram(client(n), virtual, [3]));
      return true;
    });
    const sources = open.map((n) => endsOf(sent(test, datagram(client(n), virtual, [4])))[0]);
    seconds(1);
    for (let n = 100; n < 2000; n++) test.run([datagram(client(n), virtual, [1])]);
    expect(open.map((n) => endsOf(sent(test, datagram(client(n), virtual, [5])))[0])).toEqual(sources);
    expect(open.length).toBeGreaterThan(10);
  });

  it('writes the MAC address of a backend that has one, and of the client in the reply', () => {
    const test = opened({ backends: '10.1.0.1:8080@02:00:00:00:01:01' });
    const there = sent(test, tcp(client(1), virtual, SYN));
    expect(there.slice(0, 12)).toEqual([2, 0, 0, 0, 1, 1, ...OUR_MAC]);
    const [source, backend] = endsOf(there);
    const frame = tcp(backend, source, SYN | ACK);
    frame.splice(6, 6, 2, 0, 0, 0, 1, 1);
    expect(sent(test, frame).slice(0, 12)).toEqual([...PEER_MAC, ...OUR_MAC]);
  });

  it('does not throw for any truncated or damaged frame', () => {
    const test = opened();
    const [source, backend] = connected(test, client(1));
    const frames = [
      tcp(client(1), virtual, ACK, [1, 2]),
      tcp(backend, source, ACK),
      datagram(client(2), virtual, [1]),
    ];
    fc.assert(
      fc.property(
        fc.constantFrom(...frames),
        fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 }),
        fc.nat(60),
        (frame, hits, cut) => {
          const damaged = [...frame];
          for (const [at, value] of hits) if (at < damaged.length) damaged[at] = value;
          expect(test.run([damaged.slice(0, cut)])[0]!.error).toBeUndefined();
        },
      ),
    );
  });

  it.each([
    [{ ports: '' }, 'ERR_OPTION_INVALID', 'ports'],
    [{ backends: '' }, 'ERR_OPTION_INVALID', 'backends'],
    [{ backends: '10.0.0.1:0' }, 'ERR_OPTION_INVALID', 'backends'],
    [{ backends: '10.0.0.1@03:00:00:00:00:01' }, 'ERR_OPTION_INVALID', 'backends'],
    [{ backends: '10.0.0.1,10.0.0.1' }, 'ERR_OPTION_INVALID', 'backends'],
    [{ backends: VIP.join('.') }, 'ERR_OPTION_INVALID', 'backends'],
    [{ source: '' }, 'ERR_OPTION_INVALID', 'source'],
    [{ source: '10.0.0.5,10.0.0.5' }, 'ERR_OPTION_INVALID', 'source'],
    [{ sourcePorts: '5-4' }, 'ERR_OPTION_INVALID', 'sourcePorts'],
    [{ sourcePorts: '100-106' }, 'ERR_OPTION_INVALID', 'sourcePorts'],
    [{ idle: 1 }, 'ERR_OPTION_INVALID', 'idle'],
    [{ other: 1 }, 'ERR_OPTION_UNKNOWN', 'other'],
    [{ mode: 'other' }, 'ERR_OPTION_INVALID', 'mode'],
    [{ mode: 'direct', source: '10.0.0.1' }, 'ERR_OPTION_INVALID', 'source'],
  ])('refuses %o', (options, code, device) => {
    expect(() => opened(options)).toThrow(expect.objectContaining({ code, device }));
  });
});
