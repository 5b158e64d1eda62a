import {
  astFromValue,
  getNamedType,
  getNullableType,
  isEnumType,
  isInputObjectType,
  isLeafType,
  isListType,
  isNonNullType,
  isObjectType,
  isRequiredArgument,
  print,
  type GraphQLArgument,
  type GraphQLField,
  type GraphQLInputField,
  type GraphQLInputType,
  type GraphQLObjectType,
  type GraphQLSchema,
} from 'graphql';

/** A place of the schema that takes a text: `Type.field(argument.field)`. */
export interface Place {
  readonly name: string;
  readonly root: 'query' | 'mutation' | 'subscription';
  /** ID and String take any text; DateTime has a form of its own. */
  readonly type: string;
  readonly query: string;
  /** Of the document, with this text in this place and good values in all others. */
  variables(text: string): Record<string, unknown>;
}

/** How a query comes to an object of this type, in the world of test/migrations/world.ts. */
const reached: Record<string, (inner: string) => string> = {
  Container: (inner) => `container(name: "list") { ${inner} }`,
  ContainerChange: (inner) =>
    `container(name: "list") { history(first: 5) { nodes { ${inner} } } }`,
  ContainerDelta: (inner) =>
    `container(name: "list") { changedSince(since: "2026-01-01T00:00:00Z") { ${inner} } }`,
  Dataset: (inner) => `dataset(name: "closed") { ${inner} }`,
  File: (inner) => `file(lfn: "/merged/1") { ${inner} }`,
  FollowRule: (inner) => `followRules(first: 3) { nodes { ${inner} } }`,
  Import: (inner) => `imports(first: 3) { nodes { ${inner} } }`,
  Incident: (inner) => `incidents(first: 3) { nodes { ${inner} } }`,
  Publication: (inner) => `publications(first: 3) { nodes { ${inner} } }`,
  Run: (inner) => `run(number: 1) { ${inner} }`,
  StageRequest: (inner) => `stageRequests(first: 3) { nodes { ${inner} } }`,
  StoreAudit: (inner) => `storeAudits { ${inner} }`,
  Stuck: (inner) => `stuck { ${inner} }`,
};

