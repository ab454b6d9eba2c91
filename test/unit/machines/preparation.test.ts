/** What prepares emulated machines: one that cannot have them is told so in a line, and a killed run leaves nothing half. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';

const MACHINES = fileURLToPath(new URL('../../machines/', import.meta.url));
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twinpath-machines-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
});

describe('the smoke of the machines', () => {
  it('is skipped with a one-line reason and a report if the tools for its preparation are missing', () => {
    const report = join(folder, 'report.json');
    const { status, stderr } = spawnSync(
      process.execPath,
      [join(MACHINES, 'run.mjs'), '--smoke', '--report', report],
      { encoding: 'utf8', env: { PATH: folder, TWINPATH_MACHINES: join(folder, 'rig') } },
    );
    expect(stderr).toMatch(/^skipped: [^\n]+\n$/);
    expect(status).toBe(0);
    const [{ assertionResults }] = JSON.parse(readFileSync(report, 'utf8')).testResults;
    expect(assertionResults).toMatchObject([{ status: 'skipped' }]);
    expect(existsSync(join(folder, 'rig'))).toBe(false);
  });

  it('without its name it is an error', () => {
    const { status, stderr } = spawnSync(process.execPath, [join(MACHINES, 'run.mjs'), '--kernel', '6.1'], {
      ...{ encoding: 'utf8', env: { PATH: folder, TWINPATH_MACHINES: join(folder, 'rig') } },
    });
    expect(stderr).toMatch(/^test:machines: [^\n]+\n$/);
    expect(status).toBe(2);
  });
});

describe('a preparation', () => {
  const rig = () => join(folder, 'rig');
  /** A script that prepares, with an apt-get of that text. */
  function prepare(script: string, aptGet: string) {
    const programs = join(folder, 'bin');
    mkdirSync(programs, { recursive: true });
    for (const [name, text] of [
      ['apt-get', aptGet],
      ['apt-cache', 'exit 0'],
    ] as const) {
      writeFileSync(join(programs, name), `#!/bin/sh\n${text}\n`);
      chmodSync(join(programs, name), 0o755);
    }
    const env = { ...process.env, PATH: `${programs}:${process.env.PATH}`, TWINPATH_MACHINES: rig() };
    return spawnSync('bash', ['-c', script], { encoding: 'utf8', env });
  }
  const sourced = (script: string) =>
    `set -euo pipefail; rig=$TWINPATH_MACHINES; . ${MACHINES}packages.sh; ${script}`;

  it.each(['prepare-arm64.sh', 'prepare-kernel.sh', 'prepare-qemu.sh'])(
    '%s ends with 69 and says what it lacks where no mirror answers',
    (name) => {
      const sources =
        'case $1 in indextargets) echo http://mirror ;; *) echo "E: no route" >&2; exit 100 ;; esac';
      const { status, stdout } = prepare(`bash ${join(MACHINES, name)}`, sources);
      expect(stdout).toMatch(/^apt-get cannot [^\n]+: no route\n$/);
      expect(status).toBe(69);
    },
  );

  it('gives a package its name only once it is whole', () => {
    const fetching = sourced('alone; mkdir -p $rig/debs; fetch $rig/debs -- some');
    const half = prepare(fetching, 'echo half >some_1.deb; exit 100');
    expect(half.status).not.toBe(0);
    expect(readdirSync(join(rig(), 'debs'))).toEqual([]);
    expect(prepare(fetching, 'echo whole >some_1.deb').status).toBe(0);
    expect(readFileSync(join(rig(), 'debs/some_1.deb'), 'utf8')).toBe('whole\n');
    expect(readdirSync(rig()).sort()).toEqual(['apt.log', 'debs', 'lock']);
  });

  it('removes the leftovers of a killed preparation, and nothing else', () => {
    for (const name of ['fetching.abc', 'root.tmp', 'kernels/6.1', 'debs']) {
      mkdirSync(join(rig(), name), { recursive: true });
      writeFileSync(join(rig(), name, 'file'), 'half');
    }
    expect(prepare(sourced('alone'), 'exit 100').status).toBe(0);
    expect(readdirSync(rig()).sort()).toEqual(['debs', 'kernels', 'lock']);
    expect(readdirSync(join(rig(), 'kernels/6.1'))).toEqual(['file']);
  });

  it('has its folder to itself', () => {
    const { stdout } = prepare(
      sourced(
        `alone; (exec 8>&-; exec 9>$rig/lock; flock -n 9 || echo taken); exec 8>&-; flock -n $rig/lock echo free`,
      ),
      'exit 100',
    );
    expect(stdout).toBe('taken\nfree\n');
  });
});
