import { expect, it } from 'vitest';
import { countCpus, kernelIsAtLeast } from '../../../src/kernel/machine.ts';

it.each([
  ['6.17.0', true],
  ['6.18.44-fc-v595', true],
  ['7.3.0-rc1', true],
  ['10.0', true],
  ['6.16.9', false],
  ['6.9.0', false],
  ['6.1.0-41-amd64', false],
  ['5.15.0-1089-azure', false],
  ['', false],
  ['next', false],
])('%o is a kernel from 6.17 on: %o', (name, whether) => {
  expect(kernelIsAtLeast(6, 17, name)).toBe(whether);
});

it.each([
  ['0\n', 1],
  ['0-3\n', 4],
  ['0-3,8,10-11\n', 7],
])('the list %o is of %i CPUs', (list, cpus) => {
  expect(countCpus(list)).toBe(cpus);
});
