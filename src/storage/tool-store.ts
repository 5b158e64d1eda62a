import { writeFile } from 'node:fs/promises';
import { badInput, messageOf, SweepbookError } from '../errors.ts';
import { hashFile } from './bytes.ts';
import type {
  Evidence,
  Expected,
  MassStore,
  PutOptions,
  ResidencyAnswer,
  StoreAnswer,
  StoredFile,
  StoreFeatures,
  StoreState,
  TemporaryFile,
} from './contract.ts';
import { copyFile, withSource } from './copy-file.ts';
import {
  demandStoredKey,
  demandTemporary,
  incoming,
  marker,
  markerText,
  ownerOf,
} from './incoming.ts';
import { keyTaken } from './key-taken.ts';
import { inScratch, isPlainPath } from './scratch.ts';
import { copyDeadlineMs } from './store-settings.ts';
import type { Look, StoreTool, ToolStoreSettings } from './store-tool.ts';

/** A mass store that is reached by somebody's command-line tool. Its exit code confirms nothing. */
export class ToolStore implements MassStore {
  readonly kind: string;
  readonly name: string;
  readonly features: StoreFeatures;

  constructor(
    private readonly settings: ToolStoreSettings,
    private readonly tool: StoreTool,
  ) {
    this.name = settings.name;
    this.kind = settings.kind;
    this.features = { ...tool.features, takesUploads: true, publishCopies: false };
  }

  async prepare(): Promise<void> {
    await this.tool.makeFolder(this.pathOf(incoming), {});
    if ((await this.tool.look(this.pathOf(marker), {})).isPresent) return;
    await inScratch(this.settings, 0, async (local) => {
      await writeFile(local, markerText);
      await this.tool.copyIn(local, this.pathOf(marker), this.deadlineMs(0), {});
    });
    await this.demandMounted({});
  }

  async probe(): Promise<StoreState> {
    try {
      await this.demandMounted({});
      return { isUp: true, detail: `${this.kind} ${this.settings.root}` };
    } catch (error) {
      return { isUp: false, detail: messageOf(error) };
    }
  }

  finalKey(lfn: string): string {
    const fault = this.tool.faultOf(lfn.slice(1));
    if (fault === undefined) return lfn.slice(1);
    throw badInput(
      'lfn',
      lfn,
      `${fault} in store ${this.name} (${this.kind}): choose another LFN or store`,
    );
  }

  placeOf(key: string): string {
    return `${this.settings.root}/${key}`;
  }

  accessUrl(key: string): string {
    return (this.settings.accessUrlPrefix ?? `${this.kind}:${this.settings.root}/`) + key;
  }

  async put(
    source: string,
    key: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    demandTemporary(key);
    await this.demandMounted(options);
    const path = this.pathOf(key);
    await withSource(source, expected.sizeBytes, async (from) => {
      await this.tool.remove(path);
      // By our open file: its name may be anything, and the tool must not read it as something else.
      const local = isPlainPath(source) ? source : `/proc/${process.pid}/fd/${from.fd}`;
      await this.tool.copyIn(local, path, this.deadlineMs(expected.sizeBytes), options);
    });
    options.onProgress?.(expected.sizeBytes);
  }

  async says(key: string, expected: Expected, options: PutOptions = {}): Promise<StoreAnswer> {
    const look = await this.look(key, options);
    const { evidence, sizeBytes } = look;
    if (!look.isPresent || !look.isFile) return { isPresent: false, evidence };
    const size = sizeBytes === undefined ? {} : { sizeBytes };
    const deadlineMs = this.deadlineMs(expected.sizeBytes) + this.settings.stageSeconds * 1000;
    const sum = await this.tool.sum(this.pathOf(key), deadlineMs, options);
    if (!sum) return { isPresent: true, ...size, evidence };
    const { adler32 } = sum;
    return {
      isPresent: true,
      ...size,
      ...(adler32 === undefined ? {} : { adler32 }),
      evidence: together(evidence, sum.evidence),
    };
  }

