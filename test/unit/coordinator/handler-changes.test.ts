import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HandlerChanges, mergedOptions } from '../../../src/coordinator/handler-changes.ts';
import type { HandlerThread, ThreadAnswer } from '../../../src/coordinator/queue-workers.ts';
import type { Options, OptionsMail } from '../../../src/mailbox/mail.ts';

/** A thread that answers as it is told: agrees, refuses, or ends when it is asked; and what it has then. */
class Fake implements HandlerThread {
  readonly queue: number;
  serves = true;
  options: Options;
  answers: 'agrees' | 'refuses' | 'ends' = 'agrees';
  /** What it has agreed to. */
  prepared: Options | undefined;
  readonly ended: () => void;

  constructor(queue: number, options: Options, ended: () => void) {
    this.queue = queue;
    this.options = options;
    this.ended = ended;
  }

  async ask(mail: OptionsMail): Promise<ThreadAnswer> {
    await Promise.resolve();
    if (mail.kind === 'prepare' && this.answers === 'ends') {
      this.ended();
      return { kind: 'ended', reason: new Error('as told') };
    }
    if (mail.kind === 'prepare' && this.answers === 'refuses')
      return { kind: 'options', id: mail.id, error: { code: 'ERR_HANDLER_REFUSED', detail: 'as told' } };
    this.tell(mail);
    return { kind: 'options', id: mail.id };
  }

  tell(mail: OptionsMail): void {
    if (mail.kind === 'prepare') this.prepared = mail.options;
    else if (mail.kind === 'replace') this.options = mail.options;
    else {
      if (mail.kind === 'apply') {
        expect(this.prepared).toBeDefined();
        this.options = this.prepared!;
      }
      this.prepared = undefined;
    }
  }
}

/** Workers of one handler; one that ends is replaced by one with the options of then. */
class Workers {
  closes = false;
  current: Options;
  readonly threads: Fake[] = [];

  constructor(queues: number, options: Options) {
    this.current = options;
    for (let queue = 0; queue < queues; queue++) this.start(queue);
  }

  start(queue: number): void {
    this.threads[queue] = new Fake(queue, this.current, () => this.start(queue));
  }

  get handlerThreads(): readonly Fake[] {
    return [...this.threads];
  }

  optionsOf(): Options {
    return this.current;
  }

  setOptions(_handler: number, options: Options): void {
    this.current = options;
  }
}

describe('changes of a handler', () => {
  const value = fc.oneof(fc.nat(9), fc.constant(null));
  const options = fc.dictionary(fc.constantFrom('a', 'b', 'c'), value, { maxKeys: 3 });
  const answer = fc.constantFrom('agrees', 'agrees', 'agrees', 'refuses', 'ends');
  const step = fc.record({ change: options, answers: fc.tuple(answer, answer, answer) });

  it('are on all workers or on none, in their order, whoever refuses or ends', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const workers = new Workers(3, { a: 0 });
        const changes = new HandlerChanges(workers);
        let expected: Options = { a: 0 };
        for (const { change, answers } of steps) {
          for (const [queue, thread] of workers.threads.entries()) thread.answers = answers[queue]!;
          const agreed = answers.every((one) => one === 'agrees');
          const result = await changes.change(0, change).catch((error) => error.code);
          if (agreed) {
            expected = { ...expected, ...change };
            for (const [name, now] of Object.entries(change)) if (now === null) delete expected[name];
            expect(result).toEqual(expected);
          } else expect(result).toBe('ERR_HANDLER_REFUSED');
          for (const thread of workers.threads)
            expect([thread.options, thread.prepared]).toEqual([expected, undefined]);
          expect(workers.current).toEqual(expected);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('ask one worker after the other, so that one queue at a time stands still, and none after a refusal', async () => {
    const workers = new Workers(4, {});
    const log: string[] = [];
    for (const thread of workers.threads) {
      const ask = thread.ask.bind(thread);
      thread.ask = async (mail) => {
        log.push(`${mail.kind} ${thread.queue}`);
        const answer = await ask(mail);
        log.push(`${mail.kind} ${thread.queue} done`);
        return answer;
      };
    }
    const asked = (queue: number): string[] => [`prepare ${queue}`, `prepare ${queue} done`];
    await new HandlerChanges(workers).change(0, { a: 1 });
    expect(log.slice(0, 8)).toEqual([0, 1, 2, 3].flatMap(asked));
    log.length = 0;
    workers.threads[1]!.answers = 'refuses';
    await expect(new HandlerChanges(workers).change(0, { a: 2 })).rejects.toThrow('as told');
    expect(log).toEqual([0, 1].flatMap(asked));
  });

  it('do not ask a worker that has ended while another was asked: it would never answer', async () => {
    const workers = new Workers(2, { a: 0 });
    const [first, second] = workers.threads;
    const ask = first!.ask.bind(first);
    first!.ask = (mail) => {
      if (mail.kind === 'prepare') second!.ended();
      return ask(mail);
    };
    second!.ask = () => new Promise(() => {});
    await expect(new HandlerChanges(workers).change(0, { a: 1 })).rejects.toThrow('worker of queue 1 ended');
    expect(workers.threads.map(({ options, prepared }) => [options, prepared])).toEqual(
      Array(2).fill([{ a: 0 }, undefined]),
    );
  });

  it('tell a worker that is loading, and do not wait for it', async () => {
    const workers = new Workers(2, { a: 0 });
    const loading = workers.threads[1]!;
    loading.serves = false;
    let asked: OptionsMail | undefined;
    loading.ask = (mail) => {
      asked = mail;
      return new Promise(() => {}); // it never loads
    };
    expect(await new HandlerChanges(workers).change(0, { b: 1 })).toEqual({ a: 0, b: 1 });
    expect(asked).toMatchObject({ kind: 'replace', options: { a: 0, b: 1 } });
  });

  it('wait for a worker when none runs the handler, until the ports close', async () => {
    const workers = new Workers(1, {});
    workers.threads[0]!.serves = false;
    const change = new HandlerChanges(workers).change(0, { a: 1 });
    workers.threads[0]!.serves = true;
    expect(await change).toEqual({ a: 1 });
    workers.threads[0]!.serves = false;
    const never = new HandlerChanges(workers).change(0, { a: 2 }).catch((error) => error.code);
    workers.closes = true;
    expect(await never).toBe('ERR_PORT_CLOSED');
  });

  it('take an option away by null, and leave one that was null before', () => {
    expect(mergedOptions({ a: null, b: 1, c: 2 }, { b: null, d: 3 })).toEqual({ a: null, c: 2, d: 3 });
  });
});
