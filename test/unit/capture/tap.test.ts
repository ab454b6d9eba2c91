/** What a worker copies for a capture, by its orders. */
import { describe, expect, it } from 'vitest';
import { compileFilter } from '../../../src/capture/filter/filter.ts';
import { countsOf, interfaceOf } from '../../../src/capture/interfaces.ts';
import { RecordReceiver } from '../../../src/capture/records.ts';
import { CaptureTap } from '../../../src/datapath/capture-tap.ts';
import { CaptureTaps, type Tapped } from '../../../src/datapath/capture-taps.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { FAILED, PASS, TX } from '../../../src/handler/handler.ts';
import { CaptureOrders, writeCaptureOrder } from '../../../src/memory/capture-orders.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { ethernet, ipv4, udp } from '../../support/frames.ts';

const geometry = {
  pageSize: 4096,
  ports: 2,
  queues: 1,
  frameSize: 2048,
  framesPerWorker: 64,
  ringEntries: 64,
};

class Bench {
  readonly memory = Memory.create(geometry);
  readonly burst = new Burst(this.memory, 0);
  readonly #orders = new CaptureOrders(this.memory);

  order(capture: number, id: number, port: number, filter: string, snapLength = 2000): void {
    writeCaptureOrder(this.memory, capture, { id, port, snapLength, program: compileFilter(filter) });
  }

  tap(port = 0): CaptureTap {
    const orders = this.#orders.read()!.map((order) => (order?.port === port ? order : undefined));
    return new CaptureTap(this.memory, 0, orders);
  }

  isStale(): boolean {
    return this.#orders.isStale;
  }

  /** Puts frames of these lengths into the burst, each with its number in its last byte. */
  fill(...lengths: number[]): void {
    const { bytes, layout } = this.memory;
    lengths.forEach((length, i) => {
      const at = layout.frames + i * 2048 + 256;
      bytes.set(ethernet(ipv4(udp(Array(length - 42).fill(i)), { protocol: 17 })), at);
      this.burst.offset[i] = at;
      this.burst.bytes[i] = length;
    });
    this.burst.begin(lengths.length);
  }

  read(capture: number, id: number): unknown[] {
    const receiver = new RecordReceiver(this.memory, capture, 0, id);
    const found: unknown[] = [];
    for (; receiver.next(); receiver.release()) {
      const { interface: number, verdict, length, copied, missed, at } = receiver;
      found.push([number, verdict, length, copied, missed, this.memory.bytes[at + copied - 1]]);
    }
    return found;
  }
}

