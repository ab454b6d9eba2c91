/** `twinpath top` on a real terminal of 80 × 24: tmux. */
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { passed, Scene, until } from '../support/harness.ts';
import { ROOT } from '../support/nobody.ts';
import { temporary } from '../support/process.ts';

it('top fits 80 × 24, redraws in place, and leaves the shell usable', async ({ skip }) => {
  skip(spawnSync('tmux', ['-V']).status !== 0, 'needs tmux');
  const scene = await Scene.open();
  const { port } = scene;
  const traffic = await scene.drive();
  await scene.plug();
  await until('the control socket', () => port.controlSocket !== undefined);

  const socket = join(temporary(), 'tmux');
  const tmux = (...words: string[]): string =>
    execFileSync('tmux', ['-f', '/dev/null', '-S', socket, ...words], { encoding: 'utf8' });
  const command = `${process.execPath} ${join(ROOT, 'dist/src/cli/main.js')} top ${process.pid}`;
  tmux('new-session', '-d', '-x', '80', '-y', '24', 'sh');
  onTestFinished(() => void spawnSync('tmux', ['-S', socket, 'kill-server']));
  tmux('send-keys', 'clear', 'Enter', command, 'Enter');
  const screen = (): string[] => tmux('capture-pane', '-p').split('\n');
  const said = (words: RegExp): boolean => screen().some((line) => words.test(line));
  await until('a picture', () => said(/^ {4}1 +vf +\d/) && said(/Ctrl-C ends/));

  await scene.unplug(); // more lines than before: a failover for which the picture has to make room
  await until('the failover in it', () => said(/vf → synthetic/));
  await passed(traffic);
  await scene.plug();
  await until('the owner in it', () => said(/^ {4}0 +vf +\d/));
  const lines = screen();
  expect(lines.length).toBeLessThanOrEqual(25); // the last one is behind the final line feed
  const heads = lines.filter((line) => /^eth0 {2}process \d+, \w+, link up/.test(line));
  expect(heads).toHaveLength(1);
  expect(lines.filter((line) => /^queue +owner +packets\/s/.test(line))).toHaveLength(1);
  expect(lines.filter((line) => line.includes('Ctrl-C ends'))).toHaveLength(1);
  expect(lines.filter((line) => line.startsWith('drops/s:'))).toHaveLength(1);
  // A cursor in the last column would have wrapped the line.
  expect(lines.filter((line) => line.length >= 80)).toEqual([]);

  tmux('send-keys', 'C-c');
  await until('the shell again', () => tmux('display', '-p', '#{pane_current_command}').trim() === 'sh');
  tmux('send-keys', "printf 'still %s' here", 'Enter');
  await until('its answer', () => said(/^still here/));
  await scene.finish();
});
