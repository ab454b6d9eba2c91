/** The command in a place where it cannot do its work: it says why in one sentence. */
import { cpSync, mkdirSync, openSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { asNobody, publicCopy, ROOT } from '../support/nobody.ts';
import { type Outcome, Run, start, temporary, twinpath } from '../support/process.ts';

const MAIN = join(ROOT, 'dist/src/cli/main.js');

describe('any command', () => {
  it('survives a full disk with an error, and a reader who has gone without one', async () => {
    const full = await twinpath(['list', '--json'], { stdout: openSync('/dev/full', 'w') });
    expect(full.code).toBe(1);
    expect(full.stderr).toContain('The output could not be written: standard output: ENOSPC');
    const run = start(['list']);
    run.child.stdout?.destroy();
    expect(await run.outcome).toMatchObject({ code: 0, stderr: '' });
  });

  /** One sentence, and one JSON document. */
  const expectStart = ({ code, stdout, stderr }: Outcome, words: RegExp): void => {
    expect(code, stderr).toBe(1);
    expect(stderr).toMatch(words);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'ERR_START' } });
  };

  it('says it in a sentence when too few files may be open, to load it or to run', async () => {
    // How many Node needs at once is a matter of its version and its threads' luck: enough for it is enough for us.
    for (let limit = 24; limit <= 56; limit += 4) {
      const limited = ['prlimit', `--nofile=${limit}:${limit}`, '--', process.execPath, MAIN];
      const outcome = await new Run([...limited, 'run', 'drop', '--netvsc', 'nix0', '--json']).outcome;
      const { code } = JSON.parse(outcome.stdout).error;
      if (limit > 34 && code === 'ERR_DEVICE_NOT_FOUND') continue;
      if (code === 'ERR_START') expectStart(outcome, /could not be started.*ulimit -n/);
      else expect(outcome.stderr).toMatch(/^twinpath: .*EMFILE.*ulimit -n.*\n$/);
    }
  });

  it('says it in a sentence when Node’s permission model is in the way', async () => {
    const flag = process.allowedNodeEnvironmentFlags.has('--permission')
      ? '--permission'
      : '--experimental-permission';
    for (const allowed of [[], ['--allow-addons']]) {
      const node = [process.execPath, '--no-warnings', flag, '--allow-fs-read=*', ...allowed, MAIN];
      const { outcome } = new Run([...node, 'run', 'drop', '--netvsc', 'nix0', '--json']);
      expectStart(await outcome, /permission model.*--allow-addons --allow-worker/);
    }
  });

  it('names what this user may not read: a part of the package, or the handler', async () => {
    const folder = temporary();
    const { root, node } = publicCopy();
    for (const part of ['package.json', 'dist', 'build']) {
      cpSync(join(root, part), join(folder, part), { recursive: true });
    }
    const closed = join(folder, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    cpSync(join(root, 'node_modules'), join(closed, 'node_modules'), { recursive: true });
    symlinkSync(join(closed, 'node_modules'), join(folder, 'node_modules'));
    const list = asNobody([node, join(folder, 'dist/src/cli/main.js'), 'list', '--json']);
    expectStart(await new Run(list).outcome, /node_modules.*may not (read|enter)/);
    const handler = join(closed, 'handler.mjs');
    writeFileSync(handler, 'export default () => {};');
    const { code, stderr } = await twinpath(['run', handler], { nobody: true });
    expect(code).toBe(2);
    expect(stderr).toContain(`the file ${handler} cannot be read (EACCES)`);
  });
});
