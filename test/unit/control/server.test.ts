/** The control socket over a stand-in for the ports: what clients may do, and what they cannot. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { RecordSender } from '../../../src/capture/records.ts';
import { initial } from '../../../src/configuration.ts';
import { Attendant } from '../../../src/control/attendant.ts';
import { ControlClient } from '../../../src/control/client.ts';
import { MAX_LINE, PROTOCOL, type StatisticsSample } from '../../../src/control/protocol.ts';
import { ControlServer } from '../../../src/control/server.ts';
import { connectTo, removeStale, socketFiles } from '../../../src/control/sockets.ts';
import type { HandlerQuestion, Question } from '../../../src/coordinator/messages.ts';
import { TwinpathError } from '../../../src/errors.ts';
import { NO_LINK } from '../../../src/kernel/device-information.ts';
import { loadShim } from '../../../src/kernel/shim.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { geometryOf, single, validate } from '../../../src/settings.ts';
import { until } from '../../support/harness.ts';
import { blocksOf } from '../../support/pcapng.ts';

const HELLO = { twinpath: 'test', protocol: PROTOCOL, pid: process.pid } as const;

interface Stage {
  readonly file: string;
  readonly questions: (Question | HandlerQuestion)[];
  readonly folder: string;
  readonly memory: Memory;
  readonly server: ControlServer;
  closed(): number;
  /** The next questions wait until it is called. */
  hold(): () => void;
}

/** A server in a folder of its own. */
async function stage(): Promise<Stage> {
  const parent = mkdtempSync(join(tmpdir(), 'twinpath-control-'));
  onTestFinished(() => rmSync(parent, { recursive: true, force: true }));
  const handler = 'file:///handler.mjs';
  const settings = validate(single({ network: 'memory', handler, queues: 2, netns: 'ns' }));
  const memory = Memory.create(geometryOf(settings, 4096));
  const questions: (Question | HandlerQuestion)[] = [];
  let closed = 0;
  let gate = Promise.resolve();
  const description = { device: 'eth9', paths: {}, link: NO_LINK, configuration: initial({}) };
  const attendant = new Attendant(memory, settings, [description], {
    ask: async (question) => {
      questions.push(question);
      await gate;
      if (question.kind === 'information') throw new TwinpathError('ERR_KERNEL', { detail: 'as asked' });
      return question.kind === 'count rules' ? undefined : { asked: question.kind };
    },
    close: () => {
      closed++;
    },
  });
  const server = new ControlServer(loadShim(), attendant, HELLO, { folder: parent, refusal: undefined });
  const file = await server.listen();
  onTestFinished(() => server.close());
  const hold = (): (() => void) => {
    let open: () => void = () => {};
    gate = new Promise((resolve) => {
      open = resolve;
    });
    return open;
  };
  return { file, folder: parent, memory, server, questions, closed: () => closed, hold };
}

async function client(file: string): Promise<ControlClient> {
  const connected = (await ControlClient.connect(file))!;
  onTestFinished(() => connected.close());
  return connected;
}

/** A connection that sends what it likes. */
async function raw(file: string): Promise<{ socket: Socket; lines: () => string[] }> {
  const socket = connect(file);
  let text = '';
  socket.on('data', (data) => {
    text += data;
  });
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  await until('the greeting', () => text.includes('\n'));
  return { socket, lines: () => text.split('\n').slice(1, -1) };
}

/** A client of a capture that has a full ring for it. `file`: what has come behind the answer. */
async function capturing(
  { file, memory }: Stage,
  before: string[] = [],
): Promise<{ socket: Socket; records: number; file: () => Buffer; ended: Promise<void> }> {
  const socket = connect({ path: file, allowHalfOpen: true });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => void chunks.push(chunk));
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  const ended = new Promise<void>((resolve) => socket.once('end', resolve));
  const answer = '{"id":"capture","result":null}\n';
  socket.write(
    [...before, '{"id":"capture","request":"capture","port":0}'].map((line) => `${line}\n`).join(''),
  );
  const behind = (): number => Buffer.concat(chunks).indexOf(answer) + answer.length;
  await until('the answer', () => behind() >= answer.length);
  socket.pause();
  const sender = new RecordSender(memory, 0, 0);
  let records = 0;
  while (sender.push(1, memory.layout.frames, 2000, 2000, 0, 0) >= 0) records++;
  sender.commit();
  return { socket, records, ended, file: () => Buffer.concat(chunks).subarray(behind()) };
}

