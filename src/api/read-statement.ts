import {
  getArgumentValues,
  getDirectiveValues,
  getNamedType,
  GraphQLIncludeDirective,
  GraphQLSkipDirective,
  isAbstractType,
  isObjectType,
  Kind,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLField,
  type GraphQLObjectType,
  type GraphQLOutputType,
  type GraphQLSchema,
  type SelectionSetNode,
} from 'graphql';
import { cursorSql } from '../database/cursor.ts';
import { Late } from '../database/late.ts';
import { countStatement, keyColumn, pageStatement, type PageQuery } from '../database/page.ts';
import { sql, type RawBuilder } from '../database/sql.ts';
import { joined, list, orNotReadable, quoted, scalar, type Parts } from './json-text.ts';
import type {
  AskedPage,
  ReadArguments,
  Reading,
  ReadModels,
  RowAt,
  Rows,
  Source,
} from './read-model.ts';

/** A query, or a part of one, that only the resolvers answer. */
export class NotReadable extends Error {
  override readonly name = 'NotReadable';
}

export interface ReadOperation {
  readonly schema: GraphQLSchema;
  readonly selectionSet: SelectionSetNode;
  readonly fragments: ReadonlyMap<string, FragmentDefinitionNode>;
  /** Coerced. */
  readonly variables: Record<string, unknown>;
  /** Those whose values come with each request; the others are part of the statement. */
  readonly late: ReadonlySet<string>;
}

type Sql = RawBuilder<unknown>;

/**
 * One statement whose one column `data` is the JSON text of the answer, with the fields in the order in which they were
 * asked for. It is null when only the resolvers can answer. Throws NotReadable, and what the readers throw.
 */
export function readStatement(
  operation: ReadOperation,
  models: ReadModels,
  reading: Reading,
): RawBuilder<{ data: string | null }> {
  const statement = new Statement(operation, models, reading);
  const data = statement.object('Query', [operation.selectionSet], noRow);
  return sql<{ data: string | null }>`select ${data} as data`;
}

const noRow: RowAt = {
  column(name) {
    throw new NotReadable(name);
  },
};

/** All that ask for one field: their selections are one. */
type Nodes = readonly [FieldNode, ...FieldNode[]];
type Fields = ReadonlyMap<string, readonly FieldNode[]>;

class Statement {
  private aliases = 0;

  constructor(
    private readonly operation: ReadOperation,
    private readonly models: ReadModels,
    private readonly reading: Reading,
  ) {}

  /** The fields of a selection by their names in the answer, as the executor collects them. */
  fieldsOf(type: GraphQLObjectType, sets: readonly SelectionSetNode[]): Fields {
    const found = new Map<string, FieldNode[]>();
    const seen = new Set<string>();
    for (const set of sets) this.collect(type, set, found, seen);
    return found;
  }

  private collect(
    type: GraphQLObjectType,
    set: SelectionSetNode,
    found: Map<string, FieldNode[]>,
    seen: Set<string>,
  ): void {
    const { variables, fragments } = this.operation;
    for (const node of set.selections) {
      if (getDirectiveValues(GraphQLSkipDirective, node, variables)?.['if'] === true) continue;
      if (getDirectiveValues(GraphQLIncludeDirective, node, variables)?.['if'] === false) continue;
      if (node.kind === Kind.FIELD) {
        const name = node.alias?.value ?? node.name.value;
        const known = found.get(name);
        if (known) known.push(node);
        else found.set(name, [node]);
      } else if (node.kind === Kind.INLINE_FRAGMENT) {
        if (!this.applies(node.typeCondition?.name.value, type)) continue;
        this.collect(type, node.selectionSet, found, seen);
      } else {
        const fragment = fragments.get(node.name.value);
        if (!fragment || seen.has(node.name.value)) continue;
        seen.add(node.name.value);
        if (!this.applies(fragment.typeCondition.name.value, type)) continue;
        this.collect(type, fragment.selectionSet, found, seen);
      }
    }
  }

