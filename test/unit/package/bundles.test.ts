/** What the build makes of the modules of each thread and of the command line: workers/bundle.mjs. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, test } from 'vitest';
import { Sources } from '../../../perf/profile/sources.ts';
import { packageRoot } from '../../../src/package-root.ts';

const dist = join(packageRoot, 'dist');
const threads = readdirSync(join(dist, 'workers')).filter((file) => file.endsWith('.js'));
const read = (file: string): string => readFileSync(join(dist, file), 'utf8');

/** The files of ours that one imports when it is loaded. */
function imported(file: string): string[] {
  const found = [...read(file).matchAll(/^(?:import|export)\b[^'";]*['"](\.[^'"]+)['"];$/gm)];
  return found.map(([, path]) => relative(dist, join(dist, dirname(file), path!)));
}

function closure(files: readonly string[], found = new Set<string>()): Set<string> {
  for (const file of files) {
    if (found.has(file)) continue;
    found.add(file);
    closure(imported(file), found);
  }
  return found;
}

/** The modules in a bundle. */
function contents(bundle: string): string[] {
  const { sources } = JSON.parse(read(`${bundle}.map`)) as { sources: string[] };
  return sources.map((source) => relative(dist, join(dist, dirname(bundle), source)));
}

describe('the file of a thread', () => {
  it('there is one for each entry', () => {
    const entries = readdirSync(join(packageRoot, 'workers')).filter((file) => file.endsWith('.ts'));
    expect(threads).toEqual(entries.map((file) => file.replace(/ts$/, 'js')));
  });

  it.each(threads.filter((file) => file !== 'queue.js'))('%s imports no other file of ours', (file) => {
    expect(imported(`workers/${file}`)).toEqual([]);
    expect(contents(`workers/${file}`)).toContain(`workers/${file}`);
  });

  it('queue.js shares with handlers every module that both load, and has no copy of one', () => {
    const handlers = closure(['src/handler.js', 'src/headers.js', 'src/state.js', 'src/errors.js']);
    expect([...handlers]).toEqual(expect.arrayContaining(['src/errors.js', 'src/handler/burst.js']));
    expect(contents('workers/queue.js').filter((file) => handlers.has(file))).toEqual([]);
    expect([...closure(imported('workers/queue.js'))].filter((file) => !handlers.has(file))).toEqual([]);
  });

  // NB: each of them would need one of the shared modules to be the same in all of them.
  it('queue.js has no module that the package exports another way', () => {
    const own = contents('workers/queue.js');
    const handlers = own.filter((file) => file.startsWith('src/handlers/'));
    expect(handlers).toEqual(['src/handlers/host.js']); // a function without state
    expect(own.filter((file) => !file.includes('/', 'src/'.length))).toEqual([
      'src/package-root.js',
      'src/start-failure.js',
    ]);
  });
});

test('the command line is one file, apart from what explains why it cannot be loaded', () => {
  const main = closure(['src/cli/main.js']);
  expect(imported('src/cli/program.js').filter((file) => !main.has(file))).toEqual([]);
  expect(contents('src/cli/program.js').filter((file) => main.has(file))).toEqual([]);
});

test('a function of a bundle is found in its module', () => {
  const place = (file: string) => {
    const lines = read(file).split('\n');
    const line = lines.findIndex((text) => /^(?:export )?function runWorker\(/.test(text));
    return { url: pathToFileURL(join(dist, file)).href, line, column: lines[line]!.indexOf('runWorker') };
  };
  const [bundled, own] = [place('workers/queue.js'), place('src/datapath/worker.js')];
  const sources = new Sources();
  expect(sources.of(bundled)).toEqual(own);
  expect(sources.of(own)).toEqual(own); // which has no map
});
