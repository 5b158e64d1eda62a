import {
  getNamedType,
  introspectionTypes,
  isObjectType,
  Kind,
  type DocumentNode,
  type FieldNode,
  type GraphQLObjectType,
  type GraphQLResolveInfo,
  type GraphQLSchema,
  type SelectionSetNode,
} from 'graphql';

type Source = object;

const typesByName = new Map(introspectionTypes.map((type) => [type.name, type]));
const objectType = (name: string): GraphQLObjectType | undefined => {
  const type = typesByName.get(name);
  return isObjectType(type) ? type : undefined;
};

const isSource = (value: unknown): value is Source => typeof value === 'object' && value !== null;

/**
 * How many fields the schema answers when it is asked about itself: counted along the schema, each part of it once for
 * each place that asks it, since aliases make a thousand answers of one. Deprecated parts are counted, `@skip` is not heeded.
 */
export class SchemaSize {
  private readonly fragments: ReadonlyMap<string, SelectionSetNode>;
  private readonly known = new Map<SelectionSetNode, Map<Source, number>>();

  constructor(
    private readonly schema: GraphQLSchema,
    document: DocumentNode,
    /** Beyond it nothing is counted any more. */
    private readonly most: number,
  ) {
    const fragments = document.definitions.filter((of) => of.kind === Kind.FRAGMENT_DEFINITION);
    this.fragments = new Map(fragments.map((of) => [of.name.value, of.selectionSet]));
  }

  /** Of `__schema`, or of `__type` with this name; more than `most` = too much. */
  of({ name, selectionSet }: FieldNode, typeName: unknown): number {
    if (!selectionSet) return 1;
    if (name.value === '__schema') return 1 + this.size(selectionSet, '__Schema', this.schema);
    const type = typeof typeName === 'string' ? this.schema.getType(typeName) : undefined;
    return type ? 1 + this.size(selectionSet, '__Type', type) : 1;
  }

  private size(selectionSet: SelectionSetNode, typeName: string, source: Source): number {
    const bySource = this.known.get(selectionSet) ?? new Map<Source, number>();
    this.known.set(selectionSet, bySource);
    const known = bySource.get(source);
    if (known !== undefined) return known;
    let sum = 0;
    for (const selection of selectionSet.selections) {
      if (sum > this.most) break;
      if (selection.kind === Kind.FIELD) {
        sum += 1 + this.sizeBelow(selection, typeName, source);
      } else {
        const isSpread = selection.kind === Kind.FRAGMENT_SPREAD;
        const inner = isSpread ? this.fragments.get(selection.name.value) : selection.selectionSet;
        if (inner) sum += this.size(inner, typeName, source);
      }
    }
    bySource.set(source, sum);
    return sum;
  }

  private sizeBelow({ name, selectionSet }: FieldNode, typeName: string, source: Source): number {
    const field = objectType(typeName)?.getFields()[name.value];
    if (!selectionSet || !field?.resolve) return 0;
    const info = { schema: this.schema } as GraphQLResolveInfo;
    const value: unknown = field.resolve(source, { includeDeprecated: true }, undefined, info);
    const below = getNamedType(field.type).name;
    let sum = 0;
    for (const part of Array.isArray(value) ? value : [value]) {
      if (sum > this.most) break;
      if (isSource(part)) sum += this.size(selectionSet, below, part);
    }
    return sum;
  }
}
