/** Files of both formats, as a slow writer makes them of the drafts, are read; damaged ones end in an error with an offset. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { TwinpathError } from '../../../src/errors.ts';
import { CaptureWriter } from '../../../src/pcapng/file-writer.ts';
import { Direction, XdpAction } from '../../../src/pcapng/format.ts';
import { CaptureReader } from '../../../src/pcapng/reader.ts';
import { block, classicFile, section, Words, type Written } from '../../support/capture-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'twinpath-captures-'));
afterAll(() => rmSync(folder, { recursive: true }));
const FILE = join(folder, 'file');

interface Read {
  readonly data: number[];
  readonly length: number;
  readonly nanos: bigint | undefined;
  readonly linkType: number;
  readonly interface: number;
  readonly direction: number;
}

function readFile(file = FILE): Read[] {
  const reader = new CaptureReader(file);
  try {
    return [...reader].map((packet) => ({ ...packet, data: [...packet.data] }));
  } finally {
    reader.close();
  }
}

function read(bytes: ArrayLike<number>): Read[] {
  writeFileSync(FILE, Uint8Array.from(bytes));
  return readFile();
}

/** Packets before the error, and the error. */
function readUntilError(bytes: ArrayLike<number>): { packets: number; error: unknown } {
  writeFileSync(FILE, Uint8Array.from(bytes));
  let packets = 0;
  try {
    const reader = new CaptureReader(FILE);
    try {
      for (const _ of reader) packets++;
    } finally {
      reader.close();
    }
  } catch (error) {
    return { packets, error };
  }
  return { packets, error: undefined };
}

const bytes = (most = 40) => fc.array(fc.nat(255), { maxLength: most });
const written = fc
  .record({ data: bytes(), more: fc.nat(100), ticks: fc.bigInt(0n, 2n ** 32n * 1_000_000n - 1n) })
  .map(({ data, more, ticks }): Written => ({ data, length: data.length + more, ticks }));

const as = ({ data, length = data.length }: Written) => ({ data: [...data], length });

