/** The order in which the source is to be read is the order in which it may be imported. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';

const source = join(import.meta.dirname, '../../../src');

/** A file imports only from folders (or single files) at or above its own place here. */
const ORDER = [
  'capabilities.ts',
  'printable.ts',
  'errors.ts',
  'package-root.ts',
  'package-version.ts',
  'start-failure.ts',
  'validation.ts',
  'memory',
  'net',
  'pcapng',
  'rss',
  'rules',
  'capture',
  'configuration.ts',
  'options.ts',
  'replay-settings.ts',
  'handler-settings.ts',
  'settings.ts',
  'kernel',
  'offload',
  'handler',
  'mailbox',
  'headers',
  'state',
  'handlers',
  'paths',
  'datapath',
  'port-events.ts',
  'coordinator',
  'free-ports.ts',
  'statistics.ts',
  'counter-history.ts',
  'extended-statistics.ts',
  'control',
  'delivered-burst.ts',
  'delivery.ts',
  'maintenance',
  'group.ts',
  'flow-rules.ts',
  'port-queues.ts',
  'port-rss.ts',
  'replay',
  'port.ts',
  'metrics',
  'page',
  'metrics.ts',
  'service',
  'service.ts',
  'lab',
  'pcap',
  'pcap.ts',
  'handler.ts',
  'headers.ts',
  'state.ts',
  'testing.ts',
  'index.ts',
  'cli',
];

const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((file) =>
  file.endsWith('.ts'),
);
const imports = new Map(files.map((file) => [file, importsOf(file)]));

function importsOf(file: string): string[] {
  const text = readFileSync(join(source, file), 'utf8');
  const found = [...text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map(([, path]) => path!);
  return found.map((path) => relative(source, join(source, dirname(file), path)));
}

const place = (file: string): number => ORDER.indexOf(file.includes('/') ? file.split('/')[0]! : file);

test('every source file has a place in the order of imports', () => {
  expect(files.filter((file) => place(file) < 0)).toEqual([]);
});

test('no source file imports from below its place in the order', () => {
  const wrong = files.flatMap((file) =>
    imports
      .get(file)!
      .filter((target) => place(target) > place(file))
      .map((target) => `${file} → ${target}`),
  );
  expect(wrong).toEqual([]);
});

test('every relative import names an existing file', () => {
  const missing = files.flatMap((file) => imports.get(file)!.filter((target) => !imports.has(target)));
  expect(missing).toEqual([]);
});

test('imports have no cycles', () => {
  const done = new Set<string>();
  const visit = (file: string, above: readonly string[]): void => {
    if (above.includes(file))
      throw new Error(`cycle: ${[...above.slice(above.indexOf(file)), file].join(' → ')}`);
    if (done.has(file)) return;
    for (const target of imports.get(file)!) visit(target, [...above, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
});

/** All that a file imports, of packages too, types aside. */
function needs(file: string, found = new Set<string>()): Set<string> {
  if (found.has(file)) return found;
  found.add(file);
  const text = readFileSync(join(source, file), 'utf8');
  for (const [, isType, path] of text.matchAll(/^(?:import|export)( type)? [^;]*?from '([^']+)'/gm)) {
    if (isType) continue;
    if (path!.startsWith('.')) needs(relative(source, join(source, dirname(file), path!)), found);
    else found.add(path!);
  }
  return found;
}

test('twinpath/handler and twinpath/testing import no native code and no threads', () => {
  for (const file of ['handler.ts', 'testing.ts']) {
    const packages = [...needs(file)].filter((name) => !name.endsWith('.ts'));
    expect(packages.filter((name) => name !== 'node:fs')).toEqual([]);
  }
  expect([...needs('kernel/shim.ts')]).toContain('koffi');
});
