import { Field, Float, Int, ObjectType } from 'type-graphql';
import { enumType } from '../api/inputs.ts';
import { SafeInt } from '../api/scalars.ts';
import type { AccessProtocol as ProtocolName, Locality as LocalityName } from './pools.rules.ts';

export const Locality = enumType<LocalityName>(
  'Locality',
  'Where a file is, for a job that wants to open it; the words of the WLCG tape REST API.',
  {
    ONLINE: 'On disk: in a pool, or in a mass store without tape. A job can open it now.',
    NEARLINE: 'On tape: stage it first.',
    ONLINE_AND_NEARLINE: 'On tape, and in a pool or a store without tape: a job can open it now.',
    LOST: 'Nothing holds it any more.',
    NONE: 'No copy of it is known yet.',
    UNAVAILABLE:
      'Only where no job can open it now: on a disk of production, or in a store that is configured no more.',
  },
);

export const AccessProtocol = enumType<Uppercase<ProtocolName>>(
  'AccessProtocol',
  'How a job opens a file.',
  {
    ROOT: 'XRootD: root://',
    HTTPS: 'https://',
    HTTP: 'http://',
    FILE: 'A path of the file system, or file://',
    S3: 's3://',
  },
);

@ObjectType({ description: 'What a job opens: a copy that is on disk now.' })
export class AccessUrl {
  @Field(() => AccessProtocol, { nullable: true, description: 'null = another one.' })
  protocol!: Uppercase<ProtocolName> | null;

  @Field(() => String, { description: 'The URL, or the path.' })
  url!: string;

  @Field(() => String, { description: 'The pool or the mass store that it lies in.' })
  place!: string;
}

@ObjectType({ description: 'How much of a dataset jobs can open without waiting.' })
export class OnlineShare {
  @Field(() => SafeInt, { description: 'Files that are ONLINE or ONLINE_AND_NEARLINE.' })
  onlineFiles!: number;

  @Field(() => SafeInt, { description: 'Their bytes.' })
  onlineBytes!: number;

  @Field(() => SafeInt, { description: 'Files in all.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Bytes in all.' })
  sizeBytes!: number;

  @Field(() => Float, {
    description: 'Share of its bytes that is online, 0 to 1; 1 for an empty dataset.',
  })
  share!: number;
}

@ObjectType({
  description:
    'A volume for reading. Its copies are a cache of the mass stores: staged on request, and evicted when nothing pins them and room is needed.',
})
export class Pool {
  @Field(() => String, { description: 'Its name.' })
  name!: string;

  @Field(() => String, { description: 'The site that it is at.' })
  site!: string;

  @Field(() => String, { description: 'Its volume, as replicas and incidents name it.' })
  volume!: string;

  @Field(() => Boolean, { description: 'It takes copies, and jobs are sent there.' })
  isConfigured!: boolean;

  @Field(() => SafeInt, { description: 'Most bytes that it may hold.' })
  sizeLimit!: number;

  @Field(() => SafeInt, { description: 'Bytes of copies that are there, come or go.' })
  usedBytes!: number;

  @Field(() => Int, { description: 'How long a pin lasts when nobody says, seconds.' })
  pinSeconds!: number;

  @Field(() => Int, { description: 'How long a pin may last, seconds.' })
  mostPinSeconds!: number;

  @Field(() => Int, { description: 'Files that one principal may want at once.' })
  fileLimit!: number;

  @Field(() => [String], { description: 'Roles that may stage into it.' })
  roles!: readonly string[];
}