  private applies(condition: string | undefined, type: GraphQLObjectType): boolean {
    if (condition === undefined || condition === type.name) return true;
    const of = this.operation.schema.getType(condition);
    return isAbstractType(of) && this.operation.schema.isSubType(of, type);
  }

  /** A row as a JSON object. */
  object(typeName: string, sets: readonly SelectionSetNode[], row: RowAt): Sql {
    const type = this.typeNamed(typeName);
    const model = this.models[typeName];
    return this.members(type, this.fieldsOf(type, sets), (nodes, definition) => {
      const [node] = nodes;
      const { name } = definition;
      if (model?.columns.includes(name)) return scalar(row.column(name), definition.type);
      const reader = model && Object.hasOwn(model.fields, name) ? model.fields[name] : undefined;
      if (!reader) throw new NotReadable(`${typeName}.${name}`);
      return this.source(
        reader(row, this.argsOf(definition, node), this.reading),
        nodes,
        definition.type,
      );
    });
  }

  private argsOf(definition: GraphQLField<unknown, unknown>, node: FieldNode): ReadArguments {
    const { variables, late } = this.operation;
    const args = getArgumentValues(definition, node, variables);
    for (const { name, value } of node.arguments ?? []) {
      if (value.kind !== Kind.VARIABLE || !late.has(value.name.value)) continue;
      const variable = value.name.value;
      args[name.value] = new Late((given) => given[variable]);
    }
    return args;
  }

  private members(
    type: GraphQLObjectType,
    fields: Fields,
    value: (nodes: Nodes, definition: GraphQLField<unknown, unknown>) => Sql | string,
  ): Sql {
    const parts: Parts = [];
    let before = '{';
    for (const [name, [first, ...more]] of fields) {
      if (!first) continue;
      parts.push(`${before}"${name}":`);
      before = ',';
      if (first.name.value === '__typename') {
        parts.push(`"${type.name}"`);
        continue;
      }
      const definition = type.getFields()[first.name.value];
      // Of what the schema says of itself nothing is in the database.
      if (!definition) throw new NotReadable(first.name.value);
      parts.push(value([first, ...more], definition));
    }
    return joined([...parts, before === '{' ? '{}' : '}']);
  }

  private source(source: Source, nodes: Nodes, kind: GraphQLOutputType): Sql {
    if ('value' in source) return scalar(source.value, kind);
    if ('json' in source) return source.json;
    const sets = selections(nodes);
    if ('page' in source) return this.page(source, sets, kind);
    if ('list' in source) {
      const { from, row } = this.from(source.list);
      const member = this.object(source.of, sets, row);
      return sql`(select ${joined(['[', list(member), ']'])} from ${from})`;
    }
    const { from, row } = this.from(source.one, 1);
    const found = sql`(select ${orNotReadable(this.object(source.of, sets, row))} from ${from})`;
    return source.orResolver ? found : sql`coalesce(${found}, 'null')`;
  }

  private from({ select, from, where, orderBy }: Rows, limit?: number) {
    const alias = this.alias();
    const order = orderBy === undefined ? sql`` : sql` order by ${orderBy}`;
    const most = limit === undefined ? sql`` : sql` limit ${sql.lit(limit)}`;
    const as = sql.ref(alias);
    return {
      from: sql`(select ${select} from ${from} where ${where}${order}${most}) as ${as}`,
      row: rowOf(alias),
    };
  }

