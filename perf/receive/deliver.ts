/** A handler that gives every packet to the application. */
import type { Handler } from '../../src/datapath/handler.ts';
import { DELIVER } from '../../src/datapath/verdict.ts';

const deliver: Handler = (burst) => {
  for (let i = 0; i < burst.length; i++) burst.verdict[i] = DELIVER;
};
export default deliver;
