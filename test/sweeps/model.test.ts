import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import fc from 'fast-check';
import { createAdler32 } from 'hash-wasm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Refused } from '../support/client.ts';
import {
  changeFiles,
  close,
  confirm,
  create,
  isVisible,
  markBackedUp,
  newModel,
  reopen,
  setBad,
  sweep,
  type Answer,
  type Model,
} from '../support/model.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

const datasetCount = 2;
const fileCount = 3;

let server: TestServer;
beforeAll(async () => {
  // The only copies are those that the commands make: what happens is what was said.
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
});
afterAll(() => server.close());

/** One run against the server: its own names, so that runs do not meet. */
interface Real {
  readonly tag: string;
  readonly contents: Buffer[];
}

const datasetName = (real: Real, at: number) => `model-${real.tag}-${at}`;
const lfn = (real: Real, at: number) => `/model/${real.tag}/file${at}.root`;

async function asked(work: Promise<{ changed: boolean }>): Promise<Answer> {
  try {
    return { changed: (await work).changed };
  } catch (error) {
    if (error instanceof Refused) return { code: error.code };
    throw error;
  }
}

async function mutate(field: string, type: string, input: object): Promise<{ changed: boolean }> {
  const data = await server.operator.call<Record<string, { changed: boolean }>>(
    `mutation ($input: ${type}!) { ${field}(input: $input) { changed } }`,
    { input },
  );
  return data[field] ?? { changed: false };
}

async function newRun(): Promise<Real> {
  const tag = randomBytes(5).toString('hex');
  const contents = Array.from({ length: fileCount }, () => randomBytes(200));
  const adler32 = await createAdler32();
  const files = contents.map((bytes, at) => ({
    lfn: `/model/${tag}/file${at}.root`,
    kind: 'MERGED_FILE',
    sizeBytes: bytes.length,
    adler32: adler32.init().update(bytes).digest('hex'),
    sha256: createHash('sha256').update(bytes).digest('hex'),
  }));
  await server.operator.call(
    'mutation ($input: RegisterFilesInput!) { registerFiles(input: $input) { registeredCount } }',
    { input: { files } },
  );
  return { tag, contents };
}

/** Copies a file (or something else in its place) where the server says, and reports it. */
async function report(real: Real, at: number, isRight: boolean): Promise<{ changed: boolean }> {
  const asking = await server.operator.call<{
    requestBackup: { results: { upload: { path: string }; record: { status: string } }[] };
  }>(
    `mutation ($input: RequestBackupInput!) { requestBackup(input: $input) { results { upload { path } record { status } } } }`,
    { input: { lfns: [lfn(real, at)], direct: true } },
  );
  const path = asking.requestBackup.results[0]?.upload.path ?? '';
  const bytes = real.contents[at] ?? Buffer.alloc(0);
  if (asking.requestBackup.results[0]?.record.status !== 'CONFIRMED') {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, isRight ? bytes : Buffer.from(bytes).fill(7, 0, 1 + bytes.length / 2));
  }
  return mutate('recordBackup', 'RecordBackupInput', { lfn: lfn(real, at), path });
}

type Run = fc.AsyncCommand<Model, Real>;

function command(
  text: string,
  model: (model: Model, real: Real) => Answer,
  act: (real: Real) => Promise<{ changed: boolean }>,
): Run {
  return {
    check: () => true,
    toString: () => text,
    async run(state, real) {
      const expected = model(state, real);
      expect(await asked(act(real)), text).toEqual(expected);
      await compare(state, real);
    },
  };
}

