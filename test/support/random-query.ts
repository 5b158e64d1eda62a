import * as fc from 'fast-check';
import {
  getNamedType,
  isListType,
  isNonNullType,
  isObjectType,
  type GraphQLArgument,
  type GraphQLField,
  type GraphQLObjectType,
} from 'graphql';
import { committedSchema } from './scene.ts';

/** Picks, as fast-check decides. */
export interface Dice {
  one<T>(from: readonly T[]): T;
  chance(percent: number): boolean;
}

export function diceOf(g: fc.GeneratorValue): Dice {
  return {
    one: <T>(from: readonly T[]) => from[g(fc.integer, { min: 0, max: from.length - 1 })] as T,
    chance: (percent) => g(fc.integer, { min: 0, max: 99 }) < percent,
  };
}

export interface RandomQuery {
  readonly query: string;
  /** Values for its variables, other ones each time. */
  variables(): Record<string, unknown>;
}

/** What an argument may be, as GraphQL text or as the value of a variable. */
export type Values = Readonly<Record<string, readonly unknown[]>>;

const deepest = 4;

/** A query over the committed schema: selections, aliases, fragments, directives, variables. */
export function randomQuery(dice: Dice, roots: readonly string[], values: Values): RandomQuery {
  const writer = new Writer(dice, values);
  const query = committedSchema.getQueryType() as GraphQLObjectType;
  const chosen = Array.from({ length: dice.chance(25) ? 2 : 1 }, () => dice.one(roots));
  const body = chosen.map((name) => writer.field(query, query.getFields()[name], 0)).join(' ');
  const typename = dice.chance(15) ? '__typename ' : '';
  const head = writer.declared.length > 0 ? `(${writer.declared.join(', ')})` : '';
  return {
    query: `query Random${head} { ${typename}${body} }\n${writer.fragments.join('\n')}`,
    variables: () => writer.variables(),
  };
}

type Field = GraphQLField<unknown, unknown>;

class Writer {
  readonly declared: string[] = [];
  readonly fragments: string[] = [];
  private readonly given = new Map<string, () => unknown>();
  private aliases = 0;

  constructor(
    private readonly dice: Dice,
    private readonly values: Values,
  ) {}

  variables(): Record<string, unknown> {
    const all = [...this.given].map(([name, value]) => [name, value()] as const);
    // Not given is not the same as null.
    return Object.fromEntries(all.filter(([, value]) => value !== undefined));
  }

  field(parent: GraphQLObjectType, field: Field | undefined, depth: number): string {
    if (!field) throw new Error(`no such field of ${parent.name}`);
    const type = getNamedType(field.type);
    // A name of its own: two fields of one name with other arguments are refused.
    const alias = field.args.length > 0 || this.dice.chance(20) ? `a${++this.aliases}: ` : '';
    const args = field.args.flatMap((arg) => this.argument(arg));
    const call = args.length > 0 ? `(${args.join(', ')})` : '';
    const set = isObjectType(type) ? ` ${this.selection(type, depth + 1)}` : '';
    return `${alias}${field.name}${call}${this.directive()}${set}`;
  }

  private selection(type: GraphQLObjectType, depth: number): string {
    const isConnection = type.name.endsWith('Connection') || type.name.endsWith('Edge');
    const fields = Object.values(type.getFields()).filter(
      (field) => isConnection || depth < deepest || !isObjectType(getNamedType(field.type)),
    );
    // Nothing but objects, and no more depth for them.
    if (fields.length === 0) return '{ __typename }';
    const wanted = this.dice.one([1, 2, 3, 5]);
    const chosen = Array.from({ length: wanted }, () => this.dice.one(fields));
    const parts = chosen.map((field) => {
      const text = this.field(type, field, isConnection ? depth - 1 : depth);
      if (this.dice.chance(10)) return `... on ${type.name}${this.directive()} { ${text} }`;
      if (this.dice.chance(8)) return this.spread(type, text);
      return text;
    });
    if (this.dice.chance(15)) parts.push('__typename');
    if (type.getInterfaces().length > 0 && this.dice.chance(10)) parts.push('... on Node { id }');
    return `{ ${parts.join(' ')} }`;
  }

  private spread(type: GraphQLObjectType, text: string): string {
    const name = `f${this.fragments.length}`;
    this.fragments.push(`fragment ${name} on ${type.name} { ${text} }`);
    return `...${name}${this.dice.chance(30) ? ` ...${name}` : ''}`;
  }

  private directive(): string {
    if (!this.dice.chance(6)) return '';
    const name = this.dice.one(['include', 'skip']);
    if (this.dice.chance(50)) return ` @${name}(if: ${this.dice.chance(50)})`;
    return ` @${name}(if: ${this.variable('Boolean!', [true, false])})`;
  }

  private argument(arg: GraphQLArgument): string[] {
    const values = this.values[arg.name] ?? [null];
    if (!isNonNullType(arg.type) && this.dice.chance(40)) return [];
    const value = this.dice.chance(50)
      ? this.variable(String(arg.type), values)
      : literal(this.dice.one(values), isEnum(arg));
    return [`${arg.name}: ${value}`];
  }

  private variable(type: string, values: readonly unknown[]): string {
    const name = `v${this.given.size}`;
    const isRequired = type.endsWith('!');
    const fallback = !isRequired && type === 'Int' && this.dice.chance(30) ? ' = 2' : '';
    this.declared.push(`$${name}: ${type}${fallback}`);
    this.given.set(name, () =>
      !isRequired && this.dice.chance(15) ? undefined : this.dice.one(values),
    );
    return `$${name}`;
  }
}

const isEnum = ({ type }: GraphQLArgument) =>
  !isListType(type) && /^[A-Z]/.test(String(type)) && 'getValues' in getNamedType(type);

/** Enum values stand without quotes in GraphQL: words in capitals, here. */
function literal(value: unknown, asEnum: boolean): string {
  if (Array.isArray(value)) return `[${value.map((item) => literal(item, false)).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    const parts = Object.entries(value).map(([name, inner]) => `${name}: ${literal(inner, false)}`);
    return `{${parts.join(', ')}}`;
  }
  const isWord = typeof value === 'string' && /^[A-Z_]{2,}$/.test(value);
  return asEnum || isWord ? String(value) : (JSON.stringify(value) ?? 'null');
}
