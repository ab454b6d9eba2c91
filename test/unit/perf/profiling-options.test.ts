import { describe, expect, it } from 'vitest';
import { LOAD_OPTIONS, type Load, loadOf, loadProgram } from '../../../perf/profile/load.ts';
import { type CommandTable, parse } from '../../../src/cli/arguments.ts';
import { threadEnvironment } from '../../../src/coordinator/thread-environment.ts';

const table: CommandTable = {
  ...{ program: 'npm run', name: 'perf:x --', summary: '', positionals: [], options: LOAD_OPTIONS },
  ...{ notes: [], examples: [], exits: [] },
};
const load = (line: string, inline = false): Load =>
  loadOf(parse(table, line.split(' ').filter(Boolean)), inline);

describe('the load of a profiler', () => {
  it('lasts ten seconds over rings in memory unless the options say otherwise', () => {
    expect(load('')).toEqual({
      ...{ network: 'memory', wasm: false, queues: 1, seconds: 10, inline: false },
    });
    expect(load('--network veth --wasm --queues 3 --seconds 2')).toMatchObject({
      ...{ network: 'veth', wasm: true, queues: 3, seconds: 2 },
    });
  });

  it.each([
    ['--secnds 3', 'Did you mean --seconds'],
    ['--seconds', 'needs a value'],
    ['--seconds 0', 'from 1 to 3600, not 0'],
    ['--seconds 1e3', 'not 1e3'],
    ['--network vet', 'Did you mean veth'],
    ['flame', '"npm run perf:x --" takes no argument'],
    ['--out=', 'needs a value'],
  ])('refuses %j: %s', (line, why) => {
    expect(() => load(line)).toThrow(why);
  });

  it.each(['--network veth', '--queues 2'])('refuses %s where the profiler sees one thread', (line) => {
    expect(() => load(line, true)).toThrow('perf:profile shows all threads');
    expect(load('', true).inline).toBe(true);
  });

  it('is started with what was asked for', () => {
    const asked = load('--wasm --seconds 2');
    expect(JSON.parse(loadProgram(asked)[1]!)).toEqual(asked);
  });
});

describe('the environment of threads', () => {
  it('is inherited, whatever the program was given', () => {
    expect(threadEnvironment({})).toBeUndefined();
    expect(
      threadEnvironment({ NODE_OPTIONS: '--import tsx -r agent.js', NODE_PATH: '/usr/lib' }),
    ).toBeUndefined();
  });

  it('has no options where Clinic.js has put its samplers into them', () => {
    const doctor = {
      NODE_OPTIONS: '-r no-cluster.js -r sampler.js',
      NODE_PATH: '/x/@clinic/doctor/injects',
      A: 'b',
    };
    expect(threadEnvironment(doctor)).toEqual({ ...doctor, NODE_OPTIONS: '' });
    const heap = { NODE_OPTIONS: '-r "/x/node_modules/@clinic/heap-profiler/src/injects/ipc.js"' };
    expect(threadEnvironment(heap)).toEqual({ NODE_OPTIONS: '' });
  });
});
