import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SweepbookError } from '../../src/errors.ts';
import type { MassStore, PutOptions, StoreAnswer } from '../../src/storage/contract.ts';
import { judge } from '../../src/storage/judge.ts';
import { describeFile, makeFile, type MadeFile } from '../support/files.ts';
import { until } from '../support/until.ts';
import { temporaryKey, uploadKey } from '../../src/storage/incoming.ts';

/** What its host can do to this kind of store, besides. */
export interface HostTricks {
  /** Stops all answers, and lets them go on; seen through a store that gives up after a second or two. */
  readonly freeze?: () => Promise<{ readonly store: MassStore; readonly thaw: () => void }>;
  /** A store that takes less than 6 MB. */
  readonly openSmall?: () => Promise<{
    readonly store: MassStore;
    readonly close: () => Promise<void> | void;
  }>;
}

/** A store to test, with what only its host can do to it. */
export interface StoreUnderTest {
  readonly store: MassStore;
  /** Behind the store's back. */
  readonly backDoor: {
    readonly write: (key: string, bytes: Buffer) => Promise<void> | void;
    readonly remove: (key: string) => Promise<void> | void;
    /** Undone by what it returns. */
    readonly unmount: () => Promise<() => Promise<void> | void>;
  };
  /** States that an earlier publish may have died in, from a temporary key to a final one. */
  readonly halfPublished: readonly (readonly [
    string,
    (temporary: string, final: string) => Promise<void> | void,
  ])[];
  readonly refusedNames?: readonly string[];
  /** A name with a space, if the store takes none. */
  readonly namesOfFolders?: string;
  /** A name can be both, a file and a folder (keys of an object store). */
  readonly hasNoFolders?: boolean;
  /** Of two that publish at once it may take both; what is confirmed is what is read afterwards. */
  readonly mayReplaceInARace?: boolean;
  readonly close: () => Promise<void> | void;
}

export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'nothing was refused';
  } catch (error) {
    return error instanceof SweepbookError ? error.code : String(error);
  }
}

const names = [
  ' two  spaces ',
  `quotes'"\`back\\slash $HOME ; & | > .root`,
  '--help',
  'Größe-データ-🚀\u2028.root',
  'a'.repeat(254),
  'a'.repeat(255),
  '*?[x]{y}.root',
  'a?b=c',
  'a#b&c=d+e%20f%:b@c,d~.meta4',
];

