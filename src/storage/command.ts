import { hostname } from 'node:os';
import { z } from 'zod';
import { SweepbookError } from '../errors.ts';
import type {
  Evidence,
  PutOptions,
  Residency,
  ResidencyAnswer,
  StoreFeatures,
} from './contract.ts';
import { runTool, type ToolAnswer } from './run-tool.ts';
import { commonSettings } from './store-settings.ts';
import {
  plainNames,
  toolSettings,
  type ListedByTool,
  type Look,
  type StoreTool,
} from './store-tool.ts';

const argv = z.array(z.string().min(1).max(1000)).min(1).max(50);

/** A regular expression, line by line ("^" and "$" are those of a line). */
function pattern(...groups: string[]) {
  return z
    .string()
    .min(1)
    .max(500)
    .refine(
      (text) => {
        try {
          const found = Object.keys(new RegExp(`${text}|`, 'mu').exec('')?.groups ?? {});
          return groups.every((group) => found.includes(group));
        } catch {
          return false;
        }
      },
      `a regular expression with ${groups.map((group) => `(?<${group}>…)`).join(' and ') || 'what must be said'}`,
    );
}

/** A store of a kind that is not known here, in the store file: what to run, and what must be answered. */
export const commandSettings = z.strictObject({
  ...commonSettings,
  ...toolSettings,
  kind: z.literal('command'),
  /** {path}, {local}, {from} and {to} stand for paths. No shell sees them. */
  commands: z.strictObject({
    size: z.strictObject({ argv, present: pattern('size'), absent: pattern() }),
    put: z.strictObject({ argv }),
    get: z.strictObject({ argv }),
    move: z.strictObject({ argv }),
    remove: z.strictObject({ argv }),
    /** Unset = folders come by themselves. */
    makeFolder: z.strictObject({ argv }).optional(),
    /** Unset = the store says no checksum: its bytes must be read. */
    checksum: z.strictObject({ argv, said: pattern('adler32') }).optional(),
    /** One line for each entry; unset = it cannot be compared with the catalogue. */
    list: z
      .strictObject({ argv, file: pattern('name', 'size'), folder: pattern('name') })
      .optional(),
    /** Unset = it has no tape. */
    tape: z.strictObject({ argv, onTape: pattern(), lost: pattern().optional() }).optional(),
  }),
});
export type CommandSettings = z.infer<typeof commandSettings>;

interface Asked extends ToolAnswer {
  readonly argv: readonly string[];
  readonly askedAt: string;
}

/** A store by commands that somebody wrote into the store file. What they do not say is not so. */
export class CommandTool implements StoreTool {
  readonly features: Pick<StoreFeatures, 'says' | 'hasTape'>;
  readonly canList: boolean;
  readonly faultOf = plainNames;

  constructor(private readonly settings: CommandSettings) {
    const { checksum, list, tape } = settings.commands;
    this.features = { says: checksum ? ['adler32'] : [], hasTape: tape !== undefined };
    this.canList = list !== undefined;
  }

  async look(path: string, options: PutOptions): Promise<Look> {
    const { size } = this.settings.commands;
    const answer = await this.run(size.argv, { path }, options);
    const evidence = evidenceOf(answer);
    const present = said(answer, size.present);
    const absent = matches(answer.stdout + answer.stderr, size.absent).length > 0;
    if (absent && !present) return { isPresent: false, isFile: false, evidence };
    const bytes = present?.groups?.['size'] ?? '';
    if (absent || !/^\d{1,16}$/.test(bytes)) throw this.broken('size', answer);
    return { isPresent: true, isFile: true, sizeBytes: Number(bytes), evidence };
  }

  async sum(
    path: string,
    deadlineMs: number,
    options: PutOptions,
  ): Promise<{ readonly adler32?: string; readonly evidence: Evidence } | undefined> {
    const { checksum } = this.settings.commands;
    if (!checksum) return undefined;
    const answer = await this.run(checksum.argv, { path }, options, deadlineMs);
    const adler32 = said(answer, checksum.said)?.groups?.['adler32'] ?? '';
    const evidence = evidenceOf(answer);
    return /^[0-9a-f]{8}$/.test(adler32) ? { adler32, evidence } : { evidence };
  }

  async makeFolder(path: string, options: PutOptions): Promise<void> {
    const { makeFolder } = this.settings.commands;
    if (makeFolder) await this.do('makeFolder', makeFolder.argv, { path }, options);
  }

  async copyIn(
    local: string,
    path: string,
    deadlineMs: number,
    options: PutOptions,
  ): Promise<void> {
    await this.do('put', this.settings.commands.put.argv, { local, path }, options, deadlineMs);
  }

