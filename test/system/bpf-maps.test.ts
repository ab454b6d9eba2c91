/** Maps of flow rules, links whose program is exchanged, and test runs: without devices, or on one veth. */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Errno } from '../../src/errors.ts';
import { Assembler } from '../../src/kernel/assembler.ts';
import { Bpf } from '../../src/kernel/bpf.ts';
import { kernelIsAtLeast } from '../../src/kernel/machine.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { RuleMaps } from '../../src/kernel/rule-maps.ts';
import { loadShim } from '../../src/kernel/shim.ts';

const shim = loadShim();
const bpf = new Bpf(shim);
const GUEST = `tp-maps-${process.pid}`;
const MAP_LOOKUP = 1;
const FRAME = new Uint8Array(64);

function own(fd: number): number {
  expect(fd).toBeGreaterThan(0);
  onTestFinished(() => void shim.close(fd));
  return fd;
}

/** Returns a number. */
const answering = (number: number): Uint8Array => new Assembler().movImm(0, number).exit().assemble();

/** Looks the address in the frame's first bytes up, and returns the first number of its entry, or -1. */
function lookingUp(map: number, bytes: number): Uint8Array {
  const program = new Assembler().loadW(2, 1, 0).loadW(3, 1, 4).mov(4, 2).aluImm('add', 4, 16);
  program
    .jumpIf('jgt', 4, 3, 'none')
    .movImm(5, bytes * 8)
    .storeW(10, 5, -20);
  for (let at = 0; at < bytes; at += 4) program.loadW(5, 2, at).storeW(10, 5, at - 16);
  return program
    .mov(2, 10)
    .aluImm('add', 2, -20)
    .loadMapFd(1, map)
    .call(MAP_LOOKUP)
    .jeqImm(0, 0, 'none')
    .loadW(0, 0, 0)
    .exit()
    .label('none')
    .movImm(0, -1)
    .exit()
    .assemble();
}

/** A bit of an address. */
const bitAt = (address: Uint8Array, bit: number): number => (address[bit >> 3]! >> (7 - (bit & 7))) & 1;

