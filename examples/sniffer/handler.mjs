/** Hands every packet to the main thread. */
import { DELIVER } from 'twinpath/handler';

/** @type {import('twinpath/handler').Handler} */
export default function deliver(burst) {
  burst.verdict.fill(DELIVER, 0, burst.length);
}