const nobody = 'aG9zdGlsZQ';
/** Good values of texts and numbers: by `Type.field`, else by the name alone. A new one needs its own here. */
const good: Record<string, unknown> = {
  'Query.dataset.name': 'closed',
  'Query.container.name': 'list',
  'Query.goodRuns.dataset': 'closed',
  'Query.file.lfn': '/merged/1',
  'Query.run.number': 1,
  'Query.import.id': '101',
  'Query.incident.id': '1',
  'Query.publication.id': '1',
  'Query.stageRequest.id': '1',
  'Query.followRule.id': '1',
  'Query.publicationQuota.name': 'uma',
  'Container.changedSince.since': '2026-01-01T00:00:00Z',
  'Query.datasetRuns.datasets': ['closed'],
  'Mutation.removeGroup.name': 'hostile-group',
  'CreateDatasetInput.name': 'hostile-dataset',
  'CreateContainerInput.name': 'hostile-container',
  'ChangeGroupInput.name': 'hostile-group',
  'RequestPublicationInput.name': 'hostile-publication',
  'SetPublicationQuotaInput.name': 'hostile',
  'RegisterFileInput.lfn': '/hostile/file',
  'RegisterRunInput.number': 4711,
  'RunVerdictInput.number': 1,
  'RunKey.number': 1,
  'FileRunInput.number': 1,
  'CreateWebhookInput.url': 'https://hooks.example.org/x',
  'ReportReadFailureInput.url': '/hpss/merged/1',
  'ReportReadFailureInput.lfn': '/merged/1',
  'RotateTokenInput.prefix': '000000000000',
  'PublicationFileInput.path': '/hostile/file',
  adler32: '1234abcd',
  container: 'list',
  dataset: 'open',
  datasets: ['closed'],
  description: 'hostile',
  error: 'EIO',
  files: [],
  from: 'nowhere',
  generations: 1,
  graceSeconds: 0,
  id: nobody,
  import: '101',
  incident: '1',
  inputs: ['/run/1a'],
  job: '1',
  lfn: '/merged/safe',
  lfns: ['/merged/safe'],
  massStore: 'hpss',
  mirror: 'hostile-mirror',
  name: 'hostile',
  olderThanSeconds: 0,
  outputLfn: '/merged/1',
  path: '/store/merged/safe',
  pool: 'world',
  prefix: '000000000000',
  principal: 'hostile@nowhere',
  publication: '1',
  reason: 'a test',
  request: '1',
  scope: 'EVERYBODY',
  site: 'local',
  sizeBytes: 1,
  users: ['hostile'],
  volume: 'd3',
};
/** Booleans and words are taken as they come; these are chosen. */
const chosen: Record<string, unknown> = {
  dryRun: true,
  direct: true,
  'CreateDatasetInput.kind': 'PR',
  'CreateTokenInput.roles': ['USER'],
  'Query.totals.by': ['STREAM'],
};
/** What is not demanded by the schema, but by the rules: without it nothing is looked at. */
const alsoNeeded: Record<string, readonly string[]> = {
  RecordMergeInput: ['outputLfn'],
  StageFilesInput: ['pool', 'lfns'],
  ReportStorageLossInput: ['volume'],
  ConfirmReplicaInput: ['volume'],
  RecoverIncidentInput: [],
  'Subscription.backupProgress': ['dataset'],
  ShareDatasetInput: ['users'],
  RequestPublicationInput: [],
  'Query.goodRuns': ['dataset'],
  'Container.changedSince': ['since'],
  'Stuck.datasets': ['olderThanSeconds'],
  'Stuck.sweeps': ['olderThanSeconds'],
  'Stuck.waitingBackups': ['olderThanSeconds'],
  'Query.publicationQuota': ['name'],
};
/** Of two that exclude each other, the one asked for stands alone. */
const instead: Record<string, readonly string[]> = {
  'RecordMergeInput.output': ['outputLfn'],
  'StageFilesInput.dataset': ['lfns'],
  'ReportStorageLossInput.massStore': ['volume'],
  'ReportStorageLossInput.lfns': ['volume'],
  'ReportStorageLossInput.paths': [],
  'Subscription.backupProgress.lfn': ['dataset'],
  'Query.goodRuns.numbers': [],
  'Container.changedSince.marker': ['since'],
};

type Input = GraphQLArgument | GraphQLInputField;
const texts = new Set(['String', 'ID', 'DateTime']);

/** Every place of a text in an input, as a path; lists are one long. */
function* leaves(
  inputs: readonly Input[],
  seen: readonly string[] = [],
): Generator<{ path: string[]; type: string }> {
  for (const input of inputs) {
    const type = getNamedType(input.type);
    if (texts.has(type.name)) yield { path: [input.name], type: type.name };
    if (isInputObjectType(type) && !seen.includes(type.name)) {
      const fields = Object.values(type.getFields());
      for (const { path, type: leaf } of leaves(fields, [...seen, type.name])) {
        yield { path: [input.name, ...path], type: leaf };
      }
    }
  }
}

function goodValue(owner: string, input: Input): unknown {
  const given = [`${owner}.${input.name}`, input.name]
    .map((name) => chosen[name] ?? good[name])
    .find((value) => value !== undefined);
  const type = getNullableType(input.type);
  const named = getNamedType(type);
  if (isInputObjectType(named)) {
    const inner = fieldsOf(named.name, Object.values(named.getFields()), [], undefined);
    return isListType(type) ? [inner] : inner;
  }
  if (given !== undefined) return given;
  const one = isEnumType(named)
    ? named.getValues()[0]?.name
    : named.name === 'Boolean'
      ? false
      : undefined;
  if (one === undefined)
    throw new Error(
      `${owner}.${input.name} needs a good value: say which in test/hostile/places.ts`,
    );
  return isListType(type) ? [one] : one;
}

const isRequired = (input: Input) => isNonNullType(input.type) && input.defaultValue === undefined;