describe('a pcap file', () => {
  it('is read in either byte order, with microseconds or nanoseconds', () => {
    fc.assert(
      fc.property(
        fc.array(written, { maxLength: 8 }),
        fc.boolean(),
        fc.boolean(),
        (packets, little, nanoseconds) => {
          const found = read(classicFile(packets, { little, nanoseconds }));
          expect(found).toEqual(
            packets.map((packet) => ({
              ...as(packet),
              nanos: packet.ticks! * (nanoseconds ? 1n : 1000n),
              ...{ linkType: 1, interface: 0, direction: Direction.UNKNOWN },
            })),
          );
        },
      ),
    );
  });

  it('loses the frame check sequence that its header announces, as far as it was captured', () => {
    const link = 0x2400_0001; // two units of 16 bits, Ethernet
    const data = Array.from({ length: 20 }, (_, i) => i);
    const whole = { data, length: 20 };
    const cut = { data, length: 22 };
    const short = { data, length: 40 };
    const found = read(classicFile([whole, cut, short], { link }));
    expect(found.map((one) => [one.data.length, one.length, one.linkType])).toEqual([
      [16, 16, 1],
      [18, 18, 1],
      [20, 36, 1],
    ]);
  });

  it('is refused in another version, at the offset of the version', () => {
    const { error } = readUntilError(classicFile([], { version: [2, 3] }));
    expect(error).toMatchObject({
      code: 'ERR_CAPTURE_FILE',
      detail: expect.stringMatching(/^offset 4: version 2\.3/),
    });
  });

  it('with a captured length beyond every limit is refused at its offset, and nothing is allocated for it', () => {
    const file = classicFile([{ data: [1, 2, 3] }, { data: [4] }]);
    const before = process.memoryUsage().arrayBuffers;
    file.splice(24 + 19 + 8, 4, 0xff, 0xff, 0xff, 0xff);
    const { packets, error } = readUntilError(file);
    expect(packets).toBe(1);
    expect(error).toMatchObject({
      detail: expect.stringContaining(`offset ${24 + 19 + 8}: a packet with 4294967295`),
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 2 ** 20);
  });
});

describe('a pcapng file', () => {
  it('is read with several sections and interfaces, each in its byte order, and unknown blocks left out', () => {
    const kind = fc.constantFrom('enhanced', 'obsolete', 'simple');
    const packet = fc
      .record({
        data: bytes(),
        more: fc.nat(50),
        ticks: fc.bigInt(0n, 2n ** 60n),
        kind,
        interface: fc.nat(2),
      })
      .map(
        ({ more, ...one }): Written => ({
          ...one,
          // A simple packet has no interface, and no length of what was captured.
          ...(one.kind === 'simple' ? { interface: 0 } : { length: one.data.length + more }),
        }),
      );
    const sections = fc.array(
      fc.record({
        packets: fc.array(packet, { maxLength: 6 }),
        little: fc.boolean(),
        noise: fc.array(bytes(20), { maxLength: 2 }),
      }),
      { minLength: 1, maxLength: 3 },
    );
    const nine = { options: [[9, [9]]] as [number, number[]][] };
    const interfaces = [nine, { link: 101, ...nine }, nine];
    fc.assert(
      fc.property(sections, (list) => {
        const file = list.flatMap(({ packets, ...options }) => section(packets, { ...options, interfaces }));
        expect(read(file)).toEqual(
          list.flatMap(({ packets }) =>
            packets.map((one) => ({
              ...as(one),
              nanos: one.kind === 'simple' ? undefined : one.ticks,
              interface: one.interface,
              linkType: one.interface === 1 ? 101 : 1,
              direction: Direction.UNKNOWN,
            })),
          ),
        );
      }),
    );
  });

  it.each([
    ['microseconds without an option', [], 1_500_000n, 1_500_000_000n],
    ['seconds', [[9, [0]]], 3n, 3_000_000_000n],
    ['picoseconds', [[9, [12]]], 5_000n, 5n],
    ['parts of two to the 10th', [[9, [0x8a]]], 512n, 500_000_000n],
    ['an offset in seconds', [[14, [7, 0, 0, 0, 0, 0, 0, 0]]], 1n, 7_000_001_000n],
    ['a time before 1970', [[14, Array(8).fill(0xff)]], 1n, 0n],
    ['a time beyond 64 bits', [[9, [0]]], 2n ** 63n, 2n ** 64n - 1n],
  ] as [string, [number, number[]][], bigint, bigint][])(
    'has time stamps in %s',
    (_, options, ticks, nanos) => {
      expect(read(section([{ data: [1], ticks }], { interfaces: [{ options }] }))).toMatchObject([{ nanos }]);
    },
  );

  it('has the direction of its packets, and loses their frame check sequences', () => {
    const data = [1, 2, 3, 4, 5, 6, 7, 8];
    const file = section(
      [
        { data, flags: 1 },
        { data, flags: 2 | (4 << 5) },
        { data, flags: 3 },
        { data, interface: 1 },
        { data, interface: 2 },
      ],
      { interfaces: [{}, { options: [[13, [4]]] }, { options: [[13, [32]]] }] },
    );
    expect(read(file).map((one) => [one.direction, one.data.length])).toEqual([
      [Direction.INBOUND, 8],
      [Direction.OUTBOUND, 4],
      [Direction.UNKNOWN, 8],
      [Direction.UNKNOWN, 4],
      [Direction.UNKNOWN, 4],
    ]);
  });

  it('has of a simple packet what the snap length of the first interface leaves', () => {
    const file = section([{ kind: 'simple', data: [1, 2, 3, 4], length: 90 }], { interfaces: [{ snap: 3 }] });
    expect(read(file)).toMatchObject([{ data: [1, 2, 3], length: 90 }]);
  });

  const words = new Words(true);
  it.each([
    [
      'names an interface that was not described',
      section([{ data: [1], interface: 4 }]),
      28 + 20 + 8,
      'interface 4',
    ],
    ['begins with a block that is no section', block(words, 6, []), 0, 'neither pcap nor pcapng'],
    [
      'has a length that is no multiple of four',
      [...section([]), ...words.u32(9), ...words.u32(13)],
      28 + 20 + 4,
      '13 bytes',
    ],
    [
      'has a length below that of an empty block',
      [...section([]), ...words.u32(9), ...words.u32(8)],
      28 + 20 + 4,
      '8 bytes',
    ],
    [
      'has a packet block without room for its fields',
      [...section([]), ...block(words, 6, [1])],
      28 + 20 + 4,
      '16 bytes',
    ],
    [
      'ends a block with another length',
      [...section([]), ...block(words, 9, [1, 2, 3, 4]).with(12, 5)],
      28 + 20 + 12,
      'ends as one of 5',
    ],
    [
      'has an option beyond its block',
      [...section([], { interfaces: [] }), ...block(words, 1, [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 99, 0])],
      28 + 16,
      'an option of 99 bytes',
    ],
    [
      'claims more captured bytes than its block has',
      section([{ data: [1, 2, 3, 4] }]).with(28 + 20 + 20, 77),
      28 + 20 + 20,
      '77 captured bytes',
    ],
    ['has a version to come', section([]).with(12, 2), 12, 'version 2'],
    ['has no byte order', section([]).with(8, 0), 8, 'byte order'],
  ])('is refused at the offset where it %s', (_, file, offset, what) => {
    const { error } = readUntilError(file);
    expect(error).toBeInstanceOf(TwinpathError);
    expect((error as TwinpathError).detail).toMatch(new RegExp(`^offset ${offset}: .*${what}`));
  });

  it('with gigabytes announced in a block ends with the file, and nothing is allocated for it', () => {
    const before = process.memoryUsage().arrayBuffers;
    for (const type of [6, 1, 0x0a0d0d0a, 0xbad]) {
      const file = [...section([]), ...words.u32(type), ...words.u32(0xffff_fff0), ...words.u32(0x1a2b3c4d)];
      const { error } = readUntilError([...file, ...words.u32(1), ...Array(16).fill(0)]);
      expect((error as TwinpathError).detail).toMatch(/^offset (48|52): /);
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 * 2 ** 20);
  });

  it('is read past a block that is longer than the buffer', () => {
    const fd = openSync(FILE, 'w');
    const size = 8 * 2 ** 20;
    const head = section([]);
    writeSync(fd, Uint8Array.from([...head, ...words.u32(0xbad), ...words.u32(size)]));
    ftruncateSync(fd, head.length + size - 4);
    closeSync(fd);
    const end = [...words.u32(size), ...section([{ data: [7] }])];
    writeFileSync(FILE, Uint8Array.from(end), { flag: 'a' });
    expect(readFile()).toMatchObject([{ data: [7] }]);
  });
});

describe('any file', () => {
  const packets: Written[] = [
    { data: [1, 2, 3, 4, 5] },
    { data: Array(60).fill(9), ticks: 5n, flags: 1 },
    { data: [] },
  ];
  const interfaces = [
    {
      options: [
        [9, [9]],
        [2, [97, 98]],
      ] as [number, number[]][],
    },
  ];
  const files = [
    classicFile(packets),
    classicFile(packets, { little: false, nanoseconds: true }),
    section(packets, { interfaces, noise: [[1, 2, 3]] }),
    section(packets, { interfaces, little: false }),
  ];

  it('that is cut anywhere ends between two packets or blocks, or in an error with the offset', () => {
    for (const file of files) {
      let last = 0;
      for (let length = 0; length < file.length; length++) {
        const { packets: count, error } = readUntilError(file.slice(0, length));
        expect(count).toBeGreaterThanOrEqual(last);
        last = count;
        if (error === undefined) continue;
        expect(error).toMatchObject({ code: 'ERR_CAPTURE_FILE', device: FILE });
        expect((error as TwinpathError).detail).toMatch(
          new RegExp(`^offset \\d+: the file ends at offset ${length}, inside`),
        );
      }
      expect(last).toBeGreaterThan(1);
    }
  });

  it('with any bytes changed is read to its end, or ends in an error with an offset inside of it', () => {
    const changes = fc.array(fc.tuple(fc.nat(), fc.oneof(fc.nat(255), fc.constantFrom(0, 0x7f, 0xff))), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(fc.constantFrom(...files), changes, (file, list) => {
        const damaged = [...file];
        for (const [at, value] of list) damaged[at % damaged.length] = value;
        const { packets: count, error } = readUntilError(damaged);
        expect(count).toBeLessThanOrEqual(damaged.length / 16);
        if (error === undefined) return;
        expect(error).toMatchObject({ code: 'ERR_CAPTURE_FILE' });
        const [, offset] = /^offset (\d+): /.exec((error as TwinpathError).detail!)!;
        expect(Number(offset)).toBeLessThanOrEqual(damaged.length);
      }),
      { numRuns: 3000 },
    );
  });

  it('of other bytes is refused', () => {
    expect(readUntilError([]).error).toMatchObject({
      detail: 'offset 0: the file ends at offset 0, inside the first word',
    });
    fc.assert(
      fc.property(bytes(200), (other) => {
        expect(readUntilError([1, ...other]).error).toMatchObject({ code: 'ERR_CAPTURE_FILE' });
      }),
    );
  });

  it.each([
    [[0x1f, 0x8b, 8, 0], 'gunzip'],
    [[0x28, 0xb5, 0x2f, 0xfd], 'unzstd'],
    [[4, 0x22, 0x4d, 0x18], 'unlz4'],
    [[0xfd, 0x37, 0x7a, 0x58], 'unxz'],
  ])('that is compressed is refused with the command that unpacks it', (file, command) => {
    expect(readUntilError(file).error).toMatchObject({ detail: expect.stringContaining(command) });
  });

  it('that is not there, or a folder, is refused with the system call', () => {
    expect(() => new CaptureReader(join(folder, 'none'))).toThrow(/none \(open: ENOENT/);
    expect(() => new CaptureReader(folder)).toThrow(/\(read: EISDIR/);
  });
});

describe('what the writer writes', () => {
  const nanos = 1_700_000_000_123_456_789n;
  const data = Uint8Array.of(1, 2, 3, 4, 5);

  it.each(['one.pcapng', 'one.pcap', 'one.cap'])('to %s is read back', (name) => {
    const file = join(folder, name);
    const writer = new CaptureWriter(file, {
      interfaces: [{ name: 'a' }, { name: 'b' }],
      application: 'test',
    });
    const kind = { interface: 1, direction: Direction.OUTBOUND, queue: 3, verdict: XdpAction.TX };
    for (let i = 0; i < 10_000; i++) writer.write({ ...kind, data, length: 99, nanos: nanos + BigInt(i) });
    writer.close();
    writer.close();
    const found = readFile(file);
    expect(found).toHaveLength(10_000);
    const classic = name === 'one.pcap';
    expect(writer.format).toBe(classic ? 'pcap' : 'pcapng');
    expect(found[9_999]).toEqual({
      ...{ data: [...data], length: 99, nanos: nanos + 9_999n, linkType: 1 },
      ...(classic ? { interface: 0, direction: 0 } : { interface: 1, direction: Direction.OUTBOUND }),
    });
  });

  it('is not written where it cannot be', () => {
    expect(() => new CaptureWriter(join(folder, 'none/file'))).toThrow(/\(open: ENOENT/);
    const full = new CaptureWriter('/dev/full');
    full.write({ interface: 0, data, nanos });
    expect(() => full.close()).toThrow(/\/dev\/full \(write: ENOSPC/);
  });
});
