// Compiles the AssemblyScript: the handlers of this folder, those of tests and benchmarks, and the datapath's ring
// operations.
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = fileURLToPath(new URL('..', import.meta.url));
const RUNTIME = './wasm/include/twinpath-runtime';
const FOLDERS = [
  ['wasm', 'dist/src/handlers', RUNTIME],
  ['wasm/ring-operations', 'dist/src/memory', 'stub'], // allocates nothing
  ['wasm/perf', 'dist/perf/wasm', RUNTIME],
  ['test/fixtures/wasm', 'dist/test/fixtures/wasm', RUNTIME],
];
// The flags of docs/wasm-abi.md, and vectors.
const FLAGS = [
  ...['--enable', 'threads', '--enable', 'simd', '--sharedMemory', '--importMemory', '--noExportMemory'],
  ...['--initialMemory', '1', '--maximumMemory', '65536'],
  ...['-Ospeed', '--baseDir', root],
];

for (const [from, to, runtime] of FOLDERS) {
  for (const file of readdirSync(`${root}/${from}`).filter((file) => file.endsWith('.ts'))) {
    const out = `${to}/${file.replace(/ts$/, 'wasm')}`;
    const { error, stderr } = await asc.main([
      `${from}/${file}`,
      '--outFile',
      out,
      '--runtime',
      runtime,
      ...FLAGS,
    ]);
    process.stderr.write(`${stderr}`);
    if (error !== null) process.exit(1);
  }
}
