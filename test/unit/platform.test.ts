/** What the package does on another platform: this process pretends to be one. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openPort, openPorts } from '../../src/index.ts';
import { packageRoot, rootAbove } from '../../src/package-root.ts';

const real = Object.getOwnPropertyDescriptor(process, 'platform')!;
beforeEach(() => {
  Object.defineProperty(process, 'platform', { ...real, value: 'darwin' });
});
afterEach(() => {
  Object.defineProperty(process, 'platform', real);
});

const refusal = expect.objectContaining({
  name: 'TwinpathError',
  code: 'ERR_NOT_LINUX',
  device: 'darwin',
  hint: expect.stringContaining('twinpath/testing'),
});

it('openPort on another platform throws ERR_NOT_LINUX before it checks options', async () => {
  await expect(openPort({ handler: 'nonsense', quues: 1 } as never)).rejects.toEqual(refusal);
  await expect(openPorts(undefined as never)).rejects.toEqual(refusal);
});

it('openPort with network memory throws ERR_NOT_LINUX on another platform', async () => {
  await expect(openPort({ network: 'memory', handler: 'file:///none.mjs' })).rejects.toEqual(refusal);
});

it('the search for the package’s root ends with an error at the root of the file system', () => {
  const refused = expect.objectContaining({
    code: 'ERR_SHIM_MISSING',
    hint: expect.stringContaining('bundle'),
  });
  expect(() => rootAbove('/')).toThrow(refused);
  expect(() => rootAbove('/none/of/these')).toThrow(refused);
  expect(rootAbove(`${packageRoot}/none/of/these`)).toBe(packageRoot);
});
