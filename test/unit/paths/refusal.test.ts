import { expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { refusalOf } from '../../../src/paths/af-xdp/refusal.ts';

const facts = {
  ...{ device: 'vf0', errno: Errno.EOPNOTSUPP, text: '', mtu: 1500 },
  ...{ active: new Set(['rx-gro']), queues: 2, maxQueues: 8 },
};

it('a refusal of native XDP is told in the words of the kernel, or else by its errno', () => {
  expect(refusalOf(facts)).toEqual({ why: 'native XDP was refused (EOPNOTSUPP)', mend: '' });
  const text = 'Peer MTU is too large to set XDP';
  expect(refusalOf({ ...facts, text }).why).toBe(
    `native XDP was refused (EOPNOTSUPP, the kernel says "${text}")`,
  );
});

it.each([
  [{ mtu: 3499 }, /^Lower the MTU, 3499 now: "ip link set vf0 mtu 3498"\.$/],
  [{ mtu: 3498 }, /^$/],
  [{ active: new Set(['rx-lro']) }, /^Switch lro off: "ethtool -K vf0 lro off"\.$/],
  [{ active: new Set(['rx-gro-hw']) }, /^Switch rx-gro-hw off: "ethtool -K vf0 rx-gro-hw off"\.$/],
  [{ queues: 5 }, /^It uses 5 of 8 channels: .*fewer queues\.$/],
  [{ queues: 4 }, /^$/],
  [{ queues: 0, maxQueues: 0 }, /^$/],
  [{ mtu: 9000, active: new Set(['rx-lro']) }, /MTU.*lro/],
])('with %o it says what to do about that', (change, mend) => {
  expect(refusalOf({ ...facts, ...change }).mend).toMatch(mend);
});
