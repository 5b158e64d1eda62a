import { hostname } from 'node:os';
import { z } from 'zod';
import { SweepbookError } from '../errors.ts';
import type { Evidence, PutOptions, ResidencyAnswer } from './contract.ts';
import {
  parseExtended,
  parseFolder,
  parseHashlist,
  parseLine,
  residencyOf,
  verifies,
} from './hpss-answers.ts';
import { runTool, type ToolAnswer } from './run-tool.ts';
import { commonSettings } from './store-settings.ts';
import {
  plainNames,
  toolSettings,
  type ListedByTool,
  type Look,
  type StoreTool,
} from './store-tool.ts';

/** A folder of an HPSS system in the store file. */
export const hpssSettings = z.strictObject({
  ...commonSettings,
  ...toolSettings,
  kind: z.literal('hpss'),
  /** The program with what it needs to log in; -P is added. */
  hsi: z.array(z.string().min(1)).min(1).max(20).default(['hsi']),
  /** Sessions at once of this process; sites allow few for each user. */
  sessions: z.number().int().min(1).max(64).default(4),
  /** Tape levels that must hold all of a file before it is archived. */
  tapeCopies: z.number().int().min(1).max(4).default(1),
  /** "hashverify" reads the bytes; without it the stored checksum is taken, which is a memory. */
  verify: z.boolean().default(true),
});
export type HpssSettings = z.infer<typeof hpssSettings>;

/** Files in one question about tape. */
const pathsPerQuestion = 50;
const temporaryFailure = 75;

interface Asked extends ToolAnswer {
  readonly argv: readonly string[];
  readonly askedAt: string;
}

/**
 * HPSS by hsi. It takes one line of commands, whatever the arguments were, so names are of characters that mean
 * nothing to it. With -P all of its answer is on standard output, errors too.
 */
