/** Where root looks for the control sockets of other users, and where it does not. */
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { foreignFolders } from '../../../src/kernel/runtime-folder.ts';

const NOBODY = 65_534;

it('root looks in the private folders of other users, and follows no link that one of them has made', ({
  skip,
}) => {
  skip(process.geteuid?.() !== 0, 'needs root');
  const run = mkdtempSync(join(tmpdir(), 'twinpath-run-'));
  onTestFinished(() => rmSync(run, { recursive: true }));
  const folder = (name: string, mode: number, owner = NOBODY): void => {
    mkdirSync(join(run, name), { recursive: true });
    chmodSync(join(run, name), mode);
    chownSync(join(run, name), owner, owner);
  };
  folder('user', 0o755, 0);
  for (const parent of [
    'user/1000',
    'user/1001',
    'user/1002',
    'twinpath-eth1',
    'twinpath-eth2',
    'other-eth3',
  ])
    folder(parent, 0o700);
  folder('user/1000/twinpath', 0o700);
  folder('user/1001/twinpath', 0o755); // others can enter it
  symlinkSync('/run', join(run, 'user/1002/twinpath'));
  folder('twinpath-eth1/twinpath', 0o700);
  folder('twinpath-eth2/twinpath', 0o700, 0); // another's than that of the folder above
  folder('other-eth3/twinpath', 0o700);
  expect(foreignFolders(run)).toEqual([join(run, 'twinpath-eth1/twinpath'), join(run, 'user/1000/twinpath')]);
});
