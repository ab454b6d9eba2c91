/**
 * Code that is only for V8's optimizing compiler. It saves half of the time of a short handler.
 *
 * - **A handler is compiled as a function of its own**, {@link bound}. V8 treats the variables of a closure as constants
 *   only in code that begins with that closure. Where it has inlined the closure, it still knows the arrays, but loads and
 *   checks their kind, length and place with every access; or its budget runs out half-way, and the burst is a parameter.
 *   Which of the three happens depends on what the compiler sees first. So the handler is called through WebAssembly,
 *   across which V8 inlines nothing: some nanoseconds a burst.
 * - **A handler that takes its burst from `create`, as a constant**, and has no parameter is about a nanosecond a packet
 *   faster (`HandlerContext.burst`).
 * - **`declare` on a field**, in Burst and Packet, keeps TypeScript from writing `undefined` to it first. A field that is
 *   written once is a constant to V8: with a known burst it needs no load, no check of the array's kind and no load of its
 *   length. #private fields do not have this.
 * - **`Burst.packet` returns its own field** and not the result of `moveTo`: V8 knows which object the field has before it
 *   has inlined that.
 *
 * Any thread; an exception passes through.
 */
import type { Burst } from './burst.ts';
import type { Handler } from './handler.ts';

declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (
    module: object,
    imports: { env: { call: (value: never) => void } },
  ) => { readonly exports: { readonly gate: unknown } };
};

/** `(import "env" "call" (func (param externref))) (func (export "gate") (param externref) local.get 0 call 0)`. */
const MODULE = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x05, 0x01, 0x60, 0x01, 0x6f, 0x00, 0x02, 0x0c, 0x01,
  0x03, 0x65, 0x6e, 0x76, 0x04, 0x63, 0x61, 0x6c, 0x6c, 0x00, 0x00, 0x03, 0x02, 0x01, 0x00, 0x07, 0x08, 0x01,
  0x04, 0x67, 0x61, 0x74, 0x65, 0x00, 0x01, 0x0a, 0x08, 0x01, 0x06, 0x00, 0x20, 0x00, 0x10, 0x00, 0x0b,
]);

function withoutInlining<Value>(call: (value: Value) => void): (value: Value) => void {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(MODULE), { env: { call } });
  return exports.gate as (value: Value) => void;
}

/**
 * The handler, bound to the burst of its worker and compiled as code of its own. One without a parameter has its burst from
 * `create`. NB: call this once a thread, since V8 makes shared code for a second closure.
 */
export function bound(handler: Handler, burst: Burst): Handler {
  return withoutInlining(handler.length === 0 ? handler : () => handler(burst));
}
