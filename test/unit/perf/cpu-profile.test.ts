import { describe, expect, it } from 'vitest';
import { evidenceIn } from '../../../perf/profile/clinic.ts';
import { type CpuProfile, summarize, threadIdOf, threadNames } from '../../../perf/profile/cpu-profile.ts';
import { endedIn } from '../../../perf/profile/load.ts';

const node = (id: number, functionName: string, url = '', lineNumber = -1) => ({
  id,
  callFrame: { functionName, url, lineNumber },
});
const ran = (url: string): CpuProfile => ({ nodes: [node(1, '', url, 0)] });

describe('a CPU profile', () => {
  it('is summed by function: the time before each sample is its function’s', () => {
    const poll = 'file:///x/dist/src/datapath/port-queue.js';
    const profile: CpuProfile = {
      nodes: [
        node(1, '(idle)'),
        node(2, 'poll', poll, 96),
        node(3, 'poll', poll, 96),
        node(4, '', 'node:fs', 7),
      ],
      samples: [2, 3, 1, 4, 2],
      timeDeltas: [1000, 2000, 4000, -5, 1000],
    };
    expect(summarize(profile, 'worker')).toEqual({
      thread: 'worker',
      millis: 8,
      functions: [
        { name: '(idle)', millis: 4, share: 0.5 },
        { name: 'poll port-queue.js:97', millis: 4, share: 0.5 },
        { name: '(anonymous) node:fs:8', millis: 0, share: 0 },
      ],
    });
    expect(summarize({ nodes: [] }, 'none')).toEqual({ thread: 'none', millis: 0, functions: [] });
  });

  it('is of a thread, by the file that the thread was started with', () => {
    const profiles = new Map([
      [3, ran('file:///x/dist/workers/queue.js')],
      [0, ran('file:///x/dist/perf/profile/workload.js')],
      [1, ran('file:///x/dist/workers/coordinator.js')],
      [2, ran('file:///x/dist/workers/queue.js')],
      [5, ran('file:///x/dist/workers/traffic.js')],
      [7, ran('file:///elsewhere.js')],
    ]);
    expect([...threadNames(profiles)]).toEqual([
      [0, 'main'],
      [1, 'coordinator'],
      [2, 'queue-worker-1'],
      [3, 'queue-worker-2'],
      [5, 'traffic'],
      [7, 'thread-7'],
    ]);
  });

  it('is known by its file name', () => {
    expect(threadIdOf('CPU.20261124.181900.7496.12.003.cpuprofile')).toBe(12);
    expect(threadIdOf('perf.data')).toBeUndefined();
  });
});

describe('a page of clinic', () => {
  const page = (data: string) =>
    `<html><script type="application/json" id="clinic-data">${data}</script></html>`;

  it('of doctor holds as many samples as it has', () => {
    expect(evidenceIn('doctor', page('{"processStat":[{},{}]}')).count).toBe(2);
    for (const empty of [page('{"processStat":[]}'), page('{"process'), page('{}'), '<html></html>']) {
      expect(evidenceIn('doctor', empty).count).toBe(0);
    }
  });

  it('of the others names functions of ours, each counted once', () => {
    const html =
      '["poll /x/dist/src/datapath/port-queue.js:97:9","poll /x/dist/src/datapath/port-queue.js:97:9","/x/dist/workers/queue.js:1:1"]';
    expect(evidenceIn('flame', html).count).toBe(2);
    expect(evidenceIn('bubbleprof', '<script>node:internal/timers.js</script>').count).toBe(0);
  });
});

it('the line of the load is found between lines of other programs, if it is whole', () => {
  const ended = '{"kind":"ended","pid":7,"seconds":1,"packets":9}';
  expect(endedIn(`Analysing data\n${ended}\nDone`)).toEqual({
    kind: 'ended',
    pid: 7,
    seconds: 1,
    packets: 9,
  });
  expect(endedIn(ended)).toBeUndefined();
  expect(endedIn('')).toBeUndefined();
});
