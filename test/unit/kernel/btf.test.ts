/** Ids of functions in BTF: of types made by hand, one of each kind, and of the kernel's own. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { functionIds, kernelFunctionIds } from '../../../src/kernel/btf.ts';

const NAMES = ['other', 'bpf_first', 'bpf_second', 'bpf_first_longer'];
const strings = Buffer.from(`\0${NAMES.join('\0')}\0`);
const nameAt = (name: string): number => strings.indexOf(`\0${name}\0`) + 1;

/** A type of a kind with so many members, and the bytes that the kernel's documentation gives it after its head. */
function type(kind: number, name = '', members = 0, following = 0): Buffer {
  const bytes = Buffer.alloc(12 + following, 0xee);
  bytes.writeUInt32LE(name === '' ? 0 : nameAt(name), 0);
  bytes.writeUInt32LE(((kind << 24) | members) >>> 0, 4);
  return bytes;
}

function btf(types: readonly Buffer[]): Buffer {
  const body = Buffer.concat(types);
  const header = Buffer.alloc(24);
  header.writeUInt16LE(0xeb9f, 0);
  header[2] = 1;
  header.writeUInt32LE(24, 4);
  header.writeUInt32LE(body.length, 12);
  header.writeUInt32LE(body.length, 16);
  header.writeUInt32LE(strings.length, 20);
  return Buffer.concat([header, body, strings]);
}

const INT = type(1, '', 0, 4);
const everyKind = [
  ...[INT, type(2), type(3, '', 0, 12), type(4, '', 2, 24), type(5, '', 1, 12), type(6, '', 3, 24)],
  ...[type(7), type(8, 'bpf_first'), type(9), type(10), type(11), type(12, 'other')],
  ...[type(13, '', 2, 16), type(14, '', 0, 4), type(15, '', 2, 24), type(16), type(17, '', 0, 4), type(18)],
  ...[type(19, '', 2, 24), type(12, 'bpf_first'), type(12, 'bpf_second')],
];

it('are found after types of every kind, and only those of functions', () => {
  const found = functionIds(btf(everyKind), ['bpf_second', 'bpf_first', 'bpf_first_longer', 'absent']);
  expect([...found].sort()).toEqual([
    ['bpf_first', 20],
    ['bpf_second', 21],
  ]);
  expect(functionIds(btf(everyKind), ['absent']).size).toBe(0);
});

it('are refused with the reason in data that is not BTF, or newer than this reader', () => {
  expect(() => functionIds(Buffer.alloc(24), ['bpf_first'])).toThrow('it is not BTF');
  expect(() => functionIds(btf([type(20), type(12, 'bpf_first')]), ['bpf_first'])).toThrow('unknown kind 20');
});

it('of a kernel without BTF are none, and the reason says so', () => {
  const { ids, why } = kernelFunctionIds(['bpf_first'], '/nowhere/vmlinux');
  expect([ids.size, why]).toEqual([
    0,
    expect.stringContaining('(/nowhere/vmlinux) cannot be used: there is none'),
  ]);
  const folder = mkdtempSync(join(tmpdir(), 'tp-btf-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'vmlinux'), btf(everyKind));
  expect(kernelFunctionIds(['bpf_first'], join(folder, 'vmlinux'))).toEqual({
    ids: new Map([['bpf_first', 20]]),
  });
});

it.runIf(existsSync('/sys/kernel/btf/vmlinux'))('of the running kernel are found', () => {
  const { ids, why } = kernelFunctionIds(['vfs_read', 'no_such_function']);
  expect([ids.get('vfs_read'), ids.size, why]).toEqual([expect.any(Number), 1, undefined]);
});
