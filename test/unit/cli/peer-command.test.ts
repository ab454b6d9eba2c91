import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { commandLine, userShell } from '../../../src/cli/peer-command.ts';
import { isExecutable } from '../../../src/cli/try-hints.ts';

const BASH = '/bin/bash';

test('a command line runs with sh, whatever SHELL is', () => {
  expect(commandLine('ping $X', { SHELL: '/bin/zsh' }).words).toEqual(['sh', '-c', 'ping $X']);
});

test.each([
  ['unset', undefined],
  ['empty', ''],
  ['not there', '/nowhere/bash'],
  ['not absolute', 'bash'],
])('the shell is /bin/sh when SHELL is %s', (_, SHELL) => {
  expect(userShell({ SHELL }, true).words).toEqual(['/bin/sh']);
});

test('a shell without a terminal gets the environment as it is', () => {
  const environment = { SHELL: '/bin/sh', A: 'b' };
  expect(userShell(environment, false)).toMatchObject({ words: ['/bin/sh'], environment });
});

test.skipIf(!isExecutable(BASH))(
  'bash puts its place before the prompt of the rc file, in the first shell only',
  () => {
    const home = mkdtempSync(join(tmpdir(), 'tp-prompt-'));
    onTestFinished(() => rmSync(home, { recursive: true }));
    writeFileSync(join(home, '.bashrc'), "PS1='mine> '\n");
    const { words, environment } = userShell({ SHELL: BASH, HOME: home, PATH: process.env.PATH }, true);
    const input = 'echo $PROMPT_COMMAND.\nbash --norc -ic "echo inner $PROMPT_COMMAND."\nexit\n';
    const { stdout, stderr } = spawnSync(words[0]!, ['-i'], { env: environment, input, encoding: 'utf8' });
    expect(stderr.split('(twinpath peer) mine> ')).toHaveLength(4);
    expect(stdout).toBe('.\ninner .\n');
  },
);

test.skipIf(!isExecutable('/bin/sh'))('sh takes the prompt from its environment', () => {
  const { words, environment } = userShell({ SHELL: '/bin/sh', PATH: process.env.PATH }, true);
  const { stderr } = spawnSync(words[0]!, ['-i'], { env: environment, input: 'exit\n', encoding: 'utf8' });
  expect(stderr).toContain('(twinpath peer) # ');
});