/** What every mass store must do, whatever is behind it. */
export function storeContract(
  kind: string,
  open: () => Promise<StoreUnderTest>,
  { freeze, openSmall }: HostTricks = {},
): void {
  describe(`${kind}: the contract of mass stores`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'sweepbook-contract-'));
    let under: StoreUnderTest;
    let store: MassStore;
    let count = 0;

    beforeAll(async () => {
      under = await open();
      ({ store } = under);
    });
    afterAll(async () => {
      await under?.close();
      rmSync(folder, { recursive: true, force: true });
    });

    const source = (text: string, size?: number) =>
      makeFile(join(folder, `source${++count}`), text, size);

    async function incoming(
      text: string,
      size?: number,
    ): Promise<MadeFile & { temporary: string }> {
      const temporary = temporaryKey(1001 + count, 1);
      const file = await source(text, size);
      await store.put(file.path, temporary, file);
      return { ...file, temporary };
    }

    async function stored(key: string, text: string, size?: number): Promise<MadeFile> {
      const file = await incoming(text, size);
      await store.publish(file.temporary, key);
      return file;
    }

    async function listed(of = store): Promise<Map<string, number>> {
      const found = new Map<string, number>();
      for await (const file of of.list()) found.set(file.key, file.sizeBytes);
      return found;
    }

    /** What the store says must not contradict what it has; what it does not say is no contradiction. */
    function expectNoLie(file: MadeFile, answer: StoreAnswer): void {
      expect(answer.isPresent).toBe(true);
      expect(answer.sizeBytes ?? file.sizeBytes).toBe(file.sizeBytes);
      expect(answer.adler32 ?? file.adler32).toBe(file.adler32);
      expect(answer.sha256 ?? file.sha256).toBe(file.sha256);
    }

    test('files of all sorts of names are copied, asked for, published, listed and fetched byte by byte', async () => {
      const wanted = names.filter((name) => !under.refusedNames?.includes(name));
      const keep = async (name: string, at: number): Promise<[string, MadeFile]> => {
        const file = await makeFile(join(folder, 'odd', name), `content of ${name}`, 300_000);
        const key = store.finalKey(`/odd/${name}`);
        const temporary = temporaryKey(100 + at, 1);
        await store.put(file.path, temporary, file);
        const answer = await store.ask(temporary);
        expect(judge(file, answer), name).toBeUndefined();
        expect(answer.evidence.answer).toContain(file.adler32);
        await store.publish(temporary, key);
        return [key, file];
      };
      const kept = await Promise.all(wanted.map(keep));
      expect(await store.listTemporary()).toEqual([]);
      const all = await listed();
      const look = async ([key, file]: [string, MadeFile], at: number) => {
        const target = join(folder, `fetched ${at}`);
        await store.fetch(key, target, file);
        expect((await describeFile(target)).sha256, key).toBe(file.sha256);
        const said = await store.says(key, file);
        expectNoLie(file, said);
        expect(said.sizeBytes).toBe(file.sizeBytes);
        if (store.features.says.includes('adler32')) expect(said.adler32).toBe(file.adler32);
        expect(await store.sizeOf(key)).toBe(300_000);
        expect(all.get(key), key).toBe(300_000);
        expect(await store.keyOf(key)).toBe(key);
        expect(await store.keyOf(store.placeOf(key))).toBe(key);
        expect(store.accessUrl(key)).not.toBe('');
      };
      await Promise.all(kept.map(look));
    });

    test('a name that the store would take for another one is refused, and reaches no file', async () => {
      for (const name of under.refusedNames ?? []) {
        expect(() => store.finalKey(`/odd/${name}`)).toThrow(SweepbookError);
        expect(await codeOf(store.sizeOf(`odd/${name}`))).toBe('BAD_USER_INPUT');
      }
      const name = under.refusedNames?.[0];
      if (name === undefined) return;
      const file = await incoming('other');
      expect(await codeOf(store.publish(file.temporary, `odd/${name}`))).toBe('BAD_USER_INPUT');
      await store.removeTemporary(file.temporary);
    });

    test('what is not there is not there, and a folder is no file', async () => {
      const name = under.namesOfFolders ?? 'a folder';
      const file = await stored(`${name}/file`, 'in a folder');
      for (const key of ['nothing/here', name, `${name}/file/below`]) {
        expect((await store.ask(key)).isPresent, key).toBe(false);
        expect((await store.says(key, file)).isPresent, key).toBe(false);
        expect(await codeOf(store.fetch(key, join(folder, 'never'), file)), key).not.toBe(
          'nothing was refused',
        );
        expect(existsSync(join(folder, 'never'))).toBe(false);
      }
      expect(await store.sizeOf('nothing/here')).toBeUndefined();
      await store.removeTemporary(temporaryKey(999_999, 9));
    });

    test('a store that is not mounted is unavailable, never empty', async () => {
      const file = await stored('mounted', 'mounted');
      const mount = await under.backDoor.unmount();
      try {
        expect((await store.probe()).isUp).toBe(false);
        const absent = 'nothing/here';
        for (const refused of [
          () => store.ask(absent),
          () => store.says(absent, file),
          () => store.sizeOf(absent),
          () => store.put(file.path, temporaryKey(1, 1), file),
          () => store.listTemporary(),
          () => listed(),
        ]) {
          expect(await codeOf(refused()), String(refused)).toBe('STORE_UNAVAILABLE');
        }
      } finally {
        await mount();
      }
      expect((await store.probe()).isUp).toBe(true);
    });

    test('a published file is never replaced', async () => {
      const one = await stored('taken/one.root', 'one');
      const other = await incoming('other');
      const wanted = [
        'taken/one.root',
        ...(under.hasNoFolders ? [] : ['taken/one.root/below', 'taken']),
      ];
      for (const key of wanted) {
        expect(await codeOf(store.publish(other.temporary, key)), key).toBe('DUPLICATE');
      }
      expect(judge(one, await store.ask('taken/one.root'))).toBeUndefined();
      expect(judge(other, await store.ask(other.temporary))).toBeUndefined();
      await store.removeTemporary(other.temporary);
      expect(await store.sizeOf(other.temporary)).toBeUndefined();
    });

    test('of two that publish under one name at once, one stands, and only that one can be confirmed', async () => {
      const files = [await incoming('first!'), await incoming('second')];
      const codes = await Promise.all(
        files.map((file) => codeOf(store.publish(file.temporary, 'race/one.root'))),
      );
      const published = files.filter((_, at) => codes[at] === 'nothing was refused');
      const standing = await store.ask('race/one.root');
      const confirmed = files.filter((file) => judge(file, standing) === undefined);
      expect(confirmed.length).toBe(1);
      expect(published).toEqual(expect.arrayContaining(confirmed));
      if (!under.mayReplaceInARace) expect(published).toEqual(confirmed);
      for (const file of files) await store.removeTemporary(file.temporary);
    });

    test('publishing goes on where a crash left it, whichever step it died in', async () => {
      for (const [step, make] of under.halfPublished) {
        const file = await incoming(`half published: ${step}`);
        const key = `half/${count}.root`;
        await make(file.temporary, key);
        await store.publish(file.temporary, key);
        expect(judge(file, await store.ask(key)), step).toBeUndefined();
        expect(await store.sizeOf(file.temporary), step).toBeUndefined();
      }
    });

    test('only temporary keys can be written to and removed', async () => {
      const file = await stored('kept.root', 'kept');
      for (const key of ['kept.root', '.incoming/../kept.root', '.incoming/other', '']) {
        await expect(store.removeTemporary(key)).rejects.toThrow('no temporary key');
        await expect(store.put(file.path, key, file)).rejects.toThrow('no temporary key');
        await expect(store.publish(key, 'elsewhere')).rejects.toThrow('no temporary key');
      }
      expect(judge(file, await store.ask('kept.root'))).toBeUndefined();
    });

    test('a file is removed for good, and nothing else', async () => {
      const folderName = under.namesOfFolders ?? 'to be removed';
      const gone = `${folderName}/gone.root`;
      await stored(gone, 'nobody wants it');
      const kept = await stored(`${folderName}/kept.root`, 'somebody wants it');
      await store.remove(gone);
      expect(await store.sizeOf(gone)).toBeUndefined();
      await store.remove(gone);
      for (const key of [
        '.sweepbook-store',
        '.incoming/b1.a1',
        'a/../kept.root',
        '/kept.root',
        '',
      ]) {
        await expect(store.remove(key), key).rejects.toThrow('no key of a file');
      }
      // A folder is refused or left alone: what lies in it stays.
      await codeOf(store.remove(folderName));
      expect(judge(kept, await store.ask(`${folderName}/kept.root`))).toBeUndefined();
    });

    test('a copy replaces what lies under its temporary key already', async () => {
      const old = await incoming('left by a dead attempt', 50_000);
      const file = await source('new');
      await store.put(file.path, old.temporary, file);
      expect(judge(file, await store.ask(old.temporary))).toBeUndefined();
      await store.removeTemporary(old.temporary);
    });

    test('truncated, written over, deleted: what it says and what is read tell it', async () => {
      const file = await stored('damage.root', 'as it was', 400_000);
      const right = readFileSync(file.path);
      const other = Buffer.from(right);
      other.write('As', 0);
      for (const bytes of [right.subarray(0, 262_144), Buffer.concat([right, right]), other]) {
        await under.backDoor.write('damage.root', bytes);
        // A server may keep a checksum by the file's time.
        const [asked, said] = [
          await store.ask('damage.root'),
          await store.says('damage.root', file),
        ];
        expect(judge(file, asked)?.code).toMatch(/CHECKSUM_MISMATCH|NOT_CONFIRMED/);
        expect(judge({ ...file, sha256: null }, said)?.code).toMatch(
          /CHECKSUM_MISMATCH|NOT_CONFIRMED/,
        );
      }
      await under.backDoor.remove('damage.root');
      expect((await store.ask('damage.root')).isPresent).toBe(false);
      expect((await store.says('damage.root', file)).isPresent).toBe(false);
      expect(await store.sizeOf('damage.root')).toBeUndefined();
      expect((await listed()).has('damage.root')).toBe(false);
    });

    test('a source that is not what was registered is refused, or told by what was stored', async () => {
      const file = await source('registered');
      const temporary = temporaryKey(8, 1);
      const put = (path: string, sizeBytes = file.sizeBytes) =>
        codeOf(store.put(path, temporary, { ...file, sizeBytes }));
      expect(await put(file.path, 4)).toBe('SOURCE_CHANGED');
      expect(await put(join(folder, 'missing'))).toBe('SOURCE_UNREADABLE');
      expect(await put(folder)).toBe('SOURCE_UNREADABLE');
      writeFileSync(file.path, 'registereD');
      const code = await put(file.path);
      if (code === 'nothing was refused') {
        expect(judge(file, await store.ask(temporary))?.code).toBe('CHECKSUM_MISMATCH');
      } else {
        expect(code).toBe('SOURCE_CHANGED');
        expect(await store.sizeOf(temporary)).toBeUndefined();
      }
      await store.removeTemporary(temporary);
    });

    test('what is called off ends at once, and leaves nothing', async () => {
      const big = await makeFile(join(folder, 'big'), 'x', 30_000_000);
      const temporary = temporaryKey(10, 1);
      const calledOff = async (work: (options: PutOptions) => Promise<unknown>) => {
        const abort = new AbortController();
        setTimeout(() => abort.abort(new Error('called off')), 20);
        await expect(work({ signal: abort.signal })).rejects.toThrow('called off');
      };
      await calledOff((options) => store.put(big.path, temporary, big, options));
      // What had arrived as a whole before the end was known may be stored a moment later.
      await until('nothing is left', async () => {
        await store.removeTemporary(temporary);
        return (await store.listTemporary()).length === 0;
      });
      await store.put(big.path, temporary, big);
      await calledOff((options) => store.ask(temporary, options));
      const target = join(folder, 'called off');
      await calledOff((options) => store.fetch(temporary, target, big, options));
      await store.removeTemporary(temporary);
    });

    test('temporary files tell their record and attempt, and are in no listing', async () => {
      const file = await source('listed');
      await store.put(file.path, temporaryKey(41, 3), file);
      await under.backDoor.write(uploadKey(42), Buffer.from('by the producer'));
      await under.backDoor.write('.incoming/notes.txt', Buffer.from('of a person'));
      const found = await store.listTemporary();
      expect(
        found
          .map(({ backupId, attempt }) => ({ backupId, attempt }))
          .toSorted((a, b) => a.backupId - b.backupId),
      ).toEqual([
        { backupId: 41, attempt: 3 },
        { backupId: 42, attempt: undefined },
      ]);
      for (const { changedAt } of found) {
        expect(Math.abs(changedAt.getTime() - Date.now())).toBeLessThan(300_000);
      }
      const all = [...(await listed()).keys()];
      expect(all.filter((key) => key.startsWith('.'))).toEqual([]);
      await under.backDoor.remove('.incoming/notes.txt');
      for (const { key } of found) await store.removeTemporary(key);
      expect(await store.listTemporary()).toEqual([]);
    });

    test('a listing has every file below, with its size and time', async () => {
      const before = await listed();
      const keys = ['list/b/2', 'list/b.c/x', 'list/a'];
      await Promise.all(keys.map((key) => stored(key, `text of ${key}`)));
      const files = [];
      for await (const file of store.list()) files.push(file);
      expect(files.length).toBe(before.size + keys.length);
      for (const key of keys) {
        const file = files.find((one) => one.key === key);
        expect(file?.sizeBytes, key).toBe(`text of ${key}`.length);
        expect(Math.abs((file?.changedAt?.getTime() ?? 0) - Date.now())).toBeLessThan(300_000);
      }
    });

    test('nothing of this host is replaced by what is fetched; another size is not taken', async () => {
      const file = await stored('fetch.root', 'to be fetched');
      const taken = join(folder, 'taken');
      writeFileSync(taken, 'mine');
      expect(await codeOf(store.fetch('fetch.root', taken, file))).not.toBe('nothing was refused');
      expect(readFileSync(taken, 'utf8')).toBe('mine');
      const target = join(folder, 'odd ? # % name:1');
      const other = { ...file, sizeBytes: file.sizeBytes + 1 };
      expect(await codeOf(store.fetch('fetch.root', target, other))).toBe('SOURCE_CHANGED');
      expect(existsSync(target)).toBe(false);
      await store.fetch('fetch.root', target, file);
      expect(readFileSync(target, 'utf8')).toBe('to be fetched');
    });

    test('places outside the store are no places in it', async () => {
      await under.backDoor.write('.incoming/notes.txt', Buffer.from('of a person'));
      for (const place of [
        '',
        'none',
        '/etc/passwd',
        '../source1',
        'list/../fetch.root',
        '.incoming/notes.txt',
        '.sweepbook-store',
        '/etc/passwd\0',
        'a\nb',
        'x'.repeat(5000),
        'root://elsewhere:1//store/fetch.root',
        's3://elsewhere/fetch.root',
      ]) {
        if (place === 'list/../fetch.root' && store.kind === 'directory') continue;
        expect(await codeOf(store.keyOf(place)), place).toBe('BAD_USER_INPUT');
      }
      await under.backDoor.remove('.incoming/notes.txt');
      const file = await incoming('a place');
      expect(await store.keyOf(store.placeOf(file.temporary))).toBe(file.temporary);
      await store.removeTemporary(file.temporary);
    });

    test.for(freeze ? [freeze] : [])(
      'a store that has stopped to answer is unavailable after its time',
      async (trick) => {
        const file = await stored('frozen.root', 'frozen', 3_000_000);
        const { store: impatient, thaw } = await trick();
        try {
          const codes = await Promise.all([
            codeOf(impatient.says('frozen.root', file)),
            codeOf(impatient.ask('frozen.root')),
            codeOf(impatient.put(file.path, temporaryKey(11, 1), file)),
            codeOf(impatient.fetch('frozen.root', join(folder, 'frozen'), file)),
            codeOf(impatient.sizeOf('frozen.root')),
            codeOf(listed(impatient)),
          ]);
          expect(new Set(codes)).toEqual(new Set(['STORE_UNAVAILABLE']));
          expect((await impatient.probe()).isUp).toBe(false);
        } finally {
          thaw();
        }
        expect((await store.probe()).isUp).toBe(true);
        expect(judge(file, await store.ask('frozen.root'))).toBeUndefined();
        await store.removeTemporary(temporaryKey(11, 1));
      },
    );

    test.for(openSmall ? [openSmall] : [])(
      'a full store is told as such, and leaves nothing',
      async (trick) => {
        const small = await trick();
        try {
          const big = await makeFile(join(folder, 'too big'), 'x', 24_000_000);
          const temporary = temporaryKey(1, 1);
          expect(await codeOf(small.store.put(big.path, temporary, big))).toBe('NO_SPACE');
          expect(await small.store.listTemporary()).toEqual([]);
        } finally {
          await small.close();
        }
      },
    );
  });
}
