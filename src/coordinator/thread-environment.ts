/**
 * The environment of the threads that a port starts.
 *
 * Clinic.js puts its samplers into NODE_OPTIONS (`-r sampler.js`, `-r logger.js`), and every thread that inherits
 * it runs them again and writes into the files of the main thread's: the report is then broken or empty. A thread
 * with an environment of its own reads its options from there, and its own threads inherit them.
 *
 * Everywhere else threads inherit everything, so that a loader given to the process loads handlers too.
 */

type Environment = Readonly<Record<string, string | undefined>>;

/** What `Worker` takes as `env`: undefined, inherit, unless Clinic.js has put something there. */
export function threadEnvironment(environment: Environment = process.env): Environment | undefined {
  const { NODE_OPTIONS = '', NODE_PATH = '' } = environment;
  const injected = /@(?:clinic|nearform)[/\\]/.test(`${NODE_PATH} ${NODE_OPTIONS}`);
  // NB: '' also clears what the command line set for a thread: a worker with an `env` starts from its NODE_OPTIONS.
  return injected ? { ...environment, NODE_OPTIONS: '' } : undefined;
}
