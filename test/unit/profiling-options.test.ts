import { describe, expect, it } from 'vitest';
import {
  parseClinic,
  parseProfile,
  parseWorkload,
  UsageError,
  workloadArguments,
} from '../../perf/profiling/options.ts';
import { threadEnvironment } from '../../src/coordinator/thread-environment.ts';

const clinic = (line: string) => parseClinic(line.split(' ').filter(Boolean));
const profile = (line: string) => parseProfile(line.split(' ').filter(Boolean));

describe('the command line of perf:clinic', () => {
  it('is a tool, and a load of ten seconds over memory', () => {
    expect(clinic('doctor')).toMatchObject({
      tool: 'doctor',
      workload: { network: 'memory', handler: 'reflect', queues: 1, seconds: 10, inline: false },
      timeout: 190,
      install: false,
    });
  });

  it('runs the poll loop on the main thread for those that see no other', () => {
    for (const tool of ['flame', 'heapprofiler'])
      expect(clinic(tool)).toHaveProperty('workload.inline', true);
    for (const tool of ['doctor', 'bubbleprof'])
      expect(clinic(tool)).toHaveProperty('workload.inline', false);
  });

  it('takes options of the workload before and after --, and the last word counts', () => {
    expect(clinic('doctor --seconds 3 --network veth -- --seconds 4 --queues 2')).toMatchObject({
      workload: { network: 'veth', seconds: 4, queues: 2 },
      timeout: 184,
    });
  });

  it.each([
    ['', 'which tool'],
    ['flam', 'did you mean flame'],
    ['doctor flame', 'one word too many'],
    ['doctor --secnds 3', 'did you mean --seconds'],
    ['doctor --seconds', 'argument missing'],
    ['doctor --seconds 0', 'from 1 to 3600, not 0'],
    ['doctor --seconds 1e3', 'not 1e3'],
    ['doctor --network vet', 'did you mean veth'],
    ['doctor --seconds 10 --timeout 10', 'more than the 10 s'],
    ['doctor -- --install', 'no option --install'],
    ['doctor --handler echo', 'only reflect'],
    ['flame --network veth', 'perf:profile shows all threads'],
    ['flame --queues 2', '--queues 1'],
    ['doctor --out=', '--out needs a value'],
  ])('%j is refused: %s', (line, why) => {
    expect(() => clinic(line)).toThrow(UsageError);
    expect(() => clinic(line)).toThrow(why);
  });

  it('explains itself whatever else is there', () => {
    expect(clinic('--help --seconds nonsense')).toBe('help');
  });
});

describe('the command line of perf:profile', () => {
  it('has one of its own', () => {
    expect(profile('--top 5 --full --json -- --network veth')).toMatchObject({
      workload: { network: 'veth', inline: false },
      ...{ top: 5, full: true, json: true },
    });
    expect(() => profile('--tops 5')).toThrow('did you mean --top');
    expect(() => profile('flame')).toThrow('one word too many');
  });
});

it('a workload is started with what was asked for', () => {
  for (const line of ['flame --wasm --seconds 2', 'doctor --network veth --handler echo --queues 3']) {
    const options = clinic(line);
    if (options === 'help') throw new Error('help');
    expect(parseWorkload(workloadArguments(options.workload))).toEqual(options.workload);
  }
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
