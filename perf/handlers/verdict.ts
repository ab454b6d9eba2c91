/** wasm/perf/verdict.ts in TypeScript: every packet goes back as it came. */
import type { Handler } from '../../src/datapath/handler.ts';
import { TX } from '../../src/datapath/verdict.ts';

const verdict: Handler = (burst) => {
  for (let i = 0; i < burst.length; i++) burst.verdict[i] = TX;
};
export default verdict;
