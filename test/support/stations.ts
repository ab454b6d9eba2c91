/**
 * Kernel applications at the two ends of a lab: a process with servers and clients in each namespace
 * (fixtures/station.mjs), and the calls to it. They end with the test.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { endWithTest } from './children.ts';

const FIXTURE = fileURLToPath(new URL('../fixtures/station.mjs', import.meta.url));

/** One end of a bulk stream. */
export interface StreamEnd {
  readonly sent: number;
  readonly received: number;
  /** Bytes that were not the ones that were due, roughly. */
  readonly wrong: number;
  /** The error that ended it, or ''. */
  readonly failed: string;
}

export interface Session {
  /** Answered, one after the other. */
  readonly lines: number;
  readonly wrong: number;
  readonly failed: string;
}

/** The calls of the fixture; `address` is always another station's. */
interface Calls {
  serve(): string;
  ask(address: string, count: number): { asked: number; wrong: number };
  fetch(address: string): string;
  talk(address: string): void;
  said(): Session;
  hush(quiet: boolean): void;
  stream(address: string, direction: 'to' | 'from'): number;
  streamed(name: number): StreamEnd;
  finish(name: number): void;
  echo(address: string, port: number, count: number): number;
  datagrams(address: string, port: number, count: number, bytes: number): number;
}

interface Answer {
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: string;
}

export class Station {
  readonly namespace: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolve>();
  #calls = 0;
  /** SHA-256 of what its web server serves. */
  file = '';

  private constructor(namespace: string, child: ChildProcess) {
    this.namespace = namespace;
    this.#child = child;
    child.on('message', ({ id, result, error }: Answer) => {
      if (id === undefined) return;
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(error));
    });
    child.on('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the station in ${namespace} ended`));
    });
  }

  /** Its servers listen when this resolves. */
  static async start(namespace: string): Promise<Station> {
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, FIXTURE], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    endWithTest(child);
    const station = new Station(namespace, child);
    station.file = await station.call('serve');
    return station;
  }

  call<Name extends keyof Calls>(
    call: Name,
    ...args: Parameters<Calls[Name]>
  ): Promise<ReturnType<Calls[Name]>> {
    const id = ++this.#calls;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject });
      this.#child.send({ id, call, args });
    });
  }
}

interface PromiseWithResolve {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Packets that a namespace's kernel threw away because their checksum was wrong: /proc/net/snmp. */
export function badChecksums(namespace: string): number {
  return inNamespace(loadShim(), namespace, () => {
    const lines = readFileSync('/proc/thread-self/net/snmp', 'utf8').split('\n');
    let bad = 0;
    for (let i = 0; i + 1 < lines.length; i += 2) {
      const values = lines[i + 1]!.split(' ');
      lines[i]!.split(' ').forEach((name, column) => {
        if (name === 'InCsumErrors') bad += Number(values[column]);
      });
    }
    return bad;
  });
}