  async ask(key: string, options: PutOptions = {}): Promise<StoreAnswer> {
    const before = await this.look(key, options);
    const { evidence, sizeBytes } = before;
    if (!before.isPresent || !before.isFile) return { isPresent: false, evidence };
    if (sizeBytes === undefined) return { isPresent: true, evidence };
    const sums = await inScratch(this.settings, sizeBytes, async (local) => {
      await this.bring(key, local, sizeBytes, options);
      return hashFile(local, options);
    });
    const after = await this.look(key, options);
    const answer = JSON.stringify({ readBack: sums, sizeAfter: after.sizeBytes });
    const all = together(evidence, { ...after.evidence, asked: `read back ${key}`, answer });
    // Cut off, or another file by now: then nothing was said of the bytes.
    const isSame = sums.sizeBytes === sizeBytes && after.sizeBytes === sizeBytes;
    return isSame
      ? { isPresent: true, ...sums, evidence: all }
      : { isPresent: true, evidence: all };
  }

  async residencyOf(
    keys: readonly string[],
    options: PutOptions = {},
  ): Promise<Map<string, ResidencyAnswer>> {
    const paths = keys.map((key) => this.pathOf(key));
    const said = await this.tool.residencyOf(paths, options);
    const found = new Map<string, ResidencyAnswer>();
    for (const [path, answer] of said) found.set(path.slice(this.settings.root.length + 1), answer);
    return found;
  }

