/** Whether a report of clinic holds anything: it writes an HTML page, and says so, also when it has no data. Pure. */
import type { Tool } from './options.ts';

export interface Evidence {
  /** What was counted. */
  readonly what: 'samples' | 'functions of ours';
  readonly count: number;
}

/** A file of this project in a stack frame, as it is in the reports' data. */
const OURS = /dist[/\\]+(?:src|workers|perf)[/\\]+([\w/\\-]+\.js)(?::(\d+):(\d+))?/g;
const DATA = /<script type="application\/json" id="clinic-data">([\s\S]*?)<\/script>/;

/** A doctor's report is samples of the process; the others name functions. */
export function evidenceIn(tool: Tool, html: string): Evidence {
  if (tool === 'doctor') return { what: 'samples', count: doctorSamples(html) };
  const places = new Set([...html.matchAll(OURS)].map(([place]) => place));
  return { what: 'functions of ours', count: places.size };
}

function doctorSamples(html: string): number {
  const text = DATA.exec(html)?.[1];
  if (text === undefined) return 0;
  try {
    const { processStat } = JSON.parse(text) as { processStat?: { data?: unknown[] } | unknown[] };
    const samples = Array.isArray(processStat) ? processStat : processStat?.data;
    return samples?.length ?? 0;
  } catch {
    return 0;
  }
}
