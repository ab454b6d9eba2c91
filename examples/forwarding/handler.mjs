/** Sends each packet of one port out of the other port. */
import { FORWARD } from 'twinpath/handler';

/** @type {import('twinpath/handler').Handler} */
export default function forward(burst) {
  for (let i = 0; i < burst.length; i++) {
    burst.target[i] = 1 - burst.port[i]; // ports are numbered in the order of opening: 0 and 1
    burst.verdict[i] = FORWARD;
  }
}
