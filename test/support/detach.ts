/** Taking a program of a port off its hook, as anybody may who has the rights. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { expect } from 'vitest';
import { loadShim } from '../../dist/src/kernel/shim.js';
import type { Lab } from './harness.ts';
import { linkIn } from './machine-state.ts';

const LINK_DETACH = 34;

/** As `bpftool link detach` does. The port's links are this process's: others' are left alone. */
export function detach(lab: Lab, device: string, type: string, where = ''): void {
  const { ifindex } = linkIn(lab.guest, device)!;
  let found = 0;
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`) !== 'anon_inode:bpf_link') continue;
    } catch {
      continue; // the one that reads the directory
    }
    const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
    const says = (name: string): string => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(info)?.[1] ?? '';
    if (says('link_type') !== type || Number(says('ifindex')) !== ifindex) continue;
    if (where !== '' && !info.includes(`(${where})`)) continue;
    const attributes = new DataView(new ArrayBuffer(4));
    attributes.setUint32(0, Number(fd), true);
    expect(loadShim().bpf(LINK_DETACH, attributes, 4)).toBe(0);
    found++;
  }
  expect(found).toBe(1);
}
