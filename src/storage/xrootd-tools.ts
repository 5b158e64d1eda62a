import { hostname } from 'node:os';
import type { Readable } from 'node:stream';
import { SweepbookError } from '../errors.ts';
import type { Evidence } from './contract.ts';
import { runTool, toolEnvironment, type ToolAnswer, type ToolRun } from './run-tool.ts';
import { lineOf, Sessions } from './xrootd-session.ts';

/** How the native tools are run for one store. */
export interface XrootdTools {
  readonly store: string;
  /** root://host:port */
  readonly url: string;
  readonly xrdfs: string;
  readonly xrdcp: string;
  readonly tokenFile: string | undefined;
  readonly askSeconds: number;
}

/** What the server's own numbers mean (kXR_…, XProtocol.hh). */
export const serverCodes = {
  ofDisk: 3005,
  noSpace: 3009,
  notFound: 3011,
  exists: 3018,
  quota: 3021,
} as const;

export interface XrootdAnswer extends ToolAnswer {
  readonly argv: readonly string[];
  readonly askedAt: string;
  /** The number of the server's error, if it answered with one. */
  readonly serverCode: number | undefined;
}

export interface XrootdRun extends Pick<
  ToolRun,
  'signal' | 'input' | 'stdin' | 'stdout' | 'onOutput' | 'env'
> {
  /** How long it may take; unset = as long as a question may. */
  readonly deadlineMs?: number;
}

/** xrdfs asks, and xrdcp copies; the answer is not judged here. */
export async function runXrootd(
  tools: XrootdTools,
  tool: 'xrdfs' | 'xrdcp',
  args: readonly string[],
  run: XrootdRun = {},
): Promise<XrootdAnswer> {
  const argv = [tools[tool], ...(tool === 'xrdfs' ? [tools.url] : []), ...args] as const;
  const askedAt = new Date().toISOString();
  const { deadlineMs = tools.askSeconds * 1000, ...rest } = run;
  const answer = await runTool(tools.store, {
    ...rest,
    argv,
    deadlineMs: deadlineMs + graceMs,
    env: { ...environmentOf(tools, Math.ceil(deadlineMs / 1000)), ...run.env },
  });
  return understood(answer, argv, askedAt);
}

/** The tool is to give up by itself first, and to say why. */
const graceMs = 3000;

function environmentOf(tools: XrootdTools, seconds: number): Record<string, string> {
  return {
    XRD_REQUESTTIMEOUT: String(seconds),
    XRD_STREAMTIMEOUT: String(seconds),
    XRD_CONNECTIONWINDOW: String(tools.askSeconds),
    XRD_CONNECTIONRETRY: '1',
    XRD_TIMEOUTRESOLUTION: '1',
    // A file called x.meta4 is a file.
    XRD_METALINKPROCESSING: '0',
    TZ: 'UTC',
    ...(tools.tokenFile === undefined ? {} : { BEARER_TOKEN_FILE: tools.tokenFile }),
  };
}

function understood(answer: ToolAnswer, argv: readonly string[], askedAt: string): XrootdAnswer {
  // The server's words end with a null byte.
  const stderr = answer.stderr.replaceAll('\0', '');
  const code = /\[(3\d{3})\]/.exec(stderr)?.[1];
  return {
    ...answer,
    stderr,
    argv,
    askedAt,
    serverCode: answer.code === 0 || code === undefined ? undefined : Number(code),
  };
}

/** Questions that may take longer than this get an "xrdfs" of their own. */
const mostSessionSeconds = 600;

/** Asks by "xrdfs" that stay: the start of one costs more than a hundred questions. */
export class XrootdQuestions {
  private readonly sessions = new Map<number, Sessions>();

  constructor(private readonly tools: XrootdTools) {}

  async ask(args: readonly string[], run: XrootdRun = {}): Promise<XrootdAnswer> {
    const line = run.onOutput ? undefined : lineOf(args);
    const { askSeconds } = this.tools;
    const { deadlineMs = askSeconds * 1000, signal } = run;
    if (line === undefined || deadlineMs > mostSessionSeconds * 1000) {
      return runXrootd(this.tools, 'xrdfs', args, run);
    }
    const askedAt = new Date().toISOString();
    signal?.throwIfAborted();
    // Two sorts of them: how long a request may take is told to the tool when it starts.
    const seconds = deadlineMs > askSeconds * 1000 ? mostSessionSeconds : askSeconds;
    const end = await this.sessionsOf(seconds).ask(line, {
      deadlineMs: deadlineMs + graceMs,
      signal,
    });
    signal?.throwIfAborted();
    // Of a move that broke off nobody knows whether it was done.
    if (end === undefined || (end === 'broken' && args[0] !== 'mv')) {
      return runXrootd(this.tools, 'xrdfs', args, run);
    }
    const { store, url, xrdfs } = this.tools;
    if (typeof end === 'string') {
      const why =
        end === 'late' ? `said nothing for ${Math.ceil(deadlineMs / 1000)} s` : 'broke off';
      throw new SweepbookError(
        'STORE_UNAVAILABLE',
        `store ${store}: ${xrdfs} ${why}: is the store reachable?`,
        { store, program: xrdfs },
      );
    }
    // Whatever it cannot do it says there, and it is known to have come to the end of what it said.
    const code = end.stderr === '' ? 0 : 1;
    return understood({ ...end, code, isCut: false }, [xrdfs, url, ...args], askedAt);
  }

