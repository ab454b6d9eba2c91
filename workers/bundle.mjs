// Makes one file of each thread's modules, and one of the command line's: Node takes a millisecond of CPU to load a module,
// and each thread loads its own. Without these bundles a thread takes 160 ms to start, with them 60.
//
// A bundle has its own copies of what it contains. In a queue worker's thread the port's handler imports modules of ours
// too, and both must have the same: `instanceof`, private fields and V8's constants (src/handler/jit.ts) depend on it. So
// what a handler can import stays out of that bundle, and the thread loads it from dist/src, as the handler does. The same
// is true of the command line and what src/cli/main.ts imports to explain why the rest could not be loaded.
import { readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const dist = fileURLToPath(new URL('../dist', import.meta.url));

/** The interface for handlers, and the errors that they throw and catch. */
const FOR_HANDLERS = ['src/handler.js', 'src/headers.js', 'src/state.js', 'src/errors.js'];
/** What src/cli/main.ts imports. */
const FOR_MAIN = ['src/errors.js', 'src/printable.js', 'src/start-failure.js'];

for (const file of readdirSync(join(dist, 'workers')).filter((file) => file.endsWith('.js'))) {
  await bundle(`workers/${file}`, file === 'queue.js' ? FOR_HANDLERS : []);
}
await bundle('src/cli/program.js', FOR_MAIN);

/** Replaces the compiler's output for this entry. `outside` and what it imports stay files of their own. */
async function bundle(entry, outside) {
  const file = join(dist, entry);
  const external = await modulesOf(outside);
  const build = await rolldown({
    ...options(file),
    external: (id) => external.has(id) || isPackage(id),
  });
  await build.write({
    file,
    format: 'esm',
    codeSplitting: false,
    comments: false, // half of the text, which each thread would read
    paths: (id) => (external.has(id) ? `./${relative(dirname(file), id)}` : id),
    sourcemap: true,
    sourcemapExcludeSources: true, // the package has them
  });
  await build.close();
}

/** The files that these import, directly or not, and themselves. */
async function modulesOf(files) {
  const found = new Set();
  if (files.length === 0) return found;
  const plugin = { name: 'modules', moduleParsed: ({ id }) => void found.add(id) };
  const build = await rolldown({
    ...options(files.map((file) => join(dist, file))),
    external: isPackage,
    plugins: [plugin],
  });
  await build.generate();
  await build.close();
  return found;
}

/** No module is imported for its side effects alone: package.json says so too. */
function options(input) {
  return { input, platform: 'node', treeshake: { moduleSideEffects: false } };
}

/** Node's modules and packages. */
function isPackage(id) {
  return !/^[./]/.test(id);
}
