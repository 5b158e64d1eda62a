import { datasetName, type Size } from './data.ts';

/** One question, as each contestant is asked it; the bodies differ in the dataset that they name. */
export interface Question {
  readonly name: string;
  readonly about: string;
  bodies(size: Size): Record<'sweepbook' | 'postgraphile' | 'json-handler', string[]>;
}

const different = 500;

/** Datasets all over the database, in an order that is the same each time. */
function someNames({ datasets }: Size): string[] {
  return Array.from({ length: Math.min(different, datasets) }, (_, at) =>
    datasetName((at * 7919 + 13) % datasets),
  );
}

const filesOf =
  (first: number): Question['bodies'] =>
  (size) => {
    const names = someNames(size);
    const body = (query: string) =>
      names.map((name) => JSON.stringify({ query, variables: { name, first } }));
    return {
      sweepbook:
        body(`query Files($name: String!, $first: Int!) { dataset(name: $name) { name files(first: $first) {
        nodes { lfn sizeBytes adler32 eventCount backups { status storeKey confirmedAt } } } } }`),
      postgraphile:
        body(`query Files($name: String!, $first: Int!) { datasetByName(name: $name) { name
        datasetFilesByDatasetId(first: $first, orderBy: LFN_ASC) { nodes { fileByFileId {
          lfn sizeBytes adler32 eventCount
          backupRecordsByFileId { nodes { status storeKey confirmedAt } } } } } } }`),
      'json-handler': names.map((name) =>
        JSON.stringify({ statement: 'files', values: [name, first] }),
      ),
    };
  };

/** What is asked all day (design: one dataset; its files with their backups; a list of datasets). */
export const questions: readonly Question[] = [
  {
    name: 'Q1',
    about: 'one dataset, 8 scalars',
    bodies(size) {
      const names = someNames(size);
      const body = (query: string) =>
        names.map((name) => JSON.stringify({ query, variables: { name } }));
      const scalars = 'name kind status owner fileCount sizeBytes eventCount closedAt';
      return {
        sweepbook: body(`query Dataset($name: String!) { dataset(name: $name) { ${scalars} } }`),
        postgraphile: body(
          `query Dataset($name: String!) { datasetByName(name: $name) { ${scalars} } }`,
        ),
        'json-handler': names.map((name) =>
          JSON.stringify({ statement: 'dataset', values: [name] }),
        ),
      };
    },
  },
  { name: 'Q2', about: 'its first 100 files, each with its backup', bodies: filesOf(100) },
  {
    name: 'Q3',
    about: '50 datasets by kind and status',
    bodies() {
      const scalars = 'name kind status fileCount sizeBytes closedAt';
      return {
        sweepbook: [
          JSON.stringify({
            query: `query List($kind: [DatasetKind!], $status: [DatasetStatus!]) {
              datasets(filter: { kind: $kind, status: $status }, first: 50) { nodes { ${scalars} } } }`,
            variables: { kind: ['SP'], status: ['CLOSED'] },
          }),
        ],
        postgraphile: [
          JSON.stringify({
            query: `query List($kind: String!, $status: String!) {
              allDatasets(condition: { kind: $kind, status: $status, isAvailable: true }, orderBy: NAME_ASC, first: 50) {
                nodes { ${scalars} } } }`,
            variables: { kind: 'SP', status: 'CLOSED' },
          }),
        ],
        'json-handler': [
          JSON.stringify({ statement: 'datasets', values: [['SP'], ['CLOSED'], 50] }),
        ],
      };
    },
  },
  { name: 'Q4', about: '1,000 files, each with its backup', bodies: filesOf(1000) },
];