  async copyOut(
    path: string,
    local: string,
    deadlineMs: number,
    options: PutOptions,
  ): Promise<void> {
    await this.do('get', this.settings.commands.get.argv, { local, path }, options, deadlineMs);
  }

  async move(from: string, to: string): Promise<void> {
    await this.do('move', this.settings.commands.move.argv, { from, to }, {});
  }

  /** Whether it was there is seen by looking. */
  async remove(path: string): Promise<void> {
    if (!(await this.look(path, {})).isPresent) return;
    await this.do('remove', this.settings.commands.remove.argv, { path }, {});
  }

  async list(path: string, options: PutOptions): Promise<ListedByTool[] | undefined> {
    const { list } = this.settings.commands;
    if (!list) return undefined;
    const answer = await this.run(list.argv, { path }, options);
    if (answer.code !== 0 || answer.isCut) throw this.broken('list', answer);
    return answer.stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line): ListedByTool => {
        const file = new RegExp(list.file, 'u').exec(line)?.groups;
        const folder = new RegExp(list.folder, 'u').exec(line)?.groups;
        const name = (file ?? folder)?.['name'] ?? '';
        const isOne = (file === undefined) !== (folder === undefined);
        const size = file?.['size'] ?? '0';
        if (!isOne || name === '' || name.includes('/') || !/^\d{1,16}$/.test(size)) {
          throw this.broken('list', answer);
        }
        const common = { name, changedAt: undefined };
        return { ...common, isFolder: folder !== undefined, sizeBytes: Number(size) };
      });
  }

  async residencyOf(
    paths: readonly string[],
    options: PutOptions,
  ): Promise<Map<string, ResidencyAnswer>> {
    const { tape } = this.settings.commands;
    const found = new Map<string, ResidencyAnswer>();
    if (!tape) return found;
    for (const path of paths) {
      const answer = await this.run(tape.argv, { path }, options);
      const onTape = said(answer, tape.onTape) !== undefined;
      const lost = tape.lost !== undefined && said(answer, tape.lost) !== undefined;
      const word: Residency = onTape ? 'TAPE' : 'LOST';
      found.set(path, {
        residency: onTape === lost ? 'UNKNOWN' : word,
        evidence: evidenceOf(answer),
      });
    }
    return found;
  }

  private async do(
    step: string,
    template: readonly string[],
    paths: Readonly<Record<string, string>>,
    options: PutOptions,
    deadlineMs?: number,
  ): Promise<void> {
    const answer = await this.run(template, paths, options, deadlineMs);
    if (answer.code !== 0) throw this.broken(step, answer);
  }

  private async run(
    template: readonly string[],
    paths: Readonly<Record<string, string>>,
    { signal }: PutOptions,
    deadlineMs = this.settings.askSeconds * 1000,
  ): Promise<Asked> {
    const filled = template.map((part) =>
      part.replaceAll(/\{(path|local|from|to)\}/g, (all, name: string) => paths[name] ?? all),
    ) as [string, ...string[]];
    const askedAt = new Date().toISOString();
    const run = { argv: filled, deadlineMs, signal };
    return { ...(await runTool(this.settings.name, run)), argv: filled, askedAt };
  }

  private broken(step: string, answer: Asked): SweepbookError {
    const { name } = this.settings;
    const words = `${answer.stdout} ${answer.stderr}`.replaceAll(/\s+/g, ' ').trim().slice(0, 300);
    const isFull = /no space left|quota exceeded/i.test(words);
    return new SweepbookError(
      isFull ? 'NO_SPACE' : 'STORE_UNAVAILABLE',
      `store ${name}: ${step} (${answer.argv.join(' ')}) was answered with ${words || 'nothing'} (exit code ${answer.code})`,
      { store: name, evidence: evidenceOf(answer) },
    );
  }
}

function matches(text: string, wanted: string): RegExpExecArray[] {
  return [...text.matchAll(new RegExp(wanted, 'gmu'))];
}

/** Said once, in an answer that came whole and ended well. */
function said({ code, stdout, isCut }: ToolAnswer, wanted: string): RegExpExecArray | undefined {
  const [one, ...more] = code === 0 && !isCut ? matches(stdout, wanted) : [];
  return more.length === 0 ? one : undefined;
}

function evidenceOf(answer: Asked): Evidence {
  const { code, stdout, stderr } = answer;
  return {
    asked: answer.argv.join(' '),
    answer: JSON.stringify({ code, stdout, stderr }),
    askedAt: answer.askedAt,
    host: hostname(),
  };
}
