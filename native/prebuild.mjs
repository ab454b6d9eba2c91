/**
 * Builds the shim for the package: prebuilds/linux-<arch>/shim.so, for this machine and for every other
 * architecture that a cross compiler is here for. `npm pack` and `npm publish` run it (`prepack`).
 *
 * A package without its own machine's shim is refused. One without another's is whole all the same: there
 * the shim is compiled on first use. It speaks on standard error, because `npm pack --json` owns the other.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
/** Node's name of each architecture, and of the compiler that builds for it from elsewhere (Debian's). */
const COMPILERS = { x64: 'x86_64-linux-gnu-gcc', arm64: 'aarch64-linux-gnu-gcc' };

let failed = process.platform !== 'linux' || !(process.arch in COMPILERS);
if (failed)
  console.error(`prebuild: the shim is for Linux on x64 and arm64, not ${process.platform} ${process.arch}`);

rmSync(join(root, 'prebuilds'), { recursive: true, force: true }); // an old one would be packed as if it were new
for (const [arch, cross] of Object.entries(COMPILERS)) {
  const own = arch === process.arch;
  const compiler = own ? (process.env.CC ?? 'cc') : cross;
  const folder = join('prebuilds', `linux-${arch}`);
  if (spawnSync(compiler, ['--version'], { stdio: 'ignore' }).error) {
    console.error(`prebuild: ${folder} left out: there is no ${compiler}`);
    failed ||= own;
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
