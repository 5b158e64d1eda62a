import {
  placeOf,
  type ExportFile,
  type Format,
  type ListFacts,
  type ListTotals,
  type Writer,
} from './list.ts';

/** A JSON number that ROOT reads as double: it takes those without a point for 32-bit integers. */
export function floatText(value: number): string {
  const text = String(value);
  return /^-?\d+$/.test(text) ? `${text}.0` : text;
}

/** What is said of a list beside its files: words and floats, nothing else is read by ROOT. */
function metadata(list: ListFacts, totals: ListTotals): string {
  const words = [
    ['kind', list.kind],
    ['status', list.status],
    ['stream', list.stream],
    ['release', list.release],
  ] as const;
  const numbers = [
    ['events', totals.events],
    ['lumi', totals.luminosity],
    ['files', totals.files],
  ] as const;
  const fields = [
    ...words.flatMap(([name, word]) =>
      word === null ? [] : [`"${name}":${JSON.stringify(word)}`],
    ),
    ...numbers.flatMap(([name, value]) =>
      value === null ? [] : [`"${name}":${floatText(value)}`],
    ),
  ];
  return `{${fields.join(',')}}`;
}

/** Commas between the items of a list that is written one by one. */
function separated(text: (file: ExportFile) => string): (file: ExportFile) => string {
  let separator = '';
  return (file) => {
    const item = `${separator}\n${text(file)}`;
    separator = ',';
    return item;
  };
}

const json = { contentType: 'application/json; charset=utf-8', holdsChunks: false } as const;

/** XML 1.0 has no way to write these at all, not even as references. */
// eslint-disable-next-line no-control-regex
const notInXml = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu;
const xmlEntities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
  '\t': '&#9;',
  '\n': '&#10;',
  '\r': '&#13;',
};
export const xmlText = (text: string) =>
  text
    .replaceAll(notInXml, '\uFFFD')
    .replaceAll(/[&<>"'\t\n\r]/g, (character) => xmlEntities[character] ?? '');

/** A path as a URL; what is one already only loses what XML cannot carry. */
function asUrl(url: string): string {
  if (url.startsWith('/')) return `file://${url.split('/').map(encodeURIComponent).join('/')}`;
  return url.replaceAll(notInXml, encodeURIComponent);
}

function metalinkFile(file: ExportFile): string {
  // RFC 5854 wants a relative path.
  const lines = [
    ` <file name="${xmlText(file.lfn.slice(1))}">`,
    `  <identity>${xmlText(file.lfn)}</identity>`,
    ...(file.adler32 === null ? [] : [`  <hash type="adler32">${file.adler32}</hash>`]),
    ...(file.sha256 === null ? [] : [`  <hash type="sha-256">${file.sha256}</hash>`]),
    `  <size>${file.sizeBytes}</size>`,
    ...(file.url === null ? [] : [`  <url priority="1">${xmlText(asUrl(file.url))}</url>`]),
    ' </file>\n',
  ];
  return lines.join('\n');
}

/** The last section number that readers of masks can hold (32 bits): a run is taken as a whole. */
const lastSection = 4_294_967_295;

function runMask(): Writer {
  // Grows with the runs and not with the files.
  const numbers = new Set<number>();
  return {
    head: () => '',
    file: ({ fittingRuns, runs }) => {
      for (const number of fittingRuns ?? runs ?? []) numbers.add(number);
      return '';
    },
    tail: () => {
      const entries = [...numbers]
        .toSorted((a, b) => a - b)
        .map((number) => `"${number}":[[1,${lastSection}]]`);
      return `{${entries.join(',\n')}}\n`;
    },
  };
}

type DocumentFormat = 'rdataframe' | 'coffea' | 'metalink' | 'runs';

/** Formats of which a whole list is one document; half of one does not parse. */
export const documentFormats: Readonly<Record<DocumentFormat, Format>> = {
  rdataframe: {
    ...json,
    detail: 'facts',
    tells: { events: true, checksums: false },
    needsTree: true,
    writer: (list) => ({
      head: () =>
        `{"samples":{${JSON.stringify(list.name)}:{"trees":[${JSON.stringify(list.treeName)}],"files":[`,
      file: separated((file) => JSON.stringify(placeOf(file))),
      tail: (totals) => `\n],"metadata":${metadata(list, totals)}}}}\n`,
    }),
  },
  coffea: {
    ...json,
    detail: 'facts',
    tells: { events: true, checksums: false },
    needsTree: true,
    ending: '.root',
    writer: (list) => {
      const what = `{"object_path":${JSON.stringify(list.treeName)}}`;
      return {
        head: () => `{${JSON.stringify(list.name)}:{"files":{`,
        file: separated((file) => `${JSON.stringify(placeOf(file))}:${what}`),
        tail: (totals) => `\n},"metadata":${metadata(list, totals)}}}\n`,
      };
    },
  },
  metalink: {
    contentType: 'application/metalink4+xml; charset=utf-8',
    detail: 'none',
    tells: { events: false, checksums: true },
    holdsChunks: false,
    needsTree: false,
    writer: () => ({
      head: () =>
        '<?xml version="1.0" encoding="UTF-8"?>\n<metalink xmlns="urn:ietf:params:xml:ns:metalink">\n' +
        ' <generator>Sweepbook</generator>\n',
      file: metalinkFile,
      tail: ({ files }) => `<!-- sweepbook: ${files} files -->\n</metalink>\n`,
    }),
  },
  runs: {
    ...json,
    detail: 'numbers',
    tells: { events: false, checksums: false },
    needsTree: false,
    writer: runMask,
  },
};
