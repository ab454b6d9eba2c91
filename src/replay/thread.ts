/**
 * The thread of a replay: opens the files, plays, and writes. It makes no native call.
 */
import { statSync } from 'node:fs';
import { plainError } from '../errors.ts';
import { Memory, nowNanos } from '../memory/shared.ts';
import { CaptureWriter } from '../pcapng/file-writer.ts';
import type { ReplaySettings } from '../replay-settings.ts';
import { invalid } from '../validation.ts';
import { type PlayMessage, type ReplayData, type ReplayMessage, ReplayWords } from './messages.ts';
import { Player } from './player.ts';
import { Recording } from './recording.ts';

/** The thread's end of its channel. */
interface Line {
  post(message: ReplayMessage): void;
  /** Calls `play` when the ports are open. */
  onPlay(play: (message: PlayMessage) => void): void;
}

/** Opens the files, and says so; plays when the ports are open. What fails is reported, and ends the thread. */
export function runReplay({ settings, ports, words }: ReplayData, { post, onPlay }: Line): void {
  const given = new ReplayWords(words);
  let recording: Recording | undefined;
  let out: CaptureWriter | undefined;
  const attempt = (step: () => void, last: boolean): void => {
    let failure: unknown;
    try {
      step();
      if (!last) return;
    } catch (error) {
      failure = error;
    }
    recording?.close();
    try {
      out?.close();
    } catch (error) {
      failure ??= error;
    }
    if (failure !== undefined) post({ kind: 'failed', error: plainError(failure) });
  };
  attempt(() => {
    recording = new Recording(settings, nowNanos);
    out = writerOf(settings, ports);
    onPlay(({ shared }) => {
      const player = new Player({
        ...{ memory: Memory.attach(shared), recording: recording!, out, words: given, post },
        clock: nowNanos,
      });
      attempt(() => player.run(), true);
    });
    post({ kind: 'opened' });
  }, false);
}

/** @throws ERR_OPTION_INVALID, ERR_CAPTURE_FILE */
function writerOf({ file, out }: ReplaySettings, ports: number): CaptureWriter | undefined {
  if (out === undefined) return undefined;
  const [from, to] = [file, out].map((path) => statSync(path, { throwIfNoEntry: false }));
  if (from !== undefined && to !== undefined && from.ino === to.ino && from.dev === to.dev)
    invalid('network.out', `${out} is the file that is played`);
  const interfaces = Array.from({ length: ports }, (_, port) => ({ name: `port ${port}` }));
  return new CaptureWriter(out, { interfaces, application: 'Twinpath' });
}