/** How many packets and statistics are in the file, every block of which is whole. */
const contents = (file: Buffer): number[] => {
  const blocks = blocksOf(file);
  return [6, 5].map((type) => blocks.filter((block) => block.type === type).length);
};

describe('the connection of a capture', () => {
  it('has the file alone, also after a watch', async () => {
    const theStage = await stage();
    const capture = await capturing(theStage, ['{"id":1,"request":"watch","millis":100}']);
    capture.socket.resume();
    let samples = 0;
    await (await client(theStage.file)).watch(100, () => {
      samples++;
    });
    await until('some samples of another client', () => samples >= 4);
    capture.socket.write('\n');
    await capture.ended;
    expect(contents(capture.file())).toEqual([capture.records, 6]);
  });

  it('has all of the file however often its end is asked for', async () => {
    const capture = await capturing(await stage());
    const warnings: string[] = [];
    const warn = ({ name }: Error): void => void warnings.push(name);
    process.on('warning', warn);
    onTestFinished(() => void process.off('warning', warn));
    for (let i = 0; i < 20; i++) {
      capture.socket.write('\n');
      await new Promise(setImmediate);
    }
    capture.socket.resume();
    await capture.ended;
    expect(contents(capture.file())).toEqual([capture.records, 6]);
    expect(warnings).toEqual([]); // MaxListenersExceededWarning: each byte would leave a listener
  });

  it('has the rest of the file after its client has ended its side', async () => {
    const capture = await capturing(await stage());
    capture.socket.end('\n');
    capture.socket.resume();
    await capture.ended;
    expect(contents(capture.file())).toEqual([capture.records, 6]);
  });

  it('has the rest of the file if the ports close, though its client reads late', async () => {
    const theStage = await stage();
    const capture = await capturing(theStage);
    theStage.server.close();
    // Longer than a client without a capture has.
    await new Promise((resolve) => setTimeout(resolve, 700));
    capture.socket.resume();
    await capture.ended;
    expect(contents(capture.file())).toEqual([capture.records, 6]);
  });
});

