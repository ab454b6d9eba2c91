/**
 * A thread that loads while its port closes or its process exits: Node and koffi abort the process where one is ended there,
 * and a file that it was just opening stays open.
 *
 * @module-tag unprivileged
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { classicFile } from '../support/capture-files.ts';
import { Run, temporary } from '../support/process.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
/** A thread takes 200 ms to load on an idle machine. */
const DELAYS = 200;

it('a port may close at any moment of its next worker’s start', { timeout: 240_000 }, async () => {
  const { code, stdout, stderr } = await new Run([
    process.execPath,
    fixture('closing-port.mjs'),
    String(DELAYS),
  ]).outcome;
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: `${DELAYS / 8} 0\n`, stderr: '' });
});

it.each([
  [1, 'the supervisor'],
  [2, 'the coordinator'],
  [3, 'a worker'],
  [4, 'both workers'],
  [5, 'the control socket'],
])('a process exits as it wanted when %i threads have begun to load, the last %s', async (threads) => {
  const file = join(temporary(), 'loading');
  const command = ['--require', fixture('slow-loading.cjs'), fixture('exiting-port.mjs'), String(threads)];
  const env = { ...process.env, LOADING_FILE: file };
  const { code, stderr } = await new Run([process.execPath, ...command], { env }).outcome;
  expect({ code, stderr }).toEqual({ code: 7, stderr: '' });
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  expect(lines.filter((line) => line === 'begun').length).toBeGreaterThanOrEqual(threads);
  expect(lines.filter((line) => line === 'done')).toHaveLength(lines.length / 2);
});

it('a process exits as it wanted when the thread that plays a file has begun to load', async () => {
  const folder = temporary();
  const [file, pcap] = ['loading', 'in.pcap'].map((name) => join(folder, name)) as [string, string];
  writeFileSync(pcap, Uint8Array.from(classicFile([])));
  const command = ['--require', fixture('slow-starting.cjs'), fixture('exiting-port.mjs'), '1', pcap];
  const env = { ...process.env, LOADING_FILE: file };
  const { code, stderr } = await new Run([process.execPath, ...command], { env }).outcome;
  expect({ code, stderr }).toEqual({ code: 7, stderr: '' });
  expect(readFileSync(file, 'utf8')).toBe('begun\ndone\n');
});