  private page(
    { page, of, asked }: Extract<Source, { page: PageQuery }>,
    sets: readonly SelectionSetNode[],
    kind: GraphQLOutputType,
  ): Sql {
    const type = getNamedType(kind);
    if (!isObjectType(type)) throw new NotReadable(String(kind));
    // Lists made of lists, and cursors of a form of their own.
    if (page.pageFrom || page.cursors) throw new NotReadable(page.order);
    const fields = this.fieldsOf(type, sets);
    const asks = (name: string) =>
      [...fields.values()].some((nodes) => nodes[0]?.name.value === name);
    const alias = this.alias();
    const row = rowOf(alias);
    // Whether there is more is seen by reading one line more.
    const isOnPage = asks('pageInfo') ? sql`${row.column(place)} <= ${sizeOf(asked)}` : undefined;
    const node = (nodes: Nodes) => this.object(of, selections(nodes), row);
    const answer = this.members(type, fields, (nodes, definition) => {
      switch (definition.name) {
        case 'nodes':
          return joined(['[', list(node(nodes), isOnPage), ']']);
        case 'edges': {
          const edge = this.namedObject(definition.type);
          const line = this.members(
            edge,
            this.fieldsOf(edge, selections(nodes)),
            (inner, { name }) => (name === 'cursor' ? quoted(cursorAt(page, row)) : node(inner)),
          );
          return joined(['[', list(line, isOnPage), ']']);
        }
        case 'pageInfo':
          return this.pageInfo(definition.type, selections(nodes), { page, asked, row });
        case 'totalCount':
          return sql`(${countStatement(page)})::text`;
        default:
          throw new NotReadable(definition.name);
      }
    });
    const lines = pageStatement(page, asked.after, isOnPage ? oneMore(asked.first) : asked.first);
    if (!isOnPage && !asks('nodes') && !asks('edges')) {
      // One line, whatever the page has; the page stays in it, since its arguments are to be looked at.
      return sql`(select ${answer} from (select count(*) from (${lines}) as lines) as ${sql.ref(alias)})`;
    }
    const inOrder = isOnPage
      ? sql`select row_number() over () as ${sql.ref(place)}, lines.* from (${lines}) as lines`
      : lines;
    return sql`(select ${answer} from (${inOrder}) as ${sql.ref(alias)})`;
  }

  private pageInfo(
    kind: GraphQLOutputType,
    sets: readonly SelectionSetNode[],
    { page, asked, row }: { page: PageQuery; asked: AskedPage; row: RowAt },
  ): Sql {
    const type = this.namedObject(kind);
    // Not count(*): within the SQL of a cursor that would count the lines of that.
    const count = sql`count(${row.column(place)})`;
    const line = (at: Sql): RowAt => ({
      column: (name) => sql`(array_agg(${row.column(name)} order by ${row.column(place)}))[${at}]`,
    });
    const orNull = (cursor: Sql) => sql`coalesce(${quoted(cursor)}, 'null')`;
    return this.members(type, this.fieldsOf(type, sets), (_nodes, { name }) => {
      switch (name) {
        case 'hasNextPage':
          return sql`(${count} > ${sizeOf(asked)})::text`;
        case 'hasPreviousPage':
          // Counted too, so that there is one line of it however many the page has.
          return sql`case when ${count} >= 0 then ${sql.lit(asked.after ? 'true' : 'false')} end`;
        case 'startCursor':
          return orNull(cursorAt(page, line(sql`1`)));
        case 'endCursor':
          return orNull(cursorAt(page, line(sql`least(${count}, ${sizeOf(asked)})`)));
        default:
          throw new NotReadable(name);
      }
    });
  }

  private typeNamed(name: string): GraphQLObjectType {
    const type = this.operation.schema.getType(name);
    if (!isObjectType(type)) throw new NotReadable(name);
    return type;
  }

  private namedObject(kind: GraphQLOutputType): GraphQLObjectType {
    return this.typeNamed(getNamedType(kind).name);
  }

  private alias(): string {
    return `t${++this.aliases}`;
  }
}

/** The place of a line on its page, from 1. */
const place = '__place';

const selections = (nodes: Nodes) => nodes.flatMap((node) => node.selectionSet ?? []);

const sizeOf = ({ first }: AskedPage) => (first instanceof Late ? first : sql.lit(first));

const oneMore = (size: AskedPage['first']) =>
  size instanceof Late ? size.map((n) => n + 1) : size + 1;

const rowOf = (alias: string): RowAt => ({ column: (name) => sql.ref(`${alias}.${name}`) });

const cursorAt = (page: PageQuery, row: RowAt): Sql =>
  cursorSql(
    page.order,
    page.keys.map((_, at) => row.column(keyColumn(at))),
  );