describe('a control socket', () => {
  it('is its user’s alone, greets, and answers in the order of the requests', async () => {
    const { file, closed } = await stage();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const one = await client(file);
    expect(one.hello).toEqual(HELLO);
    const answers = await Promise.all([
      one.request({ request: 'ports' }),
      one.request({ request: 'stats' }),
      one.request({ request: 'rules', port: 0 }),
      one.request({ request: 'failovers' }),
      one.request({ request: 'stop' }),
    ]);
    expect(answers[0]).toMatchObject([{ port: 0, device: 'eth9', netns: 'ns', queues: 2 }]);
    expect(answers[1]).toMatchObject({ ports: [{ received: 0, queues: [{ queue: 0 }, { queue: 1 }] }] });
    expect(answers.slice(2)).toEqual([null, [], null]);
    expect(closed()).toBe(1);
  });

  it('passes orders on after it has checked them, and returns the coordinator’s errors', async () => {
    const { file, questions } = await stage();
    const one = await client(file);
    const change = { mtu: 1400 };
    await one.request({ request: 'configure', port: 0, change });
    expect(questions).toEqual([{ kind: 'configure', port: 0, change }]);
    const options = { limit: null, names: ['a'] };
    expect(await one.request({ request: 'configureHandler', port: 0, change: options })).toBe(null);
    expect(questions[1]).toEqual({ kind: 'handler options', port: 0, change: options });
    const wrong = [
      [{ request: 'configure', port: 0, change: { mtu: 5 } }, 'ERR_OPTION_INVALID'],
      [{ request: 'configure', port: 0, change: { mto: 5 } }, 'ERR_OPTION_UNKNOWN'],
      [{ request: 'configure', port: 1, change }, 'ERR_OPTION_INVALID'],
      [{ request: 'configure', port: 0 }, 'ERR_OPTION_INVALID'],
      [{ request: 'configureHandler', port: 0, change: [] }, 'ERR_OPTION_INVALID'],
      [{ request: 'ports', port: 0 }, 'ERR_OPTION_UNKNOWN'],
      [{ request: 'watch', millis: 1 }, 'ERR_OPTION_INVALID'],
      [{ request: 'failovers', since: -1 }, 'ERR_OPTION_INVALID'],
      [{ request: 'toString' }, 'ERR_OPTION_INVALID'],
      [{ request: 'information', port: 0 }, 'ERR_KERNEL'],
    ] as const;
    for (const [request, code] of wrong) {
      await expect(one.request(request as never), JSON.stringify(request)).rejects.toMatchObject({ code });
    }
    expect(questions).toHaveLength(3);
    expect(await one.request({ request: 'failovers' })).toEqual([]);
  });

  it('answers garbage with an error and goes on, but for a line without end', async () => {
    const { file } = await stage();
    const { socket, lines } = await raw(file);
    socket.write('nonsense\n[]\nnull\n7\n\n{"id":"x","request":"failovers"}\n');
    await until('five answers', () => lines().length === 5);
    const answers = lines().map((line) => JSON.parse(line));
    for (const { id, error } of answers.slice(0, 4)) {
      expect([id, error.code]).toEqual([null, 'ERR_OPTION_INVALID']);
    }
    expect(answers[4]).toEqual({ id: 'x', result: [] });
    const ended = new Promise((resolve) => socket.once('close', resolve));
    socket.write(Buffer.alloc(MAX_LINE + 2, 'x'));
    await ended;
    expect(await (await client(file)).request({ request: 'failovers' })).toEqual([]);
  });

  it('reads no more of a client than it answers, and serves others meanwhile', async () => {
    const { file, questions, hold } = await stage();
    const open = hold();
    const { socket, lines } = await raw(file);
    const request = `${JSON.stringify({ id: 1, request: 'rules', port: 0, pad: undefined })}\n`;
    // Far more than the buffers of the kernel and of Node hold: most of it stays with the client.
    const flood = request.repeat(100_000);
    socket.write(flood);
    await until('the first question', () => questions.length === 1);
    const other = await client(file);
    for (let i = 0; i < 20; i++) await other.request({ request: 'failovers' });
    expect(questions).toHaveLength(1);
    expect(socket.writableLength).toBeGreaterThan(flood.length / 2);
    expect(lines()).toEqual([]);
    socket.destroy();
    open();
    expect(await other.request({ request: 'failovers' })).toEqual([]);
  });

  it('leaves samples out for a client that does not read, and says how many', async () => {
    const { file } = await stage();
    const { socket, lines } = await raw(file);
    socket.pause();
    // The answers fill the buffers of the kernel, and then a sample is due again and again.
    socket.write(`${JSON.stringify({ id: 0, request: 'watch', millis: 100 })}\n`);
    socket.write(`${JSON.stringify({ id: 1, request: 'stats' })}\n`.repeat(500));
    const other = await client(file);
    let samples = 0;
    await other.watch(100, () => {
      samples++;
    });
    await until('some samples', () => samples >= 5);
    socket.resume();
    const last = (): StatisticsSample | undefined =>
      lines()
        .map((line) => JSON.parse(line))
        .findLast(({ id }) => id === 0)?.result;
    await until('word of what was missed', () => (last()?.missed ?? 0) > 0);
  });

  it('is removed by the next one when its process was killed', async () => {
    const { folder, file } = await stage();
    const stale = join(folder, '999999.sock');
    writeFileSync(join(folder, 'other.json'), '{}');
    const program = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', program, stale]);
    expect(existsSync(stale)).toBe(true);
    expect(socketFiles(folder)).toEqual([file, stale]);
    await removeStale(folder);
    expect(socketFiles(folder)).toEqual([file]);
    expect(await connectTo(stale)).toBeUndefined();
  });
});
