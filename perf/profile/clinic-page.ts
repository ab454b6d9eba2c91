/** Whether a page of Clinic.js holds any data: Clinic writes one, and says so, also when it has none. */

export const TOOLS = ['doctor', 'bubbleprof', 'flame', 'heapprofiler'] as const;
export type Tool = (typeof TOOLS)[number];

export interface Evidence {
  /** What was counted. */
  readonly what: 'samples' | 'functions of ours';
  readonly count: number;
}

/** A file of this project in a stack frame, as it is in the pages' data. */
const OURS = /dist[/\\]+(?:src|workers|perf)[/\\]+([\w/\\-]+\.js)(?::(\d+):(\d+))?/g;
const DATA = /<script type="application\/json" id="clinic-data">([\s\S]*?)<\/script>/;

/** A page of doctor has samples of the process; the others name functions. */
export function evidenceIn(tool: Tool, html: string): Evidence {
  if (tool === 'doctor') return { what: 'samples', count: doctorSamples(html) };
  return { what: 'functions of ours', count: new Set(html.match(OURS)).size };
}

function doctorSamples(html: string): number {
  try {
    const { processStat } = JSON.parse(DATA.exec(html)?.[1] ?? '{}') as {
      processStat?: { data?: unknown[] } | unknown[];
    };
    const samples = Array.isArray(processStat) ? processStat : processStat?.data;
    return samples?.length ?? 0;
  } catch {
    return 0;
  }
}
