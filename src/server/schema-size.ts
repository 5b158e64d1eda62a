import {
  getNamedType,
  introspectionTypes,
  isNamedType,
  isObjectType,
  Kind,
  type DocumentNode,
  type FieldNode,
  type GraphQLObjectType,
  type GraphQLResolveInfo,
  type GraphQLSchema,
  type SelectionSetNode,
} from 'graphql';

const typesByName = new Map(introspectionTypes.map((type) => [type.name, type]));
const objectType = (name: string): GraphQLObjectType | undefined => {
  const type = typesByName.get(name);
  return isObjectType(type) ? type : undefined;
};

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

/** A part of a schema, as it tells of itself. */
interface Part {
  readonly source: object;
  /** Named, and reached from many places. */
  readonly isType: boolean;
  /** By the place of the field that leads there, when it was asked for once. */
  readonly below: (readonly Part[] | undefined)[];
}

/** A field of the introspection that leads to parts. */
interface Way {
  readonly typeName: string;
  readonly place: number;
  readonly partsOf: (source: object) => readonly Part[];
}

/** The parts of a schema, each found once: it never changes, and is asked in ever new words. */
export class SchemaParts {
  private readonly ways = new Map<string, Way>();
  private readonly parts = new Map<object, Part>();

  constructor(readonly schema: GraphQLSchema) {}

  partOf(source: object): Part {
    const known = this.parts.get(source);
    if (known) return known;
    const part: Part = { source, isType: isNamedType(source), below: [] };
    this.parts.set(source, part);
    return part;
  }

  /** undefined: it leads to a value, or is no field. */
  way(typeName: string, fieldName: string): Way | undefined {
    const key = `${typeName}.${fieldName}`;
    const known = this.ways.get(key);
    if (known) return known;
    const field = objectType(typeName)?.getFields()[fieldName];
    if (!field?.resolve || !isObjectType(getNamedType(field.type))) return undefined;
    const { resolve, type } = field;
    const info = { schema: this.schema } as GraphQLResolveInfo;
    const partsOf = (source: object) => {
      const value: unknown = resolve(source, { includeDeprecated: true }, undefined, info);
      const all: readonly unknown[] = Array.isArray(value) ? value : [value];
      return all.filter(isObject).map((found) => this.partOf(found));
    };
    const way = { typeName: getNamedType(type).name, place: this.ways.size, partsOf };
    this.ways.set(key, way);
    return way;
  }
}

/** What is asked of one part, wherever that stands. */
interface Shape {
  /** Fields of the part itself. */
  own: number;
  readonly inner: Shape[];
  readonly below: { readonly way: Way; readonly shape: Shape }[];
  /** Of types: what else there is stands in one place. */
  readonly sizes: Map<Part, number>;
}

/**
 * How many fields the schema answers when it is asked about itself: counted along the schema, each part of it once for
 * each place that asks it, since aliases make a thousand answers of one. Deprecated parts are counted, `@skip` is not heeded.
 */
export class SchemaSize {
  private readonly fragments: ReadonlyMap<string, SelectionSetNode>;
  private readonly shapes = new Map<SelectionSetNode, Shape>();

  constructor(
    private readonly parts: SchemaParts,
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
    const { schema } = this.parts;
    const isAll = name.value === '__schema';
    const type = typeof typeName === 'string' ? schema.getType(typeName) : undefined;
    const source = isAll ? schema : type;
    if (!source) return 1;
    const shape = this.shape(selectionSet, isAll ? '__Schema' : '__Type');
    return 1 + this.size(shape, this.parts.partOf(source));
  }

  private shape(selectionSet: SelectionSetNode, typeName: string): Shape {
    const known = this.shapes.get(selectionSet);
    if (known) return known;
    const shape: Shape = { own: 0, inner: [], below: [], sizes: new Map() };
    this.shapes.set(selectionSet, shape);
    for (const selection of selectionSet.selections) {
      if (selection.kind === Kind.FIELD) {
        shape.own++;
        const way = selection.selectionSet && this.parts.way(typeName, selection.name.value);
        if (!selection.selectionSet || !way) continue;
        shape.below.push({ way, shape: this.shape(selection.selectionSet, way.typeName) });
      } else {
        const isSpread = selection.kind === Kind.FRAGMENT_SPREAD;
        const inner = isSpread ? this.fragments.get(selection.name.value) : selection.selectionSet;
        if (inner) shape.inner.push(this.shape(inner, typeName));
      }
    }
    return shape;
  }

  private size({ own, inner, below, sizes }: Shape, part: Part): number {
    if (inner.length === 0 && below.length === 0) return own;
    const known = part.isType ? sizes.get(part) : undefined;
    if (known !== undefined) return known;
    let sum = own;
    for (const shape of inner) {
      if (sum > this.most) break;
      sum += this.size(shape, part);
    }
    for (const { way, shape } of below) {
      for (const found of (part.below[way.place] ??= way.partsOf(part.source))) {
        if (sum > this.most) break;
        sum += this.size(shape, found);
      }
    }
    if (part.isType) sizes.set(part, sum);
    return sum;
  }
}
