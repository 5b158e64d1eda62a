import { Field, Float, InputType, ObjectType } from 'type-graphql';
import { enumType, NameFilter } from '../api/inputs.ts';
import { SafeInt } from '../api/scalars.ts';
import type { FileKind as KindName } from '../files/files.rules.ts';
import { FileKind } from '../files/files.schema.ts';
import type { FileStatus as StatusName, TotalsKey as KeyName } from './totals.queries.ts';

const FileStatus = enumType<StatusName>('FileStatus', 'Where a file stands; each has one.', {
  REGISTERED: 'No confirmed backup, and in no dataset that everybody sees.',
  BACKED_UP: 'Confirmed backup, and in no dataset that everybody sees (yet, or any more).',
  PUBLISHED: 'Confirmed backup, and in a dataset that everybody sees.',
  PUBLISHED_WITHOUT_BACKUP:
    'In a dataset that everybody sees, and its backup was waived, or is lost and made again.',
});
export const TotalsKey = enumType<KeyName>('TotalsKey', 'What totals are grouped by.', {
  SITE: 'The site that made the files.',
  STREAM: 'Their stream, or skim.',
  KIND: 'Run files or merged files.',
  STATUS: 'Safe or not, published or not.',
  RELEASE: 'The software release that wrote them.',
  STORE:
    'The mass store of their confirmed copies; a file in two stores counts in each. For producers and operators.',
});

@InputType({ description: 'Conditions on the files that are summed; all must hold.' })
export class TotalsFilter {
  @Field(() => NameFilter, { nullable: true, description: 'Made by these sites.' })
  site?: NameFilter | null;

  @Field(() => NameFilter, { nullable: true, description: 'Of these streams.' })
  stream?: NameFilter | null;

  @Field(() => NameFilter, { nullable: true, description: 'Of these releases.' })
  release?: NameFilter | null;

  @Field(() => FileKind, { nullable: true, description: 'Of this kind.' })
  kind?: KindName | null;

  @Field(() => [FileStatus], { nullable: true, description: 'In one of these states.' })
  status?: StatusName[] | null;

  @Field(() => String, { nullable: true, description: 'With a confirmed copy in this store.' })
  store?: string | null;
}

@ObjectType({
  description: 'Files, events and bytes of one group. What it is not grouped by is null.',
})
export class FileTotals {
  @Field(() => String, { nullable: true, description: 'The site that made the files.' })
  site!: string | null;

  @Field(() => String, { nullable: true, description: 'Their stream; null also for none.' })
  stream!: string | null;

  @Field(() => FileKind, { nullable: true, description: 'Run files or merged files.' })
  kind!: KindName | null;

  @Field(() => FileStatus, { nullable: true, description: 'Safe or not, published or not.' })
  status!: StatusName | null;

  @Field(() => String, { nullable: true, description: 'Their release; null also for none.' })
  release!: string | null;

  @Field(() => String, { nullable: true, description: 'The mass store of the copies.' })
  store!: string | null;

  @Field(() => SafeInt, { description: 'How many files.' })
  fileCount!: number;

  @Field(() => Float, {
    description: 'Events, as far as they are counted; exact up to 2^53, then to 16 digits.',
  })
  eventCount!: number;

  @Field(() => Float, { description: 'Bytes; exact up to 2^53 (9 PB), then to 16 digits.' })
  sizeBytes!: number;
}