  async *list(options: PutOptions = {}): AsyncGenerator<StoredFile> {
    if (!this.tool.canList) throw this.broken('its tool was not told how to list it');
    await this.demandMounted(options);
    const folders = [''];
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      const entries = await this.tool.list(this.pathOf(folder), options);
      if (!entries) throw this.broken(`${folder} went away while it was listed`);
      for (const { name, isFolder, sizeBytes, changedAt } of entries) {
        options.signal?.throwIfAborted();
        const key = folder === '' ? name : `${folder}/${name}`;
        if (key === incoming || key === marker) continue;
        if (isFolder) folders.push(key);
        else yield { key, sizeBytes, changedAt };
      }
    }
    await this.demandMounted(options);
  }

  async fetch(
    key: string,
    target: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    const { isPresent, isFile, sizeBytes } = await this.look(key, options);
    const facts = { store: this.name, key };
    if (!isPresent || !isFile) {
      throw new SweepbookError(
        'SOURCE_UNREADABLE',
        `store ${this.name} does not have ${key}`,
        facts,
      );
    }
    if (sizeBytes !== expected.sizeBytes) {
      throw new SweepbookError(
        'SOURCE_CHANGED',
        `store ${this.name}: ${key} has ${sizeBytes} bytes, registered are ${expected.sizeBytes}`,
        facts,
      );
    }
    await inScratch(this.settings, sizeBytes, async (local) => {
      await this.bring(key, local, sizeBytes, options);
      await copyFile(local, target, sizeBytes, options);
    });
  }

  /** The tool's "move" may replace what is there: looked at right before. Nobody else is to write below the root. */
  async publish(temporary: string, finalKey: string): Promise<void> {
    demandTemporary(temporary);
    const [from, to] = [this.pathOf(temporary), this.pathOf(finalKey)];
    const [here, there] = await Promise.all([this.look(temporary, {}), this.look(finalKey, {})]);
    if (there.isPresent) {
      const isSame = here.isPresent && there.isFile && (await this.isSame(temporary, finalKey));
      if (isSame) return this.tool.remove(from);
      throw keyTaken(this.name, finalKey, 'another file is there');
    }
    if (!here.isFile || here.sizeBytes === undefined) {
      throw this.broken(`nothing whole lies at ${from}, so ${finalKey} was not published`);
    }
    try {
      await this.tool.makeFolder(to.slice(0, to.lastIndexOf('/')), {});
    } catch (error) {
      await this.demandFolders(finalKey);
      throw error;
    }
    await this.tool.move(from, to);
    const moved = await this.look(finalKey, {});
    if (!moved.isFile || moved.sizeBytes !== here.sizeBytes) {
      throw this.broken(`the tool said that it moved ${finalKey}, and it is not there`);
    }
  }

  /** A file where a folder is needed is in the way for good. */
  private async demandFolders(key: string): Promise<void> {
    const parts = key.split('/').slice(0, -1);
    for (let depth = parts.length; depth > 0; depth--) {
      const folder = parts.slice(0, depth).join('/');
      const { isPresent, isFile } = await this.tool.look(this.pathOf(folder), {});
      if (isFile)
        throw keyTaken(this.name, key, `a file is at ${folder}, where a folder is needed`);
      if (isPresent) return;
    }
  }

  private async isSame(temporary: string, finalKey: string): Promise<boolean> {
    const [ours, other] = [await this.ask(temporary), await this.ask(finalKey)];
    return (
      ours.sha256 !== undefined &&
      ours.sha256 === other.sha256 &&
      ours.sizeBytes === other.sizeBytes
    );
  }

  async sizeOf(key: string): Promise<number | undefined> {
    const { isPresent, sizeBytes } = await this.look(key, {});
    // There, without a size: nothing that could be right.
    return isPresent ? (sizeBytes ?? -1) : undefined;
  }

  async removeTemporary(key: string): Promise<void> {
    demandTemporary(key);
    await this.tool.remove(this.pathOf(key));
  }

  async remove(key: string): Promise<void> {
    const path = this.pathOf(demandStoredKey(key));
    if ((await this.look(key, {})).isFile) await this.tool.remove(path);
  }

  async listTemporary(): Promise<TemporaryFile[]> {
    await this.demandMounted({});
    const entries = (await this.tool.list(this.pathOf(incoming), {})) ?? [];
    return entries.flatMap(({ name, isFolder, changedAt }): TemporaryFile[] => {
      const key = `${incoming}/${name}`;
      const owner = isFolder ? undefined : ownerOf(key);
      // Without a time it is taken for new: it stays.
      return owner ? [{ key, ...owner, changedAt: changedAt ?? new Date() }] : [];
    });
  }

  async keyOf(place: string): Promise<string> {
    const root = `${this.settings.root}/`;
    const key = place.startsWith(root) ? place.slice(root.length) : place;
    const isHidden = key.startsWith('.') && !ownerOf(key);
    const fault =
      key === '' || key.startsWith('/') || key.length > 4096
        ? `the path of a file below ${root}`
        : this.tool.faultOf(key);
    if (fault !== undefined) throw badInput('path', place.slice(0, 200), fault);
    const there = isHidden ? undefined : await this.look(key, {});
    if (!there?.isPresent || !there.isFile) {
      throw badInput('path', place, `no such file in store ${this.name}`);
    }
    return key;
  }

  private pathOf(key: string): string {
    const fault = key === '' ? undefined : this.tool.faultOf(key);
    if (fault !== undefined) {
      throw badInput('key', key, `${fault} in store ${this.name} (${this.kind})`);
    }
    return key === '' ? this.settings.root : `${this.settings.root}/${key}`;
  }

  /** That nothing is there counts only where our marker can be seen. */
  private async look(key: string, options: PutOptions): Promise<Look> {
    const look = await this.tool.look(this.pathOf(key), options);
    if (!look.isPresent) await this.demandMounted(options);
    return look;
  }

  private async demandMounted(options: PutOptions): Promise<void> {
    if ((await this.tool.look(this.pathOf(marker), options)).isFile) return;
    throw this.broken(`${this.placeOf(marker)} cannot be seen; was the store prepared?`);
  }

  private async bring(
    key: string,
    local: string,
    sizeBytes: number,
    options: PutOptions,
  ): Promise<void> {
    const deadlineMs = this.deadlineMs(sizeBytes) + this.settings.stageSeconds * 1000;
    await this.tool.copyOut(this.pathOf(key), local, deadlineMs, options);
  }

  private deadlineMs(sizeBytes: number): number {
    return copyDeadlineMs(sizeBytes, this.settings);
  }

  private broken(why: string): SweepbookError {
    return new SweepbookError('STORE_UNAVAILABLE', `store ${this.name}: ${why}`, {
      store: this.name,
    });
  }
}

/** Two answers in one. */
function together(one: Evidence, other: Evidence): Evidence {
  return {
    ...one,
    asked: `${one.asked}; ${other.asked}`,
    answer: `${one.answer.slice(0, 4000)}\n${other.answer.slice(0, 4000)}`,
  };
}
