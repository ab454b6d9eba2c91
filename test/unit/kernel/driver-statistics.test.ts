/** The statistics of a driver: names and numbers, by three ioctls between which everything may change. */
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import { driverStatistics } from '../../../src/kernel/driver-statistics.ts';
import { IFLA, parseCounters } from '../../../src/kernel/link.ts';
import type { Shim } from '../../../src/kernel/shim.ts';

const SIOCGIFNAME = 0x8910;
const SIOCETHTOOL = 0x8946;
const EOPNOTSUPP = -95;
const GSTRINGS = 0x1b;
const GSTATS = 0x1d;
const GSSET_INFO = 0x37;

/**
 * A driver with statistics, as net/ethtool/ioctl.c shows it. Kernels before 6.19 write everything that there is; later ones
 * write nothing if the number is not the requested one.
 */
class Driver {
  /** How many it has, at each request in turn; the last one stays. */
  counts: number[];
  readonly checks: boolean;
  /** Bytes that were written for each request of names or values. */
  readonly written: number[] = [];

  constructor(counts: number[], checks = false) {
    this.counts = counts;
    this.checks = checks;
  }

  get shim(): Shim {
    const shim: Partial<Shim> = {
      socket: () => 40,
      close: () => 0,
      ioctl: (_, request, argument) => {
        const ifreq = argument as DataView;
        if (request === SIOCGIFNAME) new Uint8Array(ifreq.buffer).set(new TextEncoder().encode('vf0\0'));
        return request === SIOCETHTOOL ? this.#request(Number(ifreq.getBigUint64(16, true))) : 0;
      },
    };
    return shim as Shim;
  }

  #request(at: number): number {
    const head = new DataView(koffi.decode(at, 'uint8_t', 16).slice().buffer);
    const command = head.getUint32(0, true);
    const count = this.counts.length > 1 ? this.counts.shift()! : this.counts[0]!;
    if (count === 0 && command !== GSSET_INFO) return EOPNOTSUPP;
    const asked = head.getUint32(command === GSTRINGS ? 8 : 4, true);
    const given = this.checks && asked !== 0 && asked !== count ? 0 : count;
    if (command === GSSET_INFO) {
      const answer = new DataView(new ArrayBuffer(20));
      answer.setUint32(0, GSSET_INFO, true);
      answer.setBigUint64(8, count > 0 ? 2n : 0n, true);
      answer.setUint32(16, count, true);
      write(at, answer);
    } else if (command === GSTRINGS) {
      const answer = new DataView(new ArrayBuffer(12 + given * 32));
      answer.setUint32(0, GSTRINGS, true);
      answer.setUint32(4, 1, true);
      answer.setUint32(8, given, true);
      const text = new TextEncoder();
      for (let i = 0; i < given; i++)
        text.encodeInto(`counter_${i}`, new Uint8Array(answer.buffer, 12 + i * 32, 32));
      this.written.push(answer.byteLength);
      write(at, answer);
    } else if (command === GSTATS) {
      const answer = new DataView(new ArrayBuffer(8 + given * 8));
      answer.setUint32(0, GSTATS, true);
      answer.setUint32(4, given, true);
      for (let i = 0; i < given; i++) answer.setBigUint64(8 + i * 8, BigInt(i) + (1n << 33n), true);
      this.written.push(answer.byteLength);
      write(at, answer);
    }
    return 0;
  }
}

function write(at: number, answer: DataView): void {
  koffi.encode(at, 'uint8_t', [...new Uint8Array(answer.buffer)], answer.byteLength);
}

const expected = (count: number): [string, number][] =>
  Array.from({ length: count }, (_, i) => [`counter_${i}`, i + 2 ** 33]);

describe.each([false, true])(
  'the statistics of a driver, in a kernel that checks their number: %s',
  (checks) => {
    it('have the names and the numbers of the driver', () => {
      const { shim } = new Driver([3], checks);
      expect([...driverStatistics(shim, 7)]).toEqual(expected(3));
    });

    it('are none if the driver has none', () => {
      expect(driverStatistics(new Driver([0], checks).shim, 7).size).toBe(0);
    });

    it.each([
      ['names', [3, 5]],
      ['numbers', [3, 3, 5]],
    ])('are read again if their number changes before their %s are read', (_, counts) => {
      expect([...driverStatistics(new Driver(counts, checks).shim, 7)]).toEqual(expected(5));
    });

    it('are none if their number never stays', () => {
      const counts = Array.from({ length: 100 }, (_, i) => i + 1);
      expect(driverStatistics(new Driver(counts, checks).shim, 7).size).toBe(0);
    });
  },
);

it('there is room for many more statistics than the device had a moment before', () => {
  const driver = new Driver([10, 2000, 2000, 2000, 2000]);
  expect(driverStatistics(driver.shim, 7).size).toBe(2000);
  expect(driver.written[0]).toBe(12 + 2000 * 32);
});

it('the kernel’s own counters are words by their order in rtnl_link_stats64, as many as the kernel has', () => {
  const payload = (words: number): Uint8Array => {
    const view = new DataView(new ArrayBuffer(16 + 4 + words * 8));
    view.setUint16(16, 4 + words * 8, true);
    view.setUint16(18, IFLA.STATS64, true);
    for (let i = 0; i < words; i++) view.setBigUint64(20 + i * 8, BigInt(100 + i), true);
    return new Uint8Array(view.buffer);
  };
  const counters = parseCounters(payload(25))!;
  expect(counters).toMatchObject({
    rx_packets: 100,
    tx_dropped: 107,
    rx_missed_errors: 115,
    rx_otherhost_dropped: 124,
  });
  expect(Object.keys(counters)).toHaveLength(25);
  expect(Object.keys(parseCounters(payload(23))!)).toHaveLength(23);
  expect(Object.keys(parseCounters(payload(40))!)).toHaveLength(25);
  expect(parseCounters(new Uint8Array(16))).toBeUndefined();
});
