import { Arg, FieldResolver, Resolver, Root } from 'type-graphql';
import { enumType } from '../api/inputs.ts';
import type { DatasetRow } from '../datasets/datasets.queries.ts';
import { DatasetType } from '../datasets/datasets.schema.ts';
import type { ExportFormat as FormatName } from './export/formats.ts';

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

@Resolver(() => DatasetType)
export class ExportResolver {
  @FieldResolver(() => String, {
    description: 'Path on this server from which the list of its files is read.',
  })
  exportUrl(
    @Root() dataset: DatasetRow,
    @Arg('format', () => ExportFormat, { description: 'How it is written.' })
    format: Uppercase<FormatName>,
  ): string {
    return `/export/datasets/${encodeURIComponent(dataset.name)}/files?format=${format.toLowerCase()}`;
  }
}
