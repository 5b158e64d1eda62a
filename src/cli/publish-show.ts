import type { Context } from './command.ts';
import { CliError, exitCode } from './exit-codes.ts';
import { paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { publicationFields, stateText, type PublicationRow } from './publish-facts.ts';
import { counted, humanBytes } from './table.ts';

const findQuery = `query Publication($id: ID!) { publication(id: $id) { ${publicationFields} } }`;

export async function findPublication({ client }: Context, id: string): Promise<PublicationRow> {
  const { publication } = await client.call<{ publication: PublicationRow | null }>(findQuery, {
    id,
  });
  if (publication) return publication;
  throw new CliError(exitCode.notFound, `no publication ${id}: look at "publish list"`);
}

export interface ShowOptions extends ListOptions {
  readonly files?: boolean;
  readonly faults?: boolean;
  readonly composites?: boolean;
}

export async function showPublication(
  context: Context,
  options: ShowOptions,
  id: string,
): Promise<void> {
  const found = await findPublication(context, id);
  if (options.composites) return showComposites(context, options, id);
  if (options.files || options.faults) return showFiles(context, options, id);
  const { progress, eventCount } = found;
  await context.output.object(found, {
    publication: String(found.number),
    status: found.status,
    dataset: found.datasetName,
    description: found.description,
    owner: found.requestedBy,
    'charged to': found.group && `group ${found.group}`,
    files: `${counted(found.fileCount, 'file')}, ${humanBytes(found.sizeBytes)}, ${eventCount ?? 'unknown'} events`,
    'how far': stateText(progress),
    merged: `${found.mergeTool === 'TAR' ? 'as tar archives' : 'by the tool of the site'}, about ${humanBytes(found.compositeBytes)} each`,
    store: found.store,
    asked: found.requestedAt,
    'decided by': found.decidedBy,
    finished: found.finishedAt,
    error: found.lastError,
  });
}

interface FileRow {
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number | null;
  readonly eventCount: number | null;
  readonly fault: string | null;
  readonly compositeLfn: string | null;
}

const filesQuery = `query PublicationFiles($id: ID!, $isFaulty: Boolean, $first: Int, $after: String) {
  publication(id: $id) { files(isFaulty: $isFaulty, first: $first, after: $after) {
    nodes { name path sizeBytes sha256 eventCount faultCode fault compositeLfn memberOffset } ${pageFields} } }
}`;

async function showFiles(context: Context, options: ShowOptions, id: string): Promise<void> {
  const { client, output } = context;
  const found = paged<{ publication: { files: Connection<FileRow> } }, FileRow>(
    client,
    filesQuery,
    { id, isFaulty: options.faults ? true : null },
    (data) => data.publication.files,
    options,
  );
  await output.list(
    found,
    options.faults
      ? [
          { title: 'FILE', value: (file) => file.name },
          { title: 'FAULT', value: (file) => file.fault },
        ]
      : [
          { title: 'FILE', value: (file) => file.name },
          {
            title: 'SIZE',
            value: (file) => (file.sizeBytes === null ? null : humanBytes(file.sizeBytes)),
            align: 'right',
          },
          { title: 'EVENTS', value: (file) => file.eventCount, align: 'right' },
          { title: 'IN', value: (file) => file.compositeLfn },
        ],
  );
}

interface CompositeRow {
  readonly lfn: string;
  readonly fileCount: number;
  readonly sizeBytes: number | null;
  readonly eventCount: number | null;
  readonly isSafe: boolean;
}

const compositesQuery = `query PublicationComposites($id: ID!, $first: Int, $after: String) {
  publication(id: $id) { composites(first: $first, after: $after) {
    nodes { lfn fileCount sizeBytes adler32 sha256 eventCount isSafe } ${pageFields} } }
}`;

async function showComposites(context: Context, options: ListOptions, id: string): Promise<void> {
  const { client, output } = context;
  const found = paged<{ publication: { composites: Connection<CompositeRow> } }, CompositeRow>(
    client,
    compositesQuery,
    { id },
    (data) => data.publication.composites,
    options,
  );
  await output.list(found, [
    { title: 'LFN', value: (row) => row.lfn },
    { title: 'FILES', value: (row) => row.fileCount, align: 'right' },
    {
      title: 'SIZE',
      value: (row) => (row.sizeBytes === null ? null : humanBytes(row.sizeBytes)),
      align: 'right',
    },
    { title: 'EVENTS', value: (row) => row.eventCount, align: 'right' },
    { title: 'SAFE', value: (row) => (row.isSafe ? 'yes' : 'no') },
  ]);
}
