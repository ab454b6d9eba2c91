// Makes what the live page's server serves: compiles src/page/browser for browsers, and puts its other files, and uPlot with its
// licence, beside that. So the package needs uPlot when it is built, and not when it is installed.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const source = join(root, 'src/page/browser');
const target = join(root, 'dist/src/page/browser');
const uplot = join(dirname(fileURLToPath(import.meta.resolve('uplot'))), '..');

execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', source], {
  stdio: 'inherit',
});
mkdirSync(target, { recursive: true });
for (const file of ['page.html', 'page.css', 'icon.svg'])
  copyFileSync(join(source, file), join(target, file));
for (const [file, name] of [
  ['dist/uPlot.iife.min.js', 'uPlot.iife.min.js'],
  ['dist/uPlot.min.css', 'uPlot.min.css'],
  ['LICENSE', 'uPlot.LICENSE.txt'],
])
  copyFileSync(join(uplot, file), join(target, name));
