// Files through a driver of ours, as a worker has them: put, ask, compare, publish, some at a time. One line of JSON comes
// in (kind, settings, files, concurrency, asking); one goes out: the milliseconds that it took, without the start.
import { text } from 'node:stream/consumers';
import { DirectoryStore } from '../../dist/storage/directory.js';
import { askAndJudge } from '../../dist/storage/judge.js';
import { S3Store } from '../../dist/storage/s3.js';
import { s3Settings } from '../../dist/storage/s3-settings.js';
import { webdavSettings } from '../../dist/storage/webdav-settings.js';
import { WebDavStore } from '../../dist/storage/webdav-store.js';
import { XrootdStore } from '../../dist/storage/xrootd.js';
import { xrootdSettings } from '../../dist/storage/xrootd-settings.js';

const { kind, settings, files, concurrency, asking } = JSON.parse(await text(process.stdin));
const drivers = {
  directory: () => new DirectoryStore({ ...settings, kind }),
  xrootd: () => new XrootdStore(xrootdSettings.parse({ ...settings, kind })),
  s3: () => new S3Store(s3Settings.parse({ ...settings, kind })),
  webdav: () => new WebDavStore(webdavSettings.parse({ ...settings, kind })),
};
const store = drivers[kind]();
await store.prepare();
const begun = performance.now();
const rest = files.entries();
await Promise.all(
  Array.from({ length: concurrency }, async () => {
    for (const [at, { path, lfn, ...expected }] of rest) {
      const key = store.temporaryKey(at + 1, 1);
      await store.put(path, key, expected);
      const { doubt } = await askAndJudge(store, key, expected, asking);
      if (doubt) throw doubt;
      await store.publish(key, store.finalKey(lfn));
    }
  }),
);
const ms = performance.now() - begun;
process.stdout.write(JSON.stringify({ ms }));
// Threads that hash wait for more.
process.exit(0);
