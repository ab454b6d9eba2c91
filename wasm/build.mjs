// Compiles what is written in AssemblyScript: the handlers here, and those that only the tests load.
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = fileURLToPath(new URL('..', import.meta.url));
const FOLDERS = [
  ['wasm', 'dist/src/handlers'],
  ['test/fixtures/wasm', 'dist/test/fixtures/wasm'],
];
// As docs/wasm-abi.md tells everybody, and with vectors.
const FLAGS = [
  ...['--enable', 'threads', '--enable', 'simd', '--sharedMemory', '--importMemory', '--noExportMemory'],
  ...['--initialMemory', '1', '--maximumMemory', '65536'],
  ...['--runtime', './wasm/include/twinpath-runtime', '-Ospeed', '--baseDir', root],
];

for (const [from, to] of FOLDERS) {
  for (const file of readdirSync(`${root}/${from}`).filter((file) => file.endsWith('.ts'))) {
    const out = `${to}/${file.replace(/ts$/, 'wasm')}`;
    const { error, stderr } = await asc.main([`${from}/${file}`, '--outFile', out, ...FLAGS]);
    process.stderr.write(`${stderr}`);
    if (error !== null) process.exit(1);
  }
}
