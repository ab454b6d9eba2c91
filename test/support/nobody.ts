/**
 * Commands as the user nobody, without capabilities or with a set of them.
 *
 * That user may be unable to enter the folder of this clone, or the folder of node (/root, a home of mode 0750). So the
 * command runs from a copy of what it needs, in a folder that every user may read (global-setup.ts makes it).
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';

export const NOBODY = 65_534;
export const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** What the built package, its measurements and the fixtures need at run time. */
const PARTS = ['package.json', 'dist', 'build/shim.so', 'native', 'test/fixtures'];
const MODULES = ['koffi', 'piscina', '@observablehq/plot', 'linkedom'];

/** The package's folder and a node that every user may read and run. The first call makes them. */
export function publicCopy(): { readonly root: string; readonly node: string } {
  const root = join(inject('everybody'), String(process.pid)); // a copy for each worker of Vitest
  const own = join(root, 'node');
  const complete = join(root, 'complete');
  if (!existsSync(complete)) {
    const closed = closedFolder(dirname(root));
    if (closed !== undefined)
      throw new Error(`other users may not enter ${closed}: set TMPDIR to a folder they may`);
    for (const part of [...PARTS, ...installed(MODULES)]) {
      mkdirSync(dirname(join(root, part)), { recursive: true });
      cpSync(join(ROOT, part), join(root, part), { recursive: true });
    }
    const node = realpathSync(process.execPath);
    if (closedFolder(dirname(node)) !== undefined) cpSync(node, own);
    execFileSync('chmod', ['-R', 'a+rX', root]); // whatever the umask of the clone was
    writeFileSync(complete, '');
  }
  return { root, node: existsSync(own) ? own : process.execPath };
}

/** Folders of these packages and of their dependencies that are installed for this platform. */
function installed(names: readonly string[]): Set<string> {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  const found = new Set<string>();
  const add = (name: string): void => {
    const folder = `node_modules/${name}`;
    if (found.has(folder) || !existsSync(join(ROOT, folder))) return;
    found.add(folder);
    const { dependencies = {}, optionalDependencies = {} } = packages[folder] ?? {};
    for (const other of Object.keys({ ...dependencies, ...optionalDependencies })) add(other);
  };
  for (const name of names) add(name);
  return found;
}

/** The first folder of the path that other users may not enter. */
function closedFolder(path: string): string | undefined {
  const above = path === '/' ? undefined : closedFolder(dirname(path));
  return above ?? ((statSync(path).mode & 0o001) === 0 ? path : undefined);
}

/** A command on files of this clone, changed to the files of the public copy. */
export function inPublicCopy(command: readonly string[]): string[] {
  const { root, node } = publicCopy();
  return command.map((word) => (word === process.execPath ? node : word.replaceAll(ROOT, root)));
}

/** The command run by nobody, without capabilities or with these (setpriv's names: `net_admin`). */
export function asNobody(command: readonly string[], capabilities: readonly string[] = []): string[] {
  const set = ['-all', ...capabilities.map((name) => `+${name}`)].join();
  return [
    ...['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'],
    ...[`--inh-caps=${set}`, `--ambient-caps=${set}`, `--bounding-set=${set}`, '--'],
    ...inPublicCopy(command),
  ];
}