/** Values of these inputs: those that are needed, and the text at the end of the path. */
function fieldsOf(
  owner: string,
  inputs: readonly Input[],
  path: readonly string[],
  text: string | undefined,
): Record<string, unknown> {
  const [next, ...rest] = path;
  const out = instead[`${owner}.${next}`] ?? [];
  const wanted = inputs.filter(
    (input) =>
      input.name === next ||
      isRequired(input) ||
      ((alsoNeeded[owner] ?? []).includes(input.name) && !out.includes(input.name)),
  );
  return Object.fromEntries(
    wanted.map((input) => [
      input.name,
      input.name === next && text !== undefined
        ? placed(input, rest, text)
        : goodValue(owner, input),
    ]),
  );
}

function placed(input: Input, rest: readonly string[], text: string): unknown {
  const named = getNamedType(input.type);
  const value = isInputObjectType(named)
    ? fieldsOf(named.name, Object.values(named.getFields()), rest, text)
    : text;
  return isListType(getNullableType(input.type)) ? [value] : value;
}

/** The arguments of a field, with good values for those that it needs and these ones, as a document has them. */
export function goodArguments(
  owner: string,
  field: GraphQLField<unknown, unknown>,
  more: Record<string, unknown> = {},
): string {
  const values = { ...fieldsOf(`${owner}.${field.name}`, field.args, [], undefined), ...more };
  const written = field.args.flatMap(({ name, type }) => {
    const value = values[name] === undefined ? undefined : astFromValue(values[name], type);
    return value ? [`${name}: ${print(value)}`] : [];
  });
  return written.length === 0 ? '' : `(${written.join(', ')})`;
}

/** What comes back of an object: its leaves, and those of the nodes of a list. */
export function plainFields(type: GraphQLObjectType, depth = 2): string {
  const asked = Object.values(type.getFields())
    .filter((field) => !field.args.some(isRequiredArgument))
    .flatMap((field) => {
      const inner = getNamedType(field.type);
      if (isLeafType(inner)) return [field.name];
      if (
        isObjectType(inner) &&
        depth > 0 &&
        /^(nodes|item|results|dataset|pageInfo|file|run|container)$/.test(field.name)
      ) {
        return [`${field.name} { ${plainFields(inner, depth - 1)} }`];
      }
      return [];
    });
  return ['__typename', ...asked].join(' ');
}

/** All fields that take arguments, with the roots. */
function* askedFields(
  schema: GraphQLSchema,
): Generator<{ owner: GraphQLObjectType; field: GraphQLField<unknown, unknown> }> {
  for (const type of Object.values(schema.getTypeMap())) {
    if (!isObjectType(type) || type.name.startsWith('__')) continue;
    for (const field of Object.values(type.getFields()))
      if (field.args.length > 0) yield { owner: type, field };
  }
}

/** Every place of the schema that takes a text. */
export function placesOf(schema: GraphQLSchema): Place[] {
  return [...askedFields(schema)].flatMap(({ owner, field }) =>
    [...leaves(field.args)].map((leaf) => placeOf(owner, field, leaf)),
  );
}

function placeOf(
  owner: GraphQLObjectType,
  field: GraphQLField<unknown, unknown>,
  { path, type }: { path: string[]; type: string },
): Place {
  const isRoot = /^(Query|Mutation|Subscription)$/.test(owner.name);
  const fieldName = `${owner.name}.${field.name}`;
  const variables = (text: string) => fieldsOf(fieldName, field.args, path, text);
  const given = Object.keys(variables(''));
  const typed = field.args.filter((argument) => given.includes(argument.name));
  const answer = getNamedType(field.type);
  const inner = isLeafType(answer)
    ? ''
    : ` { ${isObjectType(answer) ? plainFields(answer) : '__typename id'} }`;
  const call = `${field.name}(${typed.map(({ name }) => `${name}: $${name}`).join(', ')})${inner}`;
  const road = reached[owner.name];
  if (!isRoot && !road)
    throw new Error(`${owner.name} has arguments: say in test/hostile/places.ts how it is reached`);
  const root = isRoot ? (owner.name.toLowerCase() as Place['root']) : 'query';
  const head = typed
    .map(({ name, type: is }: { name: string; type: GraphQLInputType }) => `$${name}: ${is}`)
    .join(', ');
  return {
    name: `${fieldName}(${path.join('.')})`,
    root,
    type,
    query: `${root} (${head}) { ${isRoot ? call : road?.(call)} }`,
    variables,
  };
}