describe('a worker', () => {
  it('copies what it received before the handler changes it, and what it sent', () => {
    const bench = new Bench();
    const { burst, memory } = bench;
    expect(bench.isStale()).toBe(false);
    bench.order(1, 9, 0, 'udp and greater 100', 120);
    expect(bench.isStale()).toBe(true);
    const tap = bench.tap();
    expect([tap.isIdle, bench.isStale(), bench.tap(1).isIdle]).toEqual([false, false, true]);
    bench.fill(60, 110, 200);
    tap.received(burst, 3, Path.VF);
    for (let i = 0; i < 3; i++) memory.bytes[burst.offset[i]! + burst.bytes[i]! - 1] = 77;
    burst.verdict.set([TX, PASS, FAILED]);
    tap.decided(burst, 2); // the handler threw on the last one
    burst.shift(2);
    burst.verdict[0] = FAILED;
    tap.decided(burst, 1);
    tap.sent(burst.offset[0]!, 200, Path.SYNTHETIC);
    expect(bench.read(1, 9)).toEqual([]);
    tap.commit();
    const [rx, tx] = [interfaceOf(Path.VF, 0), interfaceOf(Path.SYNTHETIC, 1)];
    expect(bench.read(1, 9)).toEqual([
      [rx, PASS, 110, 110, 0, 1],
      [rx, FAILED, 200, 120, 0, 2],
      [tx, 255, 200, 120, 0, 2],
    ]);
    const counts = countsOf(memory, 1);
    expect([counts[rx], counts[tx]]).toEqual([
      { seen: 3, missed: 0 },
      { seen: 1, missed: 0 },
    ]);
  });

  it('goes on if the reader does not read, and tells how many packets are missing before the next', () => {
    const bench = new Bench();
    bench.order(0, 3, 0, '');
    const tap = bench.tap();
    bench.fill(60);
    const { captureEntries } = bench.memory.layout;
    const room = captureEntries / 2; // a head of 32 bytes, and 60
    for (let i = 0; i < room + 5; i++) {
      tap.sent(bench.burst.offset[0]!, 60, Path.VF);
      tap.commit();
    }
    const number = interfaceOf(Path.VF, 1);
    expect(countsOf(bench.memory, 0)[number]).toEqual({ seen: room + 5, missed: 5 });
    expect(bench.read(0, 3)).toHaveLength(room);
    tap.sent(bench.burst.offset[0]!, 60, Path.VF);
    tap.commit();
    expect(bench.read(0, 3)).toEqual([[number, 255, 60, 60, 5, 0]]);
  });

  it('serves two captures of a port at once, and stops with the order', () => {
    const bench = new Bench();
    bench.order(0, 1, 0, 'udp');
    bench.order(1, 2, 0, 'tcp');
    bench.fill(60);
    const tap = bench.tap();
    tap.sent(bench.burst.offset[0]!, 60, Path.VF);
    tap.commit();
    expect([bench.read(0, 1).length, bench.read(1, 2).length]).toEqual([1, 0]);
    writeCaptureOrder(bench.memory, 0, undefined);
    writeCaptureOrder(bench.memory, 1, undefined);
    expect(bench.isStale()).toBe(true);
    expect(bench.tap().isIdle).toBe(true);
  });

  it('changes the taps of all ports together: the next capture in a place may be of another port', () => {
    const bench = new Bench();
    const { memory, burst } = bench;
    const ports: Tapped[] = [{ capture: undefined }, { capture: undefined }];
    const taps = new CaptureTaps(memory, 0, ports);
    taps.follow();
    bench.fill(60, 70, 80);
    bench.order(0, 1, 1, '');
    taps.follow();
    expect(ports.map(({ capture }) => capture === undefined)).toEqual([true, false]);
    ports[1]!.capture!.sent(burst.offset[0]!, 60, Path.VF); // forwarded: not published yet
    bench.order(0, 2, 0, '');
    taps.follow();
    expect(ports.map(({ capture }) => capture === undefined)).toEqual([false, true]);
    expect(bench.read(0, 1)).toEqual([[interfaceOf(Path.VF, 1), 255, 60, 60, 0, 0]]);
    ports[0]!.capture!.sent(burst.offset[1]!, 70, Path.VF);
    // What port 0 forwards to port 1 is in no capture now, and port 1 has nothing left to publish.
    for (const { capture } of ports) {
      capture?.sent(burst.offset[2]!, 80, Path.SYNTHETIC);
      capture?.commit();
    }
    const [vf, synthetic] = [interfaceOf(Path.VF, 1), interfaceOf(Path.SYNTHETIC, 1)];
    expect(bench.read(0, 2)).toEqual([
      [vf, 255, 70, 70, 0, 1],
      [synthetic, 255, 80, 80, 0, 2],
    ]);
  });

  it('goes on as before while an order is being written', () => {
    const bench = new Bench();
    const ports: Tapped[] = [{ capture: undefined }];
    const taps = new CaptureTaps(bench.memory, 0, ports);
    bench.order(0, 1, 0, '');
    taps.follow();
    const tap = ports[0]!.capture;
    const at = bench.memory.control.at('captures');
    bench.memory.words[at]!++;
    taps.follow();
    expect([tap === undefined, ports[0]!.capture === tap]).toEqual([false, true]);
    bench.memory.words[at]!++;
    taps.follow();
    expect(ports[0]!.capture === tap).toBe(false);
  });

  it('takes no order that is being written', () => {
    const { memory } = new Bench();
    const orders = new CaptureOrders(memory);
    memory.words[memory.control.at('captures')] = 3;
    expect([orders.isStale, orders.read()]).toEqual([true, undefined]);
    memory.words[memory.control.at('captures')] = 4;
    expect(orders.read()).toEqual([undefined, undefined]);
    expect(orders.isStale).toBe(false);
  });
});
