/** A slow reader of pcapng, written from the draft's figures. It expects what it reads to be well-formed, else it throws. */
export interface PcapngBlock {
  readonly type: number;
  readonly body: Buffer;
  readonly options: ReadonlyMap<number, Buffer>;
}

export interface PcapngPacket {
  readonly interface: number;
  readonly nanos: bigint;
  readonly data: number[];
  readonly length: number;
  readonly direction: number | undefined;
  readonly dropCount: number | undefined;
  readonly queue: number | undefined;
  readonly verdict: number | undefined;
}

/** Bytes before the options of a block. */
function fixedBytes(type: number, body: Buffer): number {
  if (type === 6) return 20 + Math.ceil(body.readUInt32LE(12) / 4) * 4;
  return { 168627466: 16, 1: 8, 5: 12 }[type]!;
}

/** A file may have a million blocks, and an `expect` takes microseconds. */
function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

export function blocksOf(file: Uint8Array): PcapngBlock[] {
  const bytes = Buffer.from(file);
  const blocks: PcapngBlock[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at + 4);
    check(length % 4 === 0 && bytes.readUInt32LE(at + length - 4) === length, `a block of ${length} bytes`);
    const type = bytes.readUInt32LE(at);
    const body = bytes.subarray(at + 8, at + length - 4);
    const options = new Map<number, Buffer>();
    for (let option = fixedBytes(type, body); option < body.length; ) {
      const [code, size] = [body.readUInt16LE(option), body.readUInt16LE(option + 2)];
      if (code === 0) check(size === 0 && option + 4 === body.length, 'an end of options before the end');
      else {
        check(!options.has(code), `option ${code} twice`);
        options.set(code, body.subarray(option + 4, option + 4 + size));
        for (let pad = size; pad % 4 !== 0; pad++) check(body[option + 4 + pad] === 0, 'padding');
      }
      option += 4 + Math.ceil(size / 4) * 4;
    }
    blocks.push({ type, body, options });
    at += length;
  }
  return blocks;
}

export const textOf = (block: PcapngBlock, code: number): string | undefined =>
  block.options.get(code)?.toString('utf8');

export function readPacket({ type, body, options }: PcapngBlock): PcapngPacket {
  check(type === 6, `a packet in a block of type ${type}`);
  const verdict = options.get(7);
  check(verdict === undefined || (verdict.length === 9 && verdict[0] === 2), 'a verdict that is none of XDP');
  const dropCount = options.get(4)?.readBigUInt64LE();
  return {
    interface: body.readUInt32LE(0),
    nanos: (BigInt(body.readUInt32LE(4)) << 32n) | BigInt(body.readUInt32LE(8)),
    data: [...body.subarray(20, 20 + body.readUInt32LE(12))],
    length: body.readUInt32LE(16),
    direction: options.get(2)?.readUInt32LE(),
    dropCount: dropCount === undefined ? undefined : Number(dropCount),
    queue: options.get(6)?.readUInt32LE(),
    verdict: verdict === undefined ? undefined : Number(verdict.readBigUInt64LE(1)),
  };
}
