/** The control thread dies: what it has ordered of workers ends. */
import { expect, it } from 'vitest';
import { ControlThread } from '../../../src/control/control-thread.ts';
import type { TwinpathError } from '../../../src/errors.ts';
import { CaptureOrders, writeCaptureOrder } from '../../../src/memory/capture-orders.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { geometryOf, single, validate } from '../../../src/settings.ts';

it('a control thread that dies leaves no order of a capture behind', async () => {
  const settings = validate(single({ network: 'memory', handler: 'file:///handler.mjs' }));
  const memory = Memory.create(geometryOf(settings, 4096));
  writeCaptureOrder(memory, 1, { id: 1, port: 0, snapLength: 1, program: Int32Array.of(0) });
  const failures: TwinpathError[] = [];
  const thread = new ControlThread(
    memory,
    { settings, ports: undefined as never }, // it dies of these
    (line) => line.close(),
    (error) => failures.push(error),
  );
  await thread.ended;
  expect(failures.map(({ code }) => code)).toEqual(['ERR_CONTROL']);
  expect(new CaptureOrders(memory).read()).toEqual([undefined, undefined]);
});
