/**
 * What the code does for V8's optimizing compiler alone, and what that is worth: half of what a short handler costs.
 *
 * - **A handler is compiled as a function of its own**, {@link bound}. V8 takes the variables that a closure holds for
 *   constants only in code that begins with that closure. Once it has inlined it elsewhere it still knows which arrays
 *   they are, but loads and checks their kind, length and place with every access; or its budget is used up half-way, and
 *   the burst is a parameter. Which of the three a handler is comes down to what the compiler sees first. So the handler
 *   is called by way of WebAssembly, across which V8 inlines nothing: some nanoseconds a burst.
 * - **A handler that takes its burst from `create`, as a constant**, and no argument costs about a nanosecond a packet
 *   less (`HandlerContext.burst`).
 * - **`declare` on a field**, in Burst and Packet, keeps the compiler from writing `undefined` to it first. What is
 *   written once is a constant to V8: where the burst is known it needs no load, no check of the array's kind and no load
 *   of its length. #private fields cannot have that.
 * - **`Burst.packet` returns its own field** and not what `moveTo` returns: of the field V8 knows which object it is
 *   before it has inlined that.
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
const MODULE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
  ...[0x01, 0x05, 0x01, 0x60, 0x01, 0x6f, 0x00],
  ...[0x02, 0x0c, 0x01, 0x03, 0x65, 0x6e, 0x76, 0x04, 0x63, 0x61, 0x6c, 0x6c, 0x00, 0x00],
  ...[0x03, 0x02, 0x01, 0x00],
  ...[0x07, 0x08, 0x01, 0x04, 0x67, 0x61, 0x74, 0x65, 0x00, 0x01],
  ...[0x0a, 0x08, 0x01, 0x06, 0x00, 0x20, 0x00, 0x10, 0x00, 0x0b],
);

function gated<Value>(call: (value: Value) => void): (value: Value) => void {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(MODULE), { env: { call } });
  return exports.gate as (value: Value) => void;
}

/**
 * The handler as it is called: with the one burst of its worker, and as code of its own. One that takes no argument has
 * its burst from `create`. Only while this is called once a thread: for a second closure V8 makes code for both.
 */
export function bound(handler: Handler, burst: Burst): Handler {
  return gated(handler.length === 0 ? handler : () => handler(burst));
}
