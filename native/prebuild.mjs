/**
 * Builds the shim for the package: prebuilds/linux-<arch>/shim.so, for x64 and arm64. `npm pack` and `npm publish` run
 * it (`prepack`), and fail if one of the two cannot be built.
 *
 *     node native/prebuild.mjs --available    omits an architecture whose cross compiler is not installed
 *
 * It writes to standard error, because `npm pack --json` uses standard output.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
/** The cross compiler for each architecture, by Node's name of the architecture. Names of Debian. */
const COMPILERS = { x64: 'x86_64-linux-gnu-gcc', arm64: 'aarch64-linux-gnu-gcc' };

const isPartial = process.argv.includes('--available');

let failed = process.platform !== 'linux' || !(process.arch in COMPILERS);
if (failed)
  console.error(`prebuild: the shim is for Linux on x64 and arm64, not ${process.platform} ${process.arch}`);

rmSync(join(root, 'prebuilds'), { recursive: true, force: true }); // an old one must not be packed
for (const [arch, cross] of Object.entries(COMPILERS)) {
  const own = arch === process.arch;
  const compiler = own ? (process.env.CC ?? 'cc') : cross;
  const folder = join('prebuilds', `linux-${arch}`);
  if (spawnSync(compiler, ['--version'], { stdio: 'ignore' }).error) {
    const remedy = arch === 'arm64' && !own ? ' (Debian: apt-get install gcc-aarch64-linux-gnu)' : '';
    console.error(`prebuild: ${folder} not built: ${compiler} is not installed${remedy}`);
    failed ||= own || !isPartial;
    continue;
  }
  mkdirSync(join(root, folder), { recursive: true });
  const out = join(root, folder, 'shim.so');
  const make = spawnSync('make', ['-s', '-C', join(root, 'native'), `OUT=${out}`, `CC=${compiler}`], {
    stdio: ['ignore', 2, 2],
  });
  if (make.status === 0) console.error(`prebuild: ${folder}/shim.so built with ${compiler}`);
  else {
    console.error(`prebuild: ${folder} failed${make.error ? `: ${make.error.message}` : ''}`);
    rmSync(join(root, folder), { recursive: true });
    failed = true;
  }
}
process.exitCode = failed ? 1 : 0;
