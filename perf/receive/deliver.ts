/** A handler that gives every packet to the application. */
import type { Handler } from '../../src/handler/handler.ts';
import { DELIVER } from '../../src/handler/verdict.ts';

const deliver: Handler = (burst) => {
  for (let i = 0; i < burst.length; i++) burst.verdict[i] = DELIVER;
};
export default deliver;
