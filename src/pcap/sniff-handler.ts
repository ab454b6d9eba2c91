/**
 * The handler of a session: leaves every packet to whom it belongs, the machine or the network, and gives the application a copy of
 * those that the filter takes. Belongs to the worker thread.
 */
import { FilterMachine } from '../capture/filter/machine.ts';
import { type Handler, type HandlerContext, PASS, TEE, TX } from '../handler/handler.ts';
import { Path } from '../memory/layout.ts';

/** @param options `program`: from `compileFilter` */
export function create({ program }: { program: Int32Array }, { burst: own }: HandlerContext): Handler {
  const machine = new FilterMachine(new Uint8Array(own.offset.buffer));
  return (burst) => {
    for (let i = 0; i < burst.length; i++) {
      const onward = burst.path[i] === Path.HOST ? TX : PASS;
      const taken = machine.matches(program, burst.offset[i]!, burst.bytes[i]!);
      burst.verdict[i] = taken ? onward | TEE : onward;
    }
  };
}
