/** A handler that looks at each packet's EtherType, counts it and drops it: what the other receivers here do. */
import type { Handler } from '../../src/handler/handler.ts';

const ETHER_TYPE = 12;

export function create(): Handler {
  const types = new Float64Array(65_536);
  return (burst) => {
    for (let i = 0; i < burst.length; i++) types[burst.packet(i).u16(ETHER_TYPE)]!++;
  };
}
