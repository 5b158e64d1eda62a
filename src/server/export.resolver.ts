import { Arg, FieldResolver, Resolver, Root } from 'type-graphql';
import { enumType } from '../api/inputs.ts';
import type { ContainerRow } from '../containers/containers.queries.ts';
import { ContainerType } from '../containers/containers.schema.ts';
import type { DatasetRow } from '../datasets/datasets.queries.ts';
import { DatasetType } from '../datasets/datasets.schema.ts';
import type { ExportFormat as FormatName } from '../formats/formats.ts';

const ExportFormat = enumType<Uppercase<FormatName>>(
  'ExportFormat',
  'How a list of files is written.',
  {
    TXT: 'One access URL a line: what a job reads.',
    JSONL: 'One JSON object a line: LFN, URLs, size, events, checksums, runs.',
    CSV: 'A table with a header line.',
    TCL: 'What BaBar jobs source: a comment and a lappend inputList for each file.',
    RDATAFRAME: 'The dataset specification of ROOT RDataFrame (FromSpec), JSON.',
    COFFEA: 'A fileset of coffea, JSON.',
    METALINK: 'Metalink 4 (RFC 5854), XML: what download programs take.',
    RUNS: 'The run mask: which runs are in it, JSON.',
  },
);

const description = 'Path on this server from which the list of its files is read.';
const howWritten = 'How it is written.';

const pathOf = (collection: string, name: string, format: Uppercase<FormatName>) =>
  `/export/${collection}/${encodeURIComponent(name)}/files?format=${format.toLowerCase()}`;

@Resolver(() => DatasetType)
export class ExportResolver {
  @FieldResolver(() => String, { description })
  exportUrl(
    @Root() dataset: DatasetRow,
    @Arg('format', () => ExportFormat, { description: howWritten })
    format: Uppercase<FormatName>,
  ): string {
    return pathOf('datasets', dataset.name, format);
  }
}

@Resolver(() => ContainerType)
export class ContainerExportResolver {
  @FieldResolver(() => String, { description })
  exportUrl(
    @Root() container: ContainerRow,
    @Arg('format', () => ExportFormat, { description: howWritten })
    format: Uppercase<FormatName>,
  ): string {
    return pathOf('containers', container.name, format);
  }
}
