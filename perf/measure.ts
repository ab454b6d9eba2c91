/** What the programs in this folder share. */
import { cpus, release } from 'node:os';

/** The machine behind a number, as every program prints it. */
export const machine = (): string =>
  `${cpus().length} × ${cpus()[0]?.model}, Linux ${release()}, Node ${process.version}`;