describe('maps of rules', () => {
  it.each([4, 16])('find the longest prefix of an address of %i bytes', (bytes) => {
    const maps = new RuleMaps(shim);
    // Few values, so that prefixes contain each other.
    const address = fc
      .array(fc.constantFrom(0, 1, 255), { minLength: bytes, maxLength: bytes })
      .map((list) => Uint8Array.from(list));
    const prefix = fc.tuple(address, fc.integer({ min: 0, max: bytes * 8 }));
    fc.assert(
      fc.property(
        fc.array(prefix, { minLength: 1, maxLength: 20 }),
        fc.array(address),
        (prefixes, sought) => {
          const map = maps.prefixMap(bytes, prefixes.length);
          prefixes.forEach(([network, bits], n) => {
            maps.setPrefix(map, network, bits, [n, 0]);
          });
          const program = bpf.load('xdp', 'tp_lookup', lookingUp(map, bytes));
          for (const one of [...sought, ...prefixes.map(([network]) => network)]) {
            const contains = ([network, bits]: (typeof prefixes)[number]): boolean =>
              Array.from({ length: bits }, (_, bit) => bitAt(network, bit) === bitAt(one, bit)).every(
                Boolean,
              );
            const longest = Math.max(-1, ...prefixes.filter(contains).map(([, bits]) => bits));
            const last = prefixes.findLastIndex((entry) => contains(entry) && entry[1] === longest);
            const frame = new Uint8Array(64);
            frame.set(one);
            expect(bpf.testRun(program, frame).result).toBe(last);
          }
          shim.close(program);
          shim.close(map);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('refuse more prefixes than they were made for, naming the map and the system call', () => {
    const maps = new RuleMaps(shim);
    const map = own(maps.prefixMap(4, 1));
    maps.setPrefix(map, Uint8Array.of(10, 0, 0, 0), 8, [1, 2]);
    const add = (): void => maps.setPrefix(map, Uint8Array.of(11, 0, 0, 0), 8, [1, 2]);
    expect(add).toThrow('bpf(MAP_UPDATE_ELEM): ENOSPC, no space left): a prefix of 8 bits in an LPM trie');
    expect(() => maps.prefixMap(0, 1)).toThrow(
      'bpf(MAP_CREATE): EINVAL, invalid argument): an LPM trie of 1 prefixes',
    );
  });

  it('sum a counter over the CPUs', () => {
    const maps = new RuleMaps(shim);
    const map = own(maps.counterMap(3));
    const code = new Assembler()
      .movImm(2, 1)
      .storeW(10, 2, -4)
      .mov(2, 10)
      .aluImm('add', 2, -4)
      .loadMapFd(1, map)
      .call(MAP_LOOKUP)
      .jeqImm(0, 0, 'none')
      .loadDW(2, 0, 0)
      .aluImm('add', 2, 1)
      .storeDW(0, 2, 0)
      .loadDW(2, 0, 8)
      .aluImm('add', 2, 0x7fffffff)
      .storeDW(0, 2, 8)
      .label('none')
      .movImm(0, 0)
      .exit()
      .assemble();
    const program = own(bpf.load('xdp', 'tp_count', code));
    for (let n = 0; n < 6; n++) bpf.testRun(program, FRAME);
    expect([0, 1, 2].map((index) => maps.count(map, index))).toEqual([
      { packets: 0, bytes: 0 },
      { packets: 6, bytes: 6 * 0x7fffffff },
      { packets: 0, bytes: 0 },
    ]);
    expect(() => maps.count(map, 3)).toThrow(
      'bpf(MAP_LOOKUP_ELEM): ENOENT, no such file or device): counter 3',
    );
  });
});

describe('a test run', () => {
  it('returns the result of a program and the frame as it left it', () => {
    const code = new Assembler()
      .loadW(2, 1, 0)
      .loadW(3, 1, 4)
      .mov(4, 2)
      .aluImm('add', 4, 4)
      .jumpIf('jgt', 4, 3, 'short')
      .movImm(5, 0x01020304)
      .storeW(2, 5, 0)
      .label('short')
      .movImm(0, 2)
      .exit()
      .assemble();
    const { result, frame } = bpf.testRun(own(bpf.load('xdp', 'tp_write', code)), FRAME);
    expect([result, frame.length, ...frame.subarray(0, 5)]).toEqual([2, 64, 4, 3, 2, 1, 0]);
    const cls = own(bpf.load('sched_cls', 'tp_cls', answering(-1)));
    expect(bpf.testRun(cls, FRAME).result).toBe(-1);
  });

  it('of a frame without a whole Ethernet header is refused', () => {
    const program = own(bpf.load('xdp', 'tp_pass', answering(2)));
    expect(() => bpf.testRun(program, new Uint8Array(13))).toThrow('a frame of 13 bytes');
  });
});

describe('a link whose program is exchanged', () => {
  const kinds = ['xdp', ...(kernelIsAtLeast(6, 6) ? (['sched_cls'] as const) : [])] as const;

  it.each(kinds)('keeps its place, and reports ENOLINK once its device is gone: %s', (kind) => {
    const ip = (...words: string[]): string => execFileSync('ip', words, { encoding: 'utf8' });
    ip('netns', 'add', GUEST);
    onTestFinished(() => void ip('netns', 'del', GUEST));
    ip('-n', GUEST, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
    const ifindex = Number(ip('-n', GUEST, '-o', 'link', 'show', 'one').split(':')[0]);
    const [first, second] = [2, 1].map((number) => own(bpf.load(kind, 'tp_link', answering(number))));
    const link = own(
      inNamespace(shim, GUEST, () =>
        kind === 'xdp' ? bpf.attachXdp(first!, ifindex, 'native') : bpf.attachTcx(first!, ifindex, 'ingress'),
      ),
    );
    const before = bpf.linkInfo(link);
    expect(bpf.updateLink(link, second!)).toBe(0);
    expect(bpf.linkInfo(link)).toEqual({ ...before, programId: bpf.programInfo(second!).id });
    ip('-n', GUEST, 'link', 'del', 'one');
    expect(bpf.updateLink(link, first!)).toBe(Errno.ENOLINK);
  });
});
