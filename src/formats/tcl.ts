import {
  Luminosity,
  placeOf,
  type ExportFile,
  type Format,
  type ListFacts,
  type RunFact,
} from './list.ts';
import { ChunkLines, countLine } from './lines.ts';

/**
 * One word of Tcl that means these characters, whatever they are: what Tcl could read otherwise stands behind a
 * backslash, and what the system's encoding could turn into something else as \u and its number.
 */
export function tclWord(text: string): string {
  const quoted = text.replaceAll(/[^A-Za-z0-9_./:@%+=,~^-]/g, (character) => {
    const code = character.charCodeAt(0);
    const isPlain = code > 0x20 && code < 0x7f;
    return isPlain ? `\\${character}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
  return quoted === '' ? '{}' : quoted;
}

/** 2004/04/20 22:35:33, UTC. */
const tclTime = (time: Date | null) =>
  (time ?? new Date(0)).toISOString().slice(0, 19).replaceAll('-', '/').replace('T', ' ');

/** "57 on-peak runs", or "57 runs" where the conditions differ or are not known. */
function runsInWords(runs: readonly RunFact[]): string {
  const conditions = new Set(runs.map((run) => run.conditions));
  const [only] = conditions;
  const word = conditions.size === 1 && only ? `${only.toLowerCase().replaceAll('_', '-')} ` : '';
  // What a person typed must not end the comment.
  return `${runs.length} ${/^[\w -]*$/.test(word) ? word : ''}run${runs.length === 1 ? '' : 's'}`;
}

const inPicobarns = (value: number | null) => (value === null ? 'unknown' : `${tenths(value)}/pb`);
const tenths = (value: number) => (Math.round(value * 10) / 10).toFixed(1);

function comment(file: ExportFile): string {
  const runs = file.runFacts ?? [];
  const known = runs.map((run) => run.events).filter((events) => events !== null);
  const inRuns =
    known.length === runs.length && runs.length > 0
      ? known.reduce((sum, events) => sum + events, 0)
      : file.eventCount;
  const luminosity = new Luminosity();
  luminosity.add(runs);
  return (
    `# ${file.eventCount ?? 'unknown'}/${inRuns ?? 'unknown'} events selected from ${runsInWords(runs)}, ` +
    `added to dataset at ${tclTime(file.addedAt)}, lumi = ~${inPicobarns(luminosity.value)}\n`
  );
}

/** What BaBar's jobs source: a comment and a `lappend inputList` for each file, and the summary that scripts look for. */
export const tcl: Format = {
  contentType: 'text/x-tcl; charset=utf-8',
  detail: 'facts',
  tells: { events: true, checksums: false },
  holdsChunks: true,
  needsTree: false,
  writer: (list: ListFacts) => {
    const chunks = new ChunkLines();
    return {
      head: () => `# ${list.name}\n`,
      file: (file) =>
        `${chunks.before(file)}${comment(file)}lappend inputList ${tclWord(placeOf(file))}\n`,
      tail: (totals) =>
        `# Selected ${totals.files} collections, ${totals.events}/${list.eventCount} events, ` +
        `${inPicobarns(totals.luminosity)}\n${countLine(totals)}\n`,
    };
  },
};
