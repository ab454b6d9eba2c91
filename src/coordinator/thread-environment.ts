/**
 * The environment of the threads that a port starts.
 *
 * Clinic.js puts its samplers into NODE_OPTIONS (`-r sampler.js`, `-r logger.js`). Every thread that inherits them runs them
 * again and writes into the main thread's files: the report is then broken or empty. A thread with its own environment takes
 * its options from there, and its own threads inherit them.
 *
 * In all other cases threads inherit everything, so that a loader of the process loads handlers too.
 */

type Environment = Readonly<Record<string, string | undefined>>;

/** The `env` option for `Worker`: undefined (inherit), unless Clinic.js has changed the environment. */
export function threadEnvironment(environment: Environment = process.env): Environment | undefined {
  const { NODE_OPTIONS = '', NODE_PATH = '' } = environment;
  const injected = /@(?:clinic|nearform)[/\\]/.test(`${NODE_PATH} ${NODE_OPTIONS}`);
  // NB: '' also clears what the command line set for a thread: a worker with an `env` starts from its NODE_OPTIONS.
  return injected ? { ...environment, NODE_OPTIONS: '' } : undefined;
}
