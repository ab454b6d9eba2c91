/** The error of a row whose peer is not on this machine. */
export const missing = (peer: string, more = ''): Error =>
  new Error(`${peer} is not installed here: run perf/peers/install, as root (Debian, Ubuntu)${more}.`);
