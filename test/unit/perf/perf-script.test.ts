import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Folder, frameOf } from '../../../perf/profile/perf-script.ts';

/** As perf 6.1 prints it on Linux 6.18. */
const SCRIPT = `twinpath-q0    50/57   
\tffffffff815e6521 xsk_sendmsg ([kernel.kallsyms])
\tffffffff81000130 entry_SYSCALL_64_after_hwframe ([kernel.kallsyms])
\t            1234 tp_xsk_kick (/x/build/shim.so)
\t         101829 Builtins_CEntry_Return1_ArgvOnStack_BuiltinExit (/usr/bin/node)

twinpath-q0    50/57   
\t    7f409c049baa JS:*poll file:///x/dist/src/datapath/port-queue.js:97:9 (/tmp/perf-50.map)
\t         14cfd1c Builtins_InterpreterEntryTrampoline (/usr/bin/node)
\t          c4993d v8::internal::(anonymous namespace)::Invoke (/usr/bin/node)
\t          710aaa node::worker::Worker::Run (/usr/bin/node)
\t           8f187 start_thread (/usr/lib/x86_64-linux-gnu/libc.so.6)

node    50/50   
\t            9997 epoll_wait (/usr/lib/x86_64-linux-gnu/libc.so.6)

swapper     0/0    
\tffffffff815e6521 default_idle ([kernel.kallsyms])

ksoftirqd/1    22/22   
\tffffffff815e6521 net_rx_action ([kernel.kallsyms])

node    50/57   
\t    7f409c049baa JS:*poll file:///x/dist/src/datapath/port-queue.js:97:9 (/tmp/perf-50.map)

twinpath-q0    50/57   
\t    7f409c049baa JS:^poll file:///x/dist/src/datapath/port-queue.js:97:9 (/tmp/perf-50.map)
\t         14cfd1c Builtins_InterpreterEntryTrampoline (/usr/bin/node)
`;

const fold = (pieces: readonly string[] = [SCRIPT]) => {
  const folder = new Folder(50);
  for (const piece of pieces) folder.push(piece);
  return folder.end();
};
const lines = () =>
  fold().map(
    ({ thread, frames, count }) => `${[thread, ...frames.map(({ name }) => name)].join(';')} ${count}`,
  );

describe('folding', () => {
  it('counts equal stacks of the process once, outermost frame first, optimized or not', () => {
    expect(lines()).toEqual([
      'twinpath-q0;node;poll port-queue.js:97 2',
      'ksoftirqd;net_rx_action 1',
      'main;epoll_wait 1',
      'node threads;poll port-queue.js:97 1',
      'twinpath-q0;node;tp_xsk_kick;entry_SYSCALL_64_after_hwframe;xsk_sendmsg 1',
    ]);
  });

  it('does not mind in which pieces the text comes', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(SCRIPT.length), { maxLength: 20 }), (cuts) => {
        const at = [0, ...cuts.toSorted((a, b) => a - b), SCRIPT.length];
        const pieces = at.slice(1).map((end, i) => SCRIPT.slice(at[i], end));
        expect(fold(pieces)).toEqual(fold());
      }),
    );
  });
});

it.each([
  ['ffffffffc0 veth_xdp_rcv ([veth])', 'kernel', 'veth_xdp_rcv'],
  [
    'ffffffffc0 bpf_prog_6deef7357e7b4530_f (bpf_prog_6deef7357e7b4530_f)',
    'kernel',
    'bpf_prog_6deef7357e7b4530_f',
  ],
  ['7f40 JS:*wasm-function[3]-3-turbofan (/tmp/perf-7.map)', 'wasm', 'wasm-function[3]-3-turbofan'],
  ['7f40 JS:~ file:///x/main.js:1:1 (/tmp/perf-7.map)', 'javascript', '(anonymous) main.js:1'],
  ['7f40 JS:*#pump file:///x/port-queue.js:176:8 (/tmp/perf-7.map)', 'javascript', '#pump port-queue.js:176'],
  [
    '7f40 JS:*nextTick node:internal/process/task_queues:67:5 (/tmp/perf-7.map)',
    'engine',
    'nextTick node:internal/process/task_queues:67',
  ],
  ['14ce Builtins_AtomicsLoad (/usr/bin/node)', 'engine', 'AtomicsLoad'],
  ['14ce v8::internal::Heap::Do<int, std::pair<a, b>>(int) const (/usr/bin/node)', 'engine', 'v8::Heap::Do'],
  ['7ffc __vdso_clock_gettime ([vdso])', 'native', '__vdso_clock_gettime'],
  ['8f1 pthread_rwlock_unlock@@GLIBC_2.34 (/usr/lib/libc.so.6)', 'native', 'pthread_rwlock_unlock'],
])('%s is of the kind %s', (line, kind, name) => {
  expect(frameOf(`\t${line}`)).toEqual({ kind, name });
});

it('an address without a symbol is no frame', () => {
  expect(frameOf('\t b6b2d8 [unknown] ([unknown])')).toBeUndefined();
  expect(frameOf('\t 7f40 [unknown] (/tmp/perf-7.map)')).toBeUndefined();
});
