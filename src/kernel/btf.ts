/**
 * The kernel's own type information (BTF): only the ids of functions in it, by which a BPF program calls them. Format: the
 * kernel's Documentation/bpf/btf.rst.
 *
 * The file has five megabytes, so it is read when a program needs it and not kept: some 20 ms. Coordinator thread only.
 */
import { readFileSync } from 'node:fs';

const VMLINUX = '/sys/kernel/btf/vmlinux';
const MAGIC = 0xeb9f;
/** `struct btf_header` */
const Header = { magic: 0, length: 4, typesAt: 8, typesBytes: 12, stringsAt: 16, stringsBytes: 20 } as const;
/** `struct btf_type`: offset of its name, then a word with the kind and the number of members, then a size or a type. */
const TYPE_BYTES = 12;

/** BTF_KIND_*, and the bytes that follow `struct btf_type`: fixed ones, and for each member. */
const FUNC = 12;
const FOLLOWING: Readonly<Record<number, readonly [fixed: number, each: number]>> = {
  ...{ 1: [4, 0], 3: [12, 0], 4: [0, 12], 5: [0, 12], 6: [0, 8], 13: [0, 8] },
  ...{ 14: [4, 0], 15: [0, 12], 17: [4, 0], 19: [0, 12] },
};
const LAST_KIND = 19;

/**
 * The ids of these functions in BTF data, of those that it has.
 *
 * @throws RangeError if it is not BTF, or has types that a newer kernel has added
 */
export function functionIds(data: Uint8Array, names: readonly string[]): ReadonlyMap<string, number> {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  if (view.getUint16(Header.magic, true) !== MAGIC) throw new RangeError('it is not BTF');
  const header = view.getUint32(Header.length, true);
  const word = (at: number): number => view.getUint32(at, true);
  const strings = header + word(Header.stringsAt);
  const text = Buffer.from(data.buffer, data.byteOffset + strings, word(Header.stringsBytes));
  const byOffset = new Map<number, string>();
  for (const name of names) {
    const at = text.indexOf(`\0${name}\0`, 0, 'latin1');
    if (at >= 0) byOffset.set(at + 1, name);
  }
  const found = new Map<string, number>();
  if (byOffset.size === 0) return found;
  let at = header + word(Header.typesAt);
  const end = at + word(Header.typesBytes);
  for (let id = 1; at < end; id++) {
    const info = word(at + 4);
    const kind = (info >>> 24) & 0x1f;
    if (kind > LAST_KIND) throw new RangeError(`type ${id} is of the unknown kind ${kind}`);
    const name = kind === FUNC ? byOffset.get(word(at)) : undefined;
    if (name !== undefined) found.set(name, id);
    const [fixed, each] = FOLLOWING[kind] ?? [0, 0];
    at += TYPE_BYTES + fixed + each * (info & 0xffff);
  }
  return found;
}

/** The ids of the running kernel's functions; why there are none, in words. */
export function kernelFunctionIds(
  names: readonly string[],
  file = VMLINUX,
): { readonly ids: ReadonlyMap<string, number>; readonly why?: string } {
  try {
    return { ids: functionIds(readFileSync(file), names) };
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is none' : (error as Error).message;
    return { ids: new Map(), why: `the kernel's type information (${file}) cannot be used: ${why}` };
  }
}
