/**
 * Memory management of a handler for Twinpath: `new` allocates from the worker's own area, and nothing is ever freed.
 *
 * AssemblyScript's own runtimes allocate after the module's static data, where the port's memory is. Allocate tables in
 * `init`: a handler that allocates for each packet uses up the area, and then every call traps.
 */
import { __stack_pointer } from "memory";
import { BLOCK, BLOCK_OVERHEAD, OBJECT, OBJECT_OVERHEAD, OBJECT_MAXSIZE, AL_MASK } from "rt/common";
import { context } from "./twinpath";

/** The worker places the stack for references, which is written and never read, in its own area too. */
export { __stack_pointer };

/** Shows twinpath.ts that the module has the right runtime. */
// @ts-ignore: decorator
@global const __twinpath_runtime: bool = true;

// @ts-ignore: decorator
@lazy let end: usize = context().area + <usize>context().areaBytes;
// @ts-ignore: decorator
@lazy let free: usize = context().area + (<usize>AL_MASK + 1 - <usize>BLOCK_OVERHEAD);

// @ts-ignore: decorator
@unsafe @global
export function __alloc(size: usize): usize {
  const payload = ((size + BLOCK_OVERHEAD + AL_MASK) & ~AL_MASK) - BLOCK_OVERHEAD;
  if (size > OBJECT_MAXSIZE || free + BLOCK_OVERHEAD + payload > end) unreachable();
  changetype<BLOCK>(free).mmInfo = payload;
  const at = free + BLOCK_OVERHEAD;
  free = at + payload;
  return at;
}

// @ts-ignore: decorator
@unsafe @global
export function __realloc(at: usize, size: usize): usize {
  const had = changetype<BLOCK>(at - BLOCK_OVERHEAD).mmInfo;
  if (size <= had) return at;
  const moved = __alloc(max(size, had << 1));
  memory.copy(moved, at, had);
  return moved;
}

// @ts-ignore: decorator
@unsafe @global
export function __free(at: usize): void {}

// @ts-ignore: decorator
@unsafe @global
export function __new(size: usize, id: u32): usize {
  if (size > OBJECT_MAXSIZE) unreachable();
  const at = __alloc(OBJECT_OVERHEAD + size);
  const object = changetype<OBJECT>(at - BLOCK_OVERHEAD);
  object.gcInfo = 0;
  object.gcInfo2 = 0;
  object.rtId = id;
  object.rtSize = <u32>size;
  return at + OBJECT_OVERHEAD;
}

// @ts-ignore: decorator
@unsafe @global
export function __renew(old: usize, size: usize): usize {
  if (size > OBJECT_MAXSIZE) unreachable();
  const at = __realloc(old - OBJECT_OVERHEAD, OBJECT_OVERHEAD + size);
  changetype<OBJECT>(at - BLOCK_OVERHEAD).rtSize = <u32>size;
  return at + OBJECT_OVERHEAD;
}

// @ts-ignore: decorator
@unsafe @global
export function __link(parent: usize, child: usize, several: bool): void {}

// @ts-ignore: decorator
@unsafe @global
export function __pin(at: usize): usize {
  return at;
}

// @ts-ignore: decorator
@unsafe @global
export function __unpin(at: usize): void {}

// @ts-ignore: decorator
@unsafe @global
function __visit(at: usize, cookie: u32): void {}

// @ts-ignore: decorator
@unsafe @global
export function __collect(): void {}
