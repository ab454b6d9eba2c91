/** A VF of a lab that takes no long packets. */
import { expect, onTestFinished } from 'vitest';
import { Bpf } from '../../src/kernel/bpf.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import type { Lab } from './harness.ts';
import { linkIn } from './machine-state.ts';

/** r0 = 2 (XDP_PASS); exit. */
const PASS = Uint8Array.of(0xb4, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);

/**
 * Has the VF refuse packets longer than a page: a veth's peer may not be longer than what an XDP program without fragments
 * takes (drivers/net/veth.c, veth_xdp_set).
 */
export function limitVf(lab: Lab): void {
  const shim = loadShim();
  const bpf = new Bpf(shim);
  const program = bpf.load('xdp', 'pass', PASS);
  const { ifindex } = linkIn(lab.host, 'v0')!;
  const link = inNamespace(shim, lab.host, () => bpf.attachXdp(program, ifindex, 'native'));
  for (const fd of [program, link]) onTestFinished(() => void shim.close(fd));
  expect(link).toBeGreaterThan(0);
}