/** The server shows what the model says, to operators and to strangers. */
async function compare(model: Model, real: Real): Promise<void> {
  const names = Array.from({ length: datasetCount }, (_, at) => datasetName(real, at));
  const query = `query ($names: [String!], $all: [DatasetStatus!], $bad: Boolean) {
    datasets(filter: { name: { in: $names }, status: $all, isBad: $bad }) {
      nodes { name status sealed fileCount confirmedCount isAvailable badMark { reason } }
    }
  }`;
  interface Shown {
    datasets: {
      nodes: {
        name: string;
        status: string;
        sealed: boolean;
        fileCount: number;
        badMark: object | null;
      }[];
    };
  }
  const status = ['OPEN', 'BACKED_UP', 'CLOSED'];
  const pages = await Promise.all(
    [true, false].map((bad) => server.operator.call<Shown>(query, { names, all: status, bad })),
  );
  const shown = pages
    .flatMap((page) => page.datasets.nodes)
    .map(({ name, status: is, sealed, fileCount: files, badMark }) => [
      name,
      { status: is, sealed, files, isBad: badMark !== null },
    ]);
  const wanted = names.flatMap((name, at) => {
    const dataset = model.datasets.get(String(at));
    return dataset ? [[name, { ...dataset, files: dataset.files.size }]] : [];
  });
  expect(Object.fromEntries(shown)).toEqual(Object.fromEntries(wanted));
  const open = await server.anonymous.call<Shown>(
    'query ($names: [String!]) { datasets(filter: { name: { in: $names } }) { nodes { name } } }',
    { names },
  );
  expect(open.datasets.nodes.map((node) => node.name)).toEqual(
    names.filter((_, at) => {
      const dataset = model.datasets.get(String(at));
      return dataset !== undefined && isVisible(dataset);
    }),
  );
}

const anyDataset = fc.nat(datasetCount - 1);
const anyFile = fc.nat(fileCount - 1);
const someFiles = fc.uniqueArray(anyFile, { minLength: 1, maxLength: fileCount });

const transition =
  (field: string, rule: (model: Model, name: string) => Answer, type = 'DatasetTransitionInput') =>
  (at: number): Run =>
    command(
      `${field}(${at})`,
      (model) => rule(model, String(at)),
      (real) =>
        mutate(field, type, { dataset: datasetName(real, at), reason: 'the model says so' }),
    );

const creating = anyDataset.map((at) =>
  command(
    `create(${at})`,
    (model) => create(model, String(at)),
    (real) =>
      mutate('createDataset', 'CreateDatasetInput', { name: datasetName(real, at), kind: 'PR' }),
  ),
);
const changing = (how: 'add' | 'remove') =>
  fc.tuple(anyDataset, someFiles).map(([at, files]) =>
    command(
      `${how}(${at}, ${files})`,
      (model) => changeFiles(model, String(at), files, how),
      (real) =>
        mutate(
          how === 'add' ? 'addFilesToDataset' : 'removeFilesFromDataset',
          'DatasetFilesInput',
          {
            dataset: datasetName(real, at),
            lfns: files.map((file) => lfn(real, file)),
          },
        ),
    ),
  );
const confirming = fc.tuple(anyFile, fc.nat(3)).map(([at, chance]) =>
  command(
    `confirm(${at}, ${chance > 0 ? 'right' : 'wrong'})`,
    (model) => confirm(model, at, chance > 0),
    (real) => report(real, at, chance > 0),
  ),
);
const marking = (field: string, isBad: boolean) =>
  anyDataset.map(transition(field, (model, name) => setBad(model, name, isBad), 'BadMarkInput'));

/** The road to CLOSED is long: the commands on it come more often. */
const commands = [
  creating,
  creating,
  creating,
  changing('add'),
  changing('add'),
  changing('add'),
  confirming,
  confirming,
  confirming,
  confirming,
  ...[transition('sweepDataset', sweep), transition('sweepDataset', sweep)].map((step) =>
    anyDataset.map(step),
  ),
  anyDataset.map(transition('markDatasetBackedUp', markBackedUp)),
  anyDataset.map(transition('closeDataset', close)),
  anyDataset.map(transition('reopenDataset', reopen)),
  changing('remove'),
  marking('markDatasetBad', true),
  marking('clearDatasetBad', false),
];

test('any sequence of commands is answered as the rules say', async () => {
  const seed = Number(process.env['MODEL_SEED'] ?? Date.now() % 2 ** 31);
  const numRuns = Number(process.env['MODEL_RUNS'] ?? 16);
  let published = 0;
  await fc.assert(
    fc.asyncProperty(fc.commands(commands, { maxCommands: 60, size: 'max' }), async (run) => {
      const real = await newRun();
      const model = newModel();
      await fc.asyncModelRun(() => ({ model, real }), run);
      published += [...model.datasets.values()].filter(
        (dataset) => dataset.status === 'CLOSED',
      ).length;
    }),
    { seed, numRuns, interruptAfterTimeLimit: 100_000 },
  );
  console.log(
    `model: MODEL_SEED=${seed} MODEL_RUNS=${numRuns}, ${published} datasets were published`,
  );
}, 150_000);