  private sessionsOf(seconds: number): Sessions {
    const known = this.sessions.get(seconds);
    if (known) return known;
    const { url, xrdfs } = this.tools;
    const made = new Sessions({
      argv: [xrdfs, url],
      env: {
        ...toolEnvironment(),
        ...environmentOf(this.tools, seconds),
        // Its line editor is to echo what it gets, long lines too, whatever a file in HOME wants of it.
        INPUTRC: '/dev/null',
        TERM: 'dumb',
        COLUMNS: '32000',
      },
    });
    this.sessions.set(seconds, made);
    return made;
  }
}

/** The server says that nothing is there; a file where a folder would have to be comes as a plain error of its disk. */
export function saysAbsent(answer: XrootdAnswer): boolean {
  const { notFound, ofDisk } = serverCodes;
  if (answer.serverCode === notFound) return true;
  return answer.serverCode === ofDisk && /; not a directory\s*$/.test(answer.stderr);
}

/** The last words of a tool, in one line. */
export function wordsOf(answer: XrootdAnswer): string {
  const words = answer.stderr.replaceAll(/\s+/g, ' ').trim();
  return `${words.slice(0, 300) || 'no word of why'} (exit code ${answer.code})`;
}

/** What a failed run means for the caller. */
export function failureOf(tools: XrootdTools, answer: XrootdAnswer): SweepbookError {
  const facts = { store: tools.store, evidence: evidenceOf([answer]) };
  const { noSpace, quota } = serverCodes;
  if (answer.serverCode === noSpace || answer.serverCode === quota) {
    return new SweepbookError(
      'NO_SPACE',
      `store ${tools.store} is full: make room at ${tools.url}`,
      facts,
    );
  }
  return new SweepbookError(
    'STORE_UNAVAILABLE',
    `store ${tools.store} does not work: ${wordsOf(answer)}`,
    facts,
  );
}

/** What was asked and answered, word for word. */
export function evidenceOf(answers: readonly XrootdAnswer[], more?: unknown): Evidence {
  const told = answers.map(({ code, stdout, stderr }) => ({ code, stdout, stderr }));
  return {
    asked: answers.map(({ argv }) => argv.join(' ')).join('; '),
    answer: JSON.stringify(more === undefined ? told : [...told, more]),
    askedAt: answers[0]?.askedAt ?? new Date().toISOString(),
    host: hostname(),
  };
}

export interface XrootdStat {
  readonly sizeBytes: number;
  readonly modified: string;
  readonly flags: readonly string[];
}

/** A plain file, whole, and on disk. */
export function isWholeFile({ flags }: XrootdStat): boolean {
  return !['IsDir', 'Other', 'POSCPending', 'Offline'].some((flag) => flags.includes(flag));
}

export function isFile({ flags }: XrootdStat): boolean {
  return !flags.includes('IsDir') && !flags.includes('Other');
}

/** What "xrdfs stat" printed; undefined = anything else than what it should print. */
export function parseStat(text: string): XrootdStat | undefined {
  const size = /^Size: {3}(\d{1,16})$/m.exec(text)?.[1];
  const modified = /^MTime: {2}(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$/m.exec(text)?.[1];
  const flags = /^Flags: {2}\d+ \(([A-Za-z|]*)\)$/m.exec(text)?.[1];
  if (size === undefined || modified === undefined || flags === undefined) return undefined;
  return { sizeBytes: Number(size), modified, flags: flags.split('|') };
}

/** What "xrdfs query checksum" printed; only eight lower-case hexadecimal digits are an adler32. */
export function parseAdler32(text: string): string | undefined {
  return /^adler32 ([0-9a-f]{8})\s*$/.exec(text)?.[1];
}

export interface ListedEntry {
  readonly name: string;
  readonly isFolder: boolean;
  readonly sizeBytes: number;
  readonly changedAt: Date;
}

// drwxr-xr-x owner group 4096 2026-11-26 01:09:08 /store/sp
const newForm =
  /^([d-])[rwxst-]{9}\s+\S+\s+\S+\s+(\d{1,16}) (\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) (\/.*)$/s;
// dr-- 2026-11-26 01:09:08         4096 /store/sp : of servers that tell no owner
const oldForm = /^([d-])[r-][w-][x-]\s+(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)\s+(\d{1,16}) (\/.*)$/s;

/** A line of "xrdfs ls -l FOLDER"; undefined = it is none, and then the listing must not be believed. */
export function parseListed(line: string, folder: string): ListedEntry | undefined {
  const modern = newForm.exec(line);
  const old = modern ? null : oldForm.exec(line);
  const [kind, size, date, time, path] = modern
    ? modern.slice(1)
    : [old?.[1], old?.[4], old?.[2], old?.[3], old?.[5]];
  if (path === undefined || !path.startsWith(`${folder}/`)) return undefined;
  const name = path.slice(folder.length + 1);
  if (name === '' || name.includes('/')) return undefined;
  return {
    name,
    isFolder: kind === 'd',
    sizeBytes: Number(size),
    changedAt: new Date(`${date}T${time}Z`),
  };
}

/** All lines of an output, however many; only a line feed ends one. */
export async function linesOf(output: Readable): Promise<string[]> {
  const parts: Buffer[] = [];
  for await (const part of output as AsyncIterable<Buffer>) parts.push(part);
  return Buffer.concat(parts).toString('utf8').replace(/\n$/, '').split('\n');
}
