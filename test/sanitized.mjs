/**
 * Runs system tests with the shim under AddressSanitizer and UndefinedBehaviorSanitizer (`make -C native SANITIZE=…`), and
 * a process of hostile calls. Ends with 1 if a test fails or a sanitizer reports anything. As root; gcc with libasan.
 *
 *     node test/sanitized.mjs [FILE…]    these test files in place of the list below
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** Ports of each kind in their whole lives. test/fixtures/hostile-calls.mjs calls every exported function. */
const FILES = [
  'test/unit/kernel/write-chains.test.ts',
  'test/unit/paths/uring-queue.test.ts',
  'test/unit/paths/segment-sender.test.ts',
  'test/system/lifecycle.test.ts',
  'test/system/failover.test.ts',
  'test/system/redirects.test.ts',
  'test/system/host-redirect.test.ts',
  'test/system/bpf.test.ts',
  'test/system/capture.test.ts',
];

const root = join(import.meta.dirname, '..');
const folder = join(root, 'build', 'sanitized');
const shim = join(folder, 'shim.so');
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
execFileSync('make', ['-s', '-C', join(root, 'native'), 'SANITIZE=address,undefined', `OUT=${shim}`], {
  stdio: 'inherit',
});
const library = execFileSync('cc', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
const loads = join(folder, 'loads');
const preload = new URL('fixtures/shim-sanitized.mjs', import.meta.url).href;

const env = {
  ...process.env,
  LD_PRELOAD: library,
  // V8 keeps its memory until the end and finds its pointers itself: a leak check would report only V8. The shim allocates nothing.
  // V8 handles SIGSEGV itself, for WebAssembly.
  ASAN_OPTIONS: `detect_leaks=0:handle_segv=0:allow_user_segv_handler=1:log_path=${join(folder, 'report')}`,
  UBSAN_OPTIONS: `print_stacktrace=1:log_path=${join(folder, 'report')}`,
  SANITIZED_SHIM: shim,
  SANITIZED_LOADS: loads,
};

/** Whether it failed. */
function failed(args, more = {}) {
  return (
    spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit', env: { ...env, ...more } }).status !== 0
  );
}

const files = process.argv.slice(2);
// First a known fault: without a report of it, the absence of reports would say nothing.
const shown = { ...env, ASAN_OPTIONS: 'detect_leaks=0:handle_segv=0:allow_user_segv_handler=1' };
const wrong = spawnSync(process.execPath, ['test/fixtures/past-the-end.mjs', shim], {
  ...{ cwd: root, env: shown, encoding: 'utf8' },
});
if (!wrong.stderr.includes('heap-buffer-overflow'))
  throw new Error(`no report of a known fault: ${wrong.stderr}`);
let failures = 0;
if (failed(['test/fixtures/hostile-calls.mjs', shim])) failures++;
process.stdout.write('\n');
const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'unit', '--project', 'system'];
if (failed([...vitest, ...(files.length > 0 ? files : FILES)], { NODE_OPTIONS: `--import ${preload}` }))
  failures++;

const threads = existsSync(loads) ? readFileSync(loads, 'utf8').split('\n').length - 1 : 0;
const reports = readdirSync(folder).filter((name) => name.startsWith('report'));
for (const name of reports) console.error(readFileSync(join(folder, name), 'utf8'));
console.log(
  `${threads} threads loaded the sanitized shim, ${reports.length} reports, ${failures} runs failed`,
);
process.exitCode = threads > 0 && reports.length === 0 && failures === 0 ? 0 : 1;
