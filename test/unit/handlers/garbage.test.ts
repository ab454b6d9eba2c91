/** A packet makes no garbage in a built-in handler: V8 collects nothing, however many there are. */
import { GCProfiler } from 'node:v8';
import { expect, it } from 'vitest';
import { Clock } from '../../../src/handler/clock.ts';
import type { Created, Handler, TickingHandler } from '../../../src/handler/handler.ts';
import { DROP, PASS, TX } from '../../../src/handler/handler.ts';
import * as swap from '../../../src/handlers/5tswap.ts';
import * as balance from '../../../src/handlers/balance.ts';
import * as count from '../../../src/handlers/count.ts';
import * as dns from '../../../src/handlers/dns.ts';
import * as firewall from '../../../src/handlers/firewall.ts';
import { adjust32, writeIpv4 } from '../../../src/headers.ts';
import { Flow, int32At } from '../../../src/net/flow.ts';
import { FlowKey, FlowTable, TimerWheel, TokenBuckets } from '../../../src/state.ts';
import { asked, query } from '../../support/dns.ts';
import { be16, ethernet, ipv4, ipv6, loaded, smallMemory, udp, workerContext } from '../../support/frames.ts';

const context = workerContext();
/** Above 2^31, where a number that V8 cannot keep in a register becomes an object. */
const HIGH = [203, 0, 113, 2];
const address = HIGH.join('.');
const zone = '$ORIGIN example.org.\nwww A 203.0.113.1\n';
const BURST = 64;
/** Bursts. A number per packet, of 12 bytes each, would fill the young generation of V8 several times over. */
const BURSTS = 12_000;
/** V8 optimizes when it sees fit, and until then numbers are objects; a handler that allocates is never done. */
const ATTEMPTS = 8;

const question = query('www.example.org', { edns: 1232 });
const segment = ethernet(
  ipv4([...be16(65_000), ...be16(443), ...Array(16).fill(0)], {
    protocol: 6,
    src: [203, 0, 113, 1],
    dst: HIGH,
  }),
);

/** With a connection to which {@link segment} belongs. */
function nat(): Handler {
  const options = { mode: 'nat', vip: address, ports: '443', backends: '203.0.113.9:8443' };
  const { handle } = balance.create(options, workerContext()) as TickingHandler;
  const first = loaded([segment.with(47, 2)]);
  handle(first);
  expect(first.verdict[0]).toBe(TX);
  return handle;
}

/** Limits each flow, with what handlers find in twinpath/state and twinpath/headers. */
function limiter(): Handler {
  let now = 1e12;
  const clock = new Clock(() => now);
  const [flow, key, table] = [new Flow(), new FlowKey(), new FlowTable({ clock, entries: 1024 })];
  const buckets = new TokenBuckets({ clock, rate: 1e6, burst: 1e9, buckets: 1024 });
  const timers = new TimerWheel({ clock, timers: 1024 });
  const expire = (timer: number): void => table.remove(timer);
  return (all) => {
    now += 1000;
    clock.update();
    table.sweep(64);
    timers.run(expire);
    for (let i = 0; i < all.length; i++) {
      const packet = all.packet(i);
      flow.read(packet);
      const entry = table.add(key.read(packet, flow), 1000);
      timers.set(entry, 1000);
      if (!buckets.take(entry, 1)) continue;
      adjust32(packet, flow.l4 + 16, int32At(packet, flow.addresses), 0);
      writeIpv4(packet, flow.l3, int32At(packet, flow.addresses), 7, 6, 20);
      all.verdict[i] = TX;
    }
  };
}

it.each<[string, Created, number[], number]>([
  ['balance', balance.create({ vip: address, backends: '02:00:00:00:01:01' }, context), segment, TX],
  ['balance by NAT', nat(), segment, TX],
  ['5tswap', swap.create({}), segment, TX],
  ['a handler with state', limiter(), segment, TX],
  ['count', count.create({ every: 0 }, context), segment, DROP],
  ['firewall', firewall.create({ deny: '10.0.0.0/8 tcp/22', allow: 'tcp/443' }), segment, PASS],
  ['dns', dns.create({ zone, address: '10.77.0.2' }, context), asked(question), TX],
  [
    'dns over IPv6',
    dns.create({ zone, address: '2001:db8::2' }, context),
    ethernet(ipv6(udp(question, { to: 53 })), { type: 0x86dd }),
    TX,
  ],
])(
  '%s',
  (_, handler, frame, verdict) => {
    const handle = typeof handler === 'function' ? handler : handler.handle.bind(handler);
    const memory = smallMemory();
    const burst = loaded([frame], memory);
    const offset = burst.offset[0]!;
    const run = () => {
      for (let n = 0; n < BURSTS; n++) {
        for (let i = 0; i < BURST; i++) {
          burst.offset[i] = offset + i * 2048;
          burst.bytes[i] = frame.length;
          for (let at = 0; at < frame.length; at++) memory.bytes[offset + i * 2048 + at] = frame[at]!;
        }
        burst.begin(BURST);
        handle(burst);
      }
    };
    let statistics: unknown[] = ['not run'];
    for (let attempt = 0; attempt < ATTEMPTS && statistics.length > 0; attempt++) {
      const profiler = new GCProfiler();
      profiler.start();
      run();
      statistics = profiler.stop()!.statistics;
    }
    expect([...burst.verdict.subarray(0, BURST)]).toEqual(Array(BURST).fill(verdict));
    expect(statistics).toEqual([]);
  },
  60_000,
);
