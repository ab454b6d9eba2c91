/**
 * The package as its users have it: packed, installed into an empty project, compiled against and run. npm takes the
 * two dependencies from its cache, or from the registry.
 *
 * @module-tag unprivileged
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROOT } from '../support/nobody.ts';

const project = mkdtempSync(join(tmpdir(), 'twinpath-install-'));
afterAll(() => rmSync(project, { recursive: true }));

let installation: { status: number | null; stderr: string };

function run(command: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: project, encoding: 'utf8' });
  return { status, stdout, stderr };
}

beforeAll(() => {
  const pack = ['pack', '--silent', '--ignore-scripts', '--pack-destination', project];
  const { stdout } = spawnSync('npm', pack, { cwd: ROOT, encoding: 'utf8' });
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }');
  installation = run(
    'npm',
    'install',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    join(project, stdout.trim()),
  );
}, 300_000);

it('installs without a warning of its own', () => {
  expect(installation.status).toBe(0);
  const warnings = installation.stderr.split('\n').filter((line) => /warn/i.test(line));
  // npm 11 lists the install scripts that it has not run: koffi's, and of what comes from a file `prepare` too.
  const own = warnings.filter((line) => !/^npm warn install-scripts/.test(line) || /\btwinpath@/.test(line));
  expect(own.filter((line) => !line.includes('(prepare: npm run build)'))).toEqual([]);
});

it('runs the handler and the test of docs/testing.md', () => {
  const page = readFileSync(join(project, 'node_modules/twinpath/docs/testing.md'), 'utf8');
  const files = [...page.matchAll(/```js\n\/\/ (\S+)\n(.*?)```/gs)];
  expect(files.map(([, name]) => name)).toEqual(['one-port.mjs', 'one-port.test.mjs']);
  for (const [, name, text] of files) writeFileSync(join(project, name!), text!);
  expect(run(process.execPath, '--test', 'one-port.test.mjs')).toMatchObject({ status: 0 });
});

it('opens a port, whose handler has the classes of the thread that calls it', () => {
  const handler = `
    import { TwinpathError } from 'twinpath';
    import { Burst, TX } from 'twinpath/handler';
    import { writeUdp } from 'twinpath/headers';
    import { FlowTable } from 'twinpath/state';
    export function create({ fails }, { burst }) {
      if (fails) throw new TwinpathError('ERR_HANDLER', { detail: 'no', hint: String(burst instanceof Burst) });
      return [writeUdp, FlowTable].every((one) => one) && (() => burst.verdict.fill(TX, 0, burst.length));
    }
  `;
  const program = `
    import { openPort } from 'twinpath';
    const handler = new URL('handler.mjs', import.meta.url);
    const port = await openPort({ network: 'memory', queues: 1, handler });
    console.log(typeof port.paths);
    await port.close();
    const refused = openPort({ network: 'memory', queues: 1, handler, handlerOptions: { fails: true } });
    await refused.catch(({ code, hint }) => console.log(code, hint));
  `;
  writeFileSync(join(project, 'handler.mjs'), handler);
  writeFileSync(join(project, 'program.mjs'), program);
  const { status, stdout, stderr } = run(process.execPath, 'program.mjs');
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'object\nERR_HANDLER true\n', stderr: '' });
});

it('has a command', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  expect(run('npx', 'twinpath', '--version').stdout.trim()).toBe(version);
});

describe('its types', () => {
  /** What the compiler says about a file that imports the package. */
  function compiled(text: string, { node, check = true }: { node: boolean; check?: boolean }): string {
    const types = join(project, 'node_modules/@types');
    mkdirSync(types, { recursive: true });
    if (node && !existsSync(join(types, 'node'))) {
      symlinkSync(join(ROOT, 'node_modules/@types/node'), join(types, 'node'));
    }
    writeFileSync(join(project, 'main.ts'), text);
    const options = ['--strict', '--noEmit', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2023'];
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    return run(process.execPath, tsc, ...options, `--skipLibCheck`, String(!check), 'main.ts').stdout;
  }

  it('of handlers and their tests need neither those of Node nor those of the DOM', () => {
    const text = `
      import { type Handler, type HandlerModule, TX } from 'twinpath/handler';
      import { HandlerTest, type Outcome } from 'twinpath/testing';
      const handler: Handler = (burst) => { burst.verdict[0] = burst.packet(0).u8(0) === 1 ? TX : 0; };
      const module: HandlerModule = { default: handler };
      export const outcomes: Outcome[] = HandlerTest.of(module).run([[1, 2], new Uint8Array(60)]);
    `;
    expect(compiled(text, { node: false })).toBe('');
  });

  it('of a port know its events, and an error about a misspelt one lists their names', () => {
    const text = (event: string) => `
      import { once } from 'node:events';
      import { openPort } from 'twinpath';
      const port = await openPort({ handler: new URL('file:///handler.mjs') });
      port.on('path', ({ queue }) => console.log(queue.toFixed())).${event}', (error) => console.error(error.code));
      await once(port, 'close');
    `;
    expect(compiled(text("once('error"), { node: true, check: false })).toBe('');
    const said = compiled(text("once('eror"), { node: true, check: false });
    expect(said).toMatch(
      /'"eror"' is not assignable to parameter of type '"carrier" \| "close" \| "error" \| "link" \| "maintenance" \| "message" \| "path" \| "worker"'/,
    );
  });
});