export class HpssTool implements StoreTool {
  readonly features = { says: ['adler32'], hasTape: true } as const;
  readonly canList = true;
  private free: number;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly settings: HpssSettings) {
    this.free = settings.sessions;
  }

  readonly faultOf = plainNames;

  async look(path: string, options: PutOptions): Promise<Look> {
    const answer = await this.run(['ls', '-aldDN', path], options);
    const evidence = evidenceOf([answer]);
    if (saysAbsent(answer)) return { isPresent: false, isFile: false, evidence };
    this.demandDone(answer);
    const lines = answer.stdout.split('\n').filter((line) => line.trim() !== '');
    const line = lines.length === 1 ? parseLine(lines[0] ?? '') : undefined;
    if (!line || line.path.replace(/\/$/, '') !== path || answer.isCut) {
      throw this.broken(`ls ${path} was answered with something else`, evidence);
    }
    const { isFile, sizeBytes } = line;
    return { isPresent: true, isFile, ...(isFile ? { sizeBytes } : {}), evidence };
  }

  async sum(
    path: string,
    deadlineMs: number,
    options: PutOptions,
  ): Promise<{ readonly adler32?: string; readonly evidence: Evidence }> {
    const listed = await this.run(['hashlist', path], options);
    const adler32 = isDone(listed) ? parseHashlist(listed.stdout, path) : undefined;
    this.demandUp(listed);
    if (adler32 === undefined) return { evidence: evidenceOf([listed]) };
    if (!this.settings.verify) return { adler32, evidence: evidenceOf([listed]) };
    const verified = await this.run(['hashverify', '-A', path], options, deadlineMs);
    this.demandUp(verified);
    const evidence = evidenceOf([listed, verified]);
    return isDone(verified) && verifies(verified.stdout, path)
      ? { adler32, evidence }
      : { evidence };
  }

  async makeFolder(path: string, options: PutOptions): Promise<void> {
    this.demandDone(await this.run(['mkdir', '-p', path], options));
  }

  async copyIn(
    source: string,
    path: string,
    deadlineMs: number,
    options: PutOptions,
  ): Promise<void> {
    const args = ['put', '-c', 'on', '-H', 'adler32', source, ':', path];
    this.demandDone(await this.run(args, options, deadlineMs));
  }

  async copyOut(
    path: string,
    target: string,
    deadlineMs: number,
    options: PutOptions,
  ): Promise<void> {
    // Not checked by hsi: its refusal would say less than the bytes do.
    const args = ['get', '-c', 'off', target, ':', path];
    this.demandDone(await this.run(args, options, deadlineMs));
  }

  async move(from: string, to: string): Promise<void> {
    this.demandDone(await this.run(['mv', from, to], {}));
  }

  async remove(path: string): Promise<void> {
    const answer = await this.run(['rm', path], {});
    if (!saysAbsent(answer)) this.demandDone(answer);
  }

  async list(path: string, options: PutOptions): Promise<ListedByTool[] | undefined> {
    const lines: string[] = [];
    const answer = await this.run(['ls', '-alDN', path], options, undefined, lines);
    if (saysAbsent(answer)) return undefined;
    this.demandDone(answer);
    const entries = parseFolder(lines.join(''), path);
    if (entries) return entries;
    throw this.broken(
      `${path} cannot be listed; a listing with a hole is none`,
      evidenceOf([answer]),
    );
  }

  /** By path: an answer that is missing, or there twice, is none. */
  async residencyOf(
    paths: readonly string[],
    options: PutOptions,
  ): Promise<Map<string, ResidencyAnswer>> {
    const found = new Map<string, ResidencyAnswer>();
    for (let at = 0; at < paths.length; at += pathsPerQuestion) {
      const asked = paths.slice(at, at + pathsPerQuestion);
      const answer = await this.run(['ls', '-aldDNX', ...asked], options);
      this.demandUp(answer);
      const told = Map.groupBy(parseExtended(answer.stdout), ({ line }) => line.path);
      for (const path of asked) {
        const [one, ...more] = told.get(path) ?? [];
        if (!one || more.length > 0 || !one.line.isFile || answer.isCut) continue;
        found.set(path, {
          residency: residencyOf(one, this.settings.tapeCopies),
          evidence: { ...evidenceOf([answer]), asked: `ls -aldDNX ${path}`, answer: one.text },
        });
      }
    }
    return found;
  }

  private async run(
    args: readonly string[],
    { signal }: PutOptions,
    deadlineMs = this.settings.askSeconds * 1000,
    output?: string[],
  ): Promise<Asked> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    try {
      const [program = 'hsi', ...login] = this.settings.hsi;
      const argv = [program, ...login, '-P', ...args] as const;
      const askedAt = new Date().toISOString();
      const answer = await runTool(this.settings.name, {
        argv,
        deadlineMs,
        signal,
        ...(output
          ? {
              onOutput: async (stream) => {
                stream.setEncoding('utf8');
                for await (const part of stream) output.push(part as string);
              },
            }
          : {}),
      });
      const stdout = output ? output.join('').slice(0, 65_536) : answer.stdout;
      return { ...answer, stdout, argv, askedAt };
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.free++;
    }
  }

  /** Whatever else it said: it could be asked. */
  private demandUp(answer: Asked): void {
    if (isDone(answer) || ![69, temporaryFailure, 76, 77].includes(answer.code)) return;
    this.demandDone(answer);
  }

  private demandDone(answer: Asked): void {
    if (isDone(answer)) return;
    const words = `${answer.stdout} ${answer.stderr}`.replaceAll(/\s+/g, ' ').trim().slice(0, 300);
    const why = `${answer.argv.slice(this.settings.hsi.length).join(' ')}: ${words || 'no word of why'}`;
    if (/ENOSPC|no space left|quota exceeded/i.test(words)) {
      const { name } = this.settings;
      throw new SweepbookError('NO_SPACE', `store ${name} is full: ${words}`, { store: name });
    }
    const again = answer.code === temporaryFailure ? ', try again' : '';
    throw this.broken(`${why} (exit code ${answer.code}${again})`, evidenceOf([answer]));
  }

  private broken(why: string, evidence: Evidence): SweepbookError {
    const { name } = this.settings;
    const facts = { store: name, evidence };
    return new SweepbookError('STORE_UNAVAILABLE', `store ${name} does not work: ${why}`, facts);
  }
}

/** Errors begin with stars, and some come with exit code 0. */
function isDone({ code, stdout, stderr }: ToolAnswer): boolean {
  return code === 0 && !/^\s*\*{3}/m.test(`${stdout}\n${stderr}`);
}

/** In its own words, and not by an exit code alone. */
function saysAbsent(answer: ToolAnswer): boolean {
  return (
    [64, 72].includes(answer.code) &&
    /^\s*\*{3}.*(HPSS_ENOENT|HPSS_ENOTDIR|No such file or directory|Not a directory)/m.test(
      answer.stdout,
    )
  );
}

function evidenceOf(answers: readonly Asked[]): Evidence {
  return {
    asked: answers.map(({ argv }) => argv.join(' ')).join('; '),
    answer: JSON.stringify(answers.map(({ code, stdout, stderr }) => ({ code, stdout, stderr }))),
    askedAt: answers[0]?.askedAt ?? new Date().toISOString(),
    host: hostname(),
  };
}
