/** In the guest: runs scenarios one after the other, and prints a line of JSON for each. */
import { release } from 'node:os';
import { buildNetvsc, Machine, rig } from './machine.mjs';
import { SCENARIOS } from './scenarios.mjs';
import { SUITES } from './suites.mjs';

const [model, ...names] = process.argv.slice(2);
buildNetvsc();
await rig.ask('path syn');
for (const name of names) {
  let result;
  try {
    result = await (SCENARIOS[name] ?? SUITES[name])(model);
  } catch (error) {
    result = { failures: [error.stack.split('\n').slice(0, 3).join(' ')] };
    await rig.ask('traffic stop').catch(() => {});
    await Machine.current?.port?.close().catch(() => {});
  }
  console.log(`RESULT ${JSON.stringify({ kernel: release(), model, scenario: name, ...result })}`);
}
process.exit(0);
