/** Capture files as bytes, written from the formats' drafts and not with our writer: in either byte order, with what it never writes. */

export interface Written {
  readonly data: readonly number[];
  /** Bytes on the wire. Default: those of `data`. */
  readonly length?: number;
  /** Ticks of the file's, or the interface's, unit. */
  readonly ticks?: bigint;
  readonly interface?: number;
  readonly flags?: number;
  /** Default: an Enhanced Packet Block. */
  readonly kind?: 'enhanced' | 'simple' | 'obsolete';
}

/** Numbers in one byte order. */
export class Words {
  readonly little: boolean;
  constructor(little: boolean) {
    this.little = little;
  }
  u16 = (value: number): number[] => this.#order([value >>> 8, value]);
  u32 = (value: number): number[] => this.#order([value >>> 24, value >>> 16, value >>> 8, value]);
  u64 = (value: bigint): number[] => {
    const [high, low] = [this.u32(Number(value >> 32n)), this.u32(Number(value & 0xffffffffn))];
    return this.little ? [...low, ...high] : [...high, ...low];
  };
  #order(bytes: number[]): number[] {
    const masked = bytes.map((byte) => byte & 0xff);
    return this.little ? masked.reverse() : masked;
  }
}

export function classicFile(
  packets: readonly Written[],
  { little = true, nanoseconds = false, link = 1, version = [2, 4] as readonly [number, number] } = {},
): number[] {
  const { u16, u32 } = new Words(little);
  return [
    ...u32(nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4),
    ...version.flatMap(u16),
    ...[0, 0, 65_535, link].flatMap(u32),
    ...packets.flatMap(({ data, length = data.length, ticks = 0n }) => {
      const units = nanoseconds ? 1_000_000_000n : 1_000_000n;
      const words = [Number(ticks / units), Number(ticks % units), data.length, length];
      return [...words.flatMap(u32), ...data];
    }),
  ];
}

const pad = (bytes: readonly number[]): number[] => [
  ...bytes,
  ...Array((4 - (bytes.length % 4)) % 4).fill(0),
];

export interface SectionOptions {
  readonly little?: boolean;
  /** Options of each interface: code and value. */
  readonly interfaces?: readonly {
    readonly link?: number;
    readonly snap?: number;
    readonly options?: readonly (readonly [code: number, value: readonly number[]])[];
  }[];
  /** Blocks between the others, of unknown kinds. */
  readonly noise?: readonly number[][];
}

export function section(
  packets: readonly Written[],
  { little = true, interfaces = [{}], noise = [] }: SectionOptions = {},
): number[] {
  const words = new Words(little);
  const { u16, u32, u64 } = words;
  const options = (list: readonly (readonly [number, readonly number[]])[]): number[] =>
    list.length === 0
      ? []
      : [...list.flatMap(([code, value]) => [...u16(code), ...u16(value.length), ...pad(value)]), ...u32(0)];
  const strange = (i: number): number[] =>
    noise.length === 0 ? [] : block(words, 0xbad, noise[i % noise.length]!);
  const packet = ({
    data,
    length = data.length,
    ticks = 0n,
    kind,
    flags,
    interface: number = 0,
  }: Written) => {
    if (kind === 'simple') return block(words, 3, [...u32(length), ...pad(data)]);
    const first = kind === 'obsolete' ? [...u16(number), ...u16(7)] : u32(number);
    const [high, low] = [Number(ticks >> 32n), Number(ticks & 0xffffffffn)];
    const flagged = flags === undefined ? [] : options([[2, u32(flags)]]);
    return block(words, kind === 'obsolete' ? 2 : 6, [
      ...first,
      ...[high, low, data.length, length].flatMap(u32),
      ...pad(data),
      ...flagged,
    ]);
  };
  return [
    ...block(words, 0x0a0d0d0a, [...u32(0x1a2b3c4d), ...u16(1), ...u16(0), ...u64(2n ** 64n - 1n)]),
    ...interfaces.flatMap(({ link = 1, snap = 0, options: list = [] }, i) => [
      ...strange(i),
      ...block(words, 1, [...u16(link), ...u16(0), ...u32(snap), ...options(list)]),
    ]),
    ...packets.flatMap((one, i) => [...strange(i), ...packet(one)]),
  ];
}

export function block({ u32 }: Words, type: number, body: readonly number[]): number[] {
  const length = u32(12 + pad(body).length);
  return [...u32(type), ...length, ...pad(body), ...length];
}
